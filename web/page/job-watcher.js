/**
 * Detects which jobs begin and end, with two sets for each prefix that this page may see: the active jobs, and
 * those that have ended. A job that begins becomes the first of one set, and a job that ends the first of the
 * other, regardless of their sizes. All jobs in the sets are watched, which needs no further subscription
 * (`src/sets.js`).
 */

import { setStore } from '../src/sets.js';
import { MAX_SETS, MAX_SET_LIMIT } from './constants.js';

/** @import { Connection } from '../src/connection.js' */
/** @import { Status } from '../src/constants.js' */
/** @import { Listener } from '../src/jobs.js' */

/** The statuses of the two sets of a prefix. @type {Status[][]} */
const STATUS_GROUPS = [['queued', 'running'], ['succeeded', 'failed', 'cancelled']];
/** The maximum number of prefixes. */
const MAX_PREFIXES = MAX_SETS / STATUS_GROUPS.length;

export class JobWatcher {
  #connection;
  #onState;
  /**
   * The sets by status group and prefix: the jobs in a set, and the function that stops watching it.
   * @type {Map<string, { jobs: readonly string[], unsubscribe: () => void }>}
   */
  #sets = new Map();
  /** The functions that stop watching the jobs. @type {Map<string, () => void>} */
  #stops = new Map();

  /** @param {Connection} connection @param {Listener} onState  called with each state of a job in a set */
  constructor(connection, onState) {
    this.#connection = connection;
    this.#onState = onState;
  }

  /** Watches these prefixes, and no others. @param {string[]} prefixes */
  watch(prefixes) {
    const wantedSetKeys = new Set(prefixes.slice(-MAX_PREFIXES).flatMap((prefix) => STATUS_GROUPS.map((_, group) => `${group}${prefix}`)));
    for (const [key, { unsubscribe }] of this.#sets) {
      if (wantedSetKeys.has(key)) continue;
      unsubscribe();
      this.#sets.delete(key);
    }
    for (const key of wantedSetKeys) if (!this.#sets.has(key)) this.#watchSet(key);
    this.#watchJobsInSets();
  }

  /** Watches one set. @param {string} key  the index of the status group, and the prefix */
  #watchSet(key) {
    const store = setStore({ prefix: key.slice(1), statuses: STATUS_GROUPS[Number(key[0])], limit: MAX_SET_LIMIT }, this.#connection);
    /** @type {{ jobs: readonly string[], unsubscribe: () => void }} */
    const set = { jobs: [], unsubscribe: () => {} };
    this.#sets.set(key, set);
    set.unsubscribe = store.subscribe(() => {
      set.jobs = store.get().jobs;
      this.#watchJobsInSets();
    });
  }

  /** Watches all jobs in the sets, and no others. */
  #watchJobsInSets() {
    const inSets = new Set([...this.#sets.values()].flatMap(({ jobs }) => jobs));
    for (const [job, stop] of this.#stops) {
      if (inSets.has(job)) continue;
      stop();
      this.#stops.delete(job);
    }
    for (const job of inSets) {
      if (!this.#stops.has(job)) this.#stops.set(job, this.#connection.watch(job, this.#onState));
    }
  }
}
