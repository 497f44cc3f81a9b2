/**
 * Detects which jobs begin and end, with two sets for each prefix that this page may see: the
 * active jobs, and those that have ended. A job that begins becomes the first of one set, and a job
 * that ends the first of the other, regardless of their sizes. All jobs in the sets are watched,
 * which costs nothing (`src/sets.js`).
 */

import { setStore } from '../src/sets.js';

/** @import { Connection } from '../src/connection.js' */
/** @import { Status } from '../src/constants.js' */
/** @import { Listener } from '../src/jobs.js' */

/** @type {Status[][]} */
const PARTS = [['queued', 'running'], ['succeeded', 'failed', 'cancelled']];
/** The maximum number of jobs that a set shows. */
const SHOWN = 200;
/** A gateway allows ten sets for each connection. */
const PREFIXES = 5;

export class LiveJobs {
  #connection;
  #onState;
  /**
   * The sets by prefix and part: the jobs that they show, and a function to stop. @type
   * {Map<string, { jobs: readonly string[], stop: () => void }>}
   */
  #sets = new Map();
  /** The function to stop watching each job. @type {Map<string, () => void>} */
  #watched = new Map();

  /** @param {Connection} connection @param {Listener} onState  called with each state of a job that is shown */
  constructor(connection, onState) {
    this.#connection = connection;
    this.#onState = onState;
  }

  /** Watch these prefixes, and no others. @param {string[]} prefixes */
  watch(prefixes) {
    const wanted = new Set(prefixes.slice(-PREFIXES).flatMap((prefix) => PARTS.map((_, part) => `${part}${prefix}`)));
    for (const [key, { stop }] of this.#sets) {
      if (wanted.has(key)) continue;
      stop();
      this.#sets.delete(key);
    }
    for (const key of wanted) if (!this.#sets.has(key)) this.#watch(key);
    this.#watchShown();
  }

  /** @param {string} key */
  #watch(key) {
    const store = setStore({ prefix: key.slice(1), statuses: PARTS[Number(key[0])], limit: SHOWN }, this.#connection);
    /** @type {{ jobs: readonly string[], stop: () => void }} */
    const set = { jobs: [], stop: () => {} };
    this.#sets.set(key, set);
    set.stop = store.subscribe(() => {
      set.jobs = store.get().jobs;
      this.#watchShown();
    });
  }

  #watchShown() {
    const shown = new Set([...this.#sets.values()].flatMap(({ jobs }) => jobs));
    for (const [job, stop] of this.#watched) {
      if (shown.has(job)) continue;
      stop();
      this.#watched.delete(job);
    }
    for (const job of shown) {
      if (!this.#watched.has(job)) this.#watched.set(job, this.#connection.watch(job, this.#onState));
    }
  }
}
