/**
 * Sets: the jobs whose ids begin with a prefix, including those that do not exist yet. The core does
 * not import this module, because most pages watch jobs by name. `setsOf` attaches it to a connection when the first
 * set is watched.
 *
 *     import { watchSet } from 'progress-gateway/sets';
 *
 *     const unwatch = watchSet({ prefix: 'user:7:', statuses: ['running'] }, ({ jobs, total }) => …);
 *
 * The gateway sends the states of the jobs in a set without a subscription, so `watchJob` of one of them needs no
 * further subscription.
 */

import { STATUSES } from './constants.js';
import { endListener } from './end-listener.js';
import { isFinal } from './job-state.js';
import { callAll } from './listeners.js';
import { connect } from './settings.js';

/** @import { Connection } from './connection.js' */
/** @import { Status } from './constants.js' */
/** @import { End } from './end-listener.js' */
/** @import { Listener } from './jobs.js' */
/** @import { Transport } from './open-transport.js' */
/** @import { Frame, SetFrame } from './protocol.js' */
/** @import { SubscriptionSync } from './sync.js' */

/**
 * @typedef {object} SetQuery
 * @property {string} prefix                 the beginning of the jobs' ids; '' for all jobs
 * @property {readonly Status[] | undefined} [statuses]  only jobs with these statuses; by default all
 * @property {number | undefined} [limit]    the maximum number of ids: 50, or up to 200
 */

/**
 * @typedef {object} JobSet
 * @property {readonly string[]} jobs   the ids: active jobs by start, then ended ones by end, newest first
 * @property {number} total             the number of jobs, also of those beyond `limit`
 * @property {Readonly<Record<Status, number>>} counts  the number of jobs with the prefix in each status, regardless of `statuses`
 * @property {boolean} more             whether there are others, which are not among the 10,000 jobs that were updated last
 * @property {boolean} loading          whether nothing was received yet
 * @property {string | null} denied     the gateway's reason if it refuses to show the set
 */

/** @typedef {(set: JobSet) => void} SetListener */
/** @typedef {(end: End<any>) => void} EndListener */

/** The content of a set before the first frame. @type {JobSet} */
export const LOADING = Object.freeze({
  jobs: Object.freeze([]),
  total: 0,
  counts: Object.freeze(/** @type {Record<Status, number>} */ (Object.fromEntries(STATUSES.map((status) => [status, 0])))),
  more: false,
  loading: true,
  denied: null,
});

/** Milliseconds until a set that was denied for lack of quota is requested again; the pause is random, up to twice that. */
const RETRY_AFTER = 5_000;

/** The code of a set that was denied because the connection watches too many. */
const TOO_MANY = 'too_many_sets';

/** Milliseconds for which a job that has left the set is still watched: longer than a frame. */
const KEPT_FOR = 100;

/**
 * @typedef {object} Entry
 * @property {string} id
 * @property {SetQuery} query
 * @property {Set<SetListener>} listeners
 * @property {Set<EndListener>} onEnds
 * @property {JobSet} value
 * @property {{ epoch: number, seq: number } | null} position  null: only a snapshot can follow
 * @property {Map<string, WatchedJob>} watchedJobs
 * @property {number} removals  the number of sets that had been removed when it was requested last
 */

/**
 * A job that is in the set, or was in it and has not ended. `removed`: it is no longer in the set. `subscribed`: it is
 * subscribed by its name then, because the gateway does not send its end.
 * @typedef {{ listener: Listener, removed: boolean, ended: boolean, subscribed: boolean }} WatchedJob
 */

/**
 * Calls the listener with the content of a set: immediately if it is known, and at every change,
 * until the returned function is called.
 *
 * @param {SetQuery} query
 * @param {SetListener} listener
 * @param {{ gateway?: string | URL | undefined, onEnd?: EndListener | undefined }} [options]
 *   `onEnd` is called when an attempt of a job in the set ends; not for attempts that had ended before they were
 *   in the set
 * @returns {() => void} stops watching; further calls do nothing
 */
export function watchSet(query, listener, { gateway, onEnd } = {}) {
  return setsOf(connect(gateway)).watch(query, listener, onEnd);
}

/**
 * Returns a set as a store, for frameworks. Its value is identical while nothing changes.
 *
 * @param {SetQuery} query
 * @param {Connection} [connection]
 */
export function setStore(query, connection = connect()) {
  const sets = setsOf(connection);
  return {
    get: () => sets.peek(query),
    /** @param {() => void} changed @param {EndListener} [onEnd] */
    subscribe: (changed, onEnd) => sets.watch(query, changed, onEnd),
  };
}

/** Returns the sets of a connection. @param {Connection} connection */
function setsOf({ sync }) {
  if (sync.sets instanceof Sets) return sync.sets;
  const sets = new Sets(sync);
  sync.sets = sets;
  return sets;
}

/** The sets that are watched over one connection. */
class Sets {
  #sync;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  #lastId = 0;
  /** The number of sets that were removed. */
  #removals = 0;

  /** @param {SubscriptionSync} sync */
  constructor(sync) {
    this.#sync = sync;
  }

  /** Returns the known content of a set. @param {SetQuery} query */
  peek(query) {
    return this.#entries.get(keyOf(query))?.value ?? LOADING;
  }

  /** Adds a listener to a set. Returns a function that removes it. @param {SetQuery} query @param {SetListener} listener @param {EndListener} [onEnd] */
  watch(query, listener, onEnd) {
    const key = keyOf(query);
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = { id: `set${++this.#lastId}`, query, listeners: new Set(), onEnds: new Set(), value: LOADING, position: null, watchedJobs: new Map(), removals: 0 };
      this.#entries.set(key, entry);
      this.#subscribe(entry);
    }
    const { listeners, onEnds, value } = entry;
    /** @type {SetListener} */
    const ownListener = (set) => listener(set);
    /** @type {EndListener} */
    const ownEndListener = (end) => onEnd?.(end);
    listeners.add(ownListener);
    onEnds.add(ownEndListener);
    if (!value.loading) ownListener(value);
    return () => {
      onEnds.delete(ownEndListener);
      if (!listeners.delete(ownListener) || listeners.size > 0) return;
      // A component that is mounted again at once (StrictMode) keeps the set.
      this.#sync.environment.queueMicrotask(() => this.#remove(key));
    };
  }

  // -- the methods of `SetsHook`

  /** @param {Transport} transport */
  begin(transport) {
    for (const entry of this.#entries.values()) {
      entry.position = null;
      this.#subscribe(entry, transport);
    }
  }

  /** @param {Frame} frame */
  handle(frame) {
    if (frame.type !== 'set' && frame.type !== 'error') return;
    const entry = [...this.#entries.values()].find(({ id }) => id === frame.id);
    if (entry === undefined) return;
    if (frame.type === 'set') return this.#apply(entry, frame);
    if (/_full$/.test(frame.code)) {
      const { environment } = this.#sync;
      const retry = () => this.#entries.get(keyOf(entry.query)) === entry && this.#subscribe(entry);
      environment.setTimeout(retry, RETRY_AFTER * (1 + environment.random()));
    }
    if (frame.code === TOO_MANY && entry.removals < this.#removals) return this.#subscribe(entry); // there is room now
    notify(entry, { ...LOADING, loading: false, denied: frame.code });
  }

  clear() {
    for (const entry of this.#entries.values()) {
      for (const job of [...entry.watchedJobs.keys()]) this.#unwatchJob(entry, job);
      entry.position = null;
      notify(entry, LOADING);
    }
  }

  /** Requests a set from the gateway. @param {Entry} entry @param {Transport | null} [transport] */
  #subscribe(entry, transport = this.#sync.transport) {
    const { id, query } = entry;
    const { prefix, statuses, limit } = query;
    entry.removals = this.#removals;
    transport?.send({ type: 'watch_set', id, prefix, ...(statuses && { statuses: [...statuses] }), ...(limit !== undefined && { limit }) });
  }

  /** Removes a set that has no listener. @param {string} key */
  #remove(key) {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.listeners.size > 0) return;
    this.#entries.delete(key);
    for (const job of [...entry.watchedJobs.keys()]) this.#unwatchJob(entry, job);
    this.#sync.transport?.send({ type: 'unwatch_set', id: entry.id });
    this.#removals += 1;
    for (const other of this.#entries.values()) if (other.value.denied === TOO_MANY) this.#subscribe(other);
    this.#sync.schedule();
  }

  /** Applies a frame. @param {Entry} entry @param {SetFrame} frame */
  #apply(entry, { epoch, prev, seq, snapshot = false, jobs, total, counts, more = false }) {
    const { position, watchedJobs } = entry;
    if (!snapshot && (position?.epoch !== epoch || position.seq !== prev)) {
      entry.position = null;
      return this.#subscribe(entry); // which brings a snapshot
    }
    entry.position = { epoch, seq };
    const inSet = new Set(jobs);
    for (const job of jobs) {
      const existing = watchedJobs.get(job);
      if (existing === undefined) this.#watchJob(entry, job);
      else if (existing.removed || snapshot) {
        existing.removed = existing.subscribed = false;
        this.#sync.jobs.setInSet(job, Infinity);
      }
    }
    for (const [job, watchedJob] of watchedJobs) {
      if (inSet.has(job)) continue;
      const isNew = !watchedJob.removed;
      watchedJob.removed = true;
      if (watchedJob.ended) this.#unwatchJobSoon(entry, job);
      else if (isNew || snapshot) {
        // After a snapshot the gateway does not send a job that is no longer in the set, so it is subscribed by its name.
        watchedJob.subscribed = snapshot;
        this.#updateJob(job);
      }
    }
    this.#sync.schedule();
    notify(entry, { jobs: Object.freeze(jobs), total, counts: Object.freeze(counts), more, loading: false, denied: null });
  }

  /** Watches a job that is in the set. @param {Entry} entry @param {string} job */
  #watchJob(entry, job) {
    const { jobs } = this.#sync;
    const onEnded = endListener((end) => {
      if (!end.alreadyOver) for (const onEnd of [...entry.onEnds]) onEnd(end);
    });
    /** @type {WatchedJob} */
    const watchedJob = {
      removed: false,
      ended: false,
      subscribed: false,
      listener: (watched) => {
        const { state } = watched;
        watchedJob.ended = state === null || isFinal(state);
        onEnded(watched);
        if (watchedJob.removed && watchedJob.ended) this.#unwatchJobSoon(entry, job);
      },
    };
    entry.watchedJobs.set(job, watchedJob);
    jobs.add(job, watchedJob.listener);
    const knownState = jobs.peek(job);
    if (knownState !== null) watchedJob.listener(knownState);
    jobs.setInSet(job, Infinity);
  }

  /** Updates for which listeners of a job the sets are enough, if no set shows it any more. @param {string} job */
  #updateJob(job) {
    const watchedJobs = [...this.#entries.values()].flatMap((entry) => entry.watchedJobs.get(job) ?? []);
    if (watchedJobs.some(({ removed }) => !removed)) return;
    this.#sync.jobs.setInSet(job, watchedJobs.some(({ subscribed }) => subscribed) ? 0 : watchedJobs.length);
  }

  /**
   * Stops watching a job that has left the set and has ended, unless it returns. Its bar is removed in the next
   * frame; until then the job would be subscribed by its name.
   * @param {Entry} entry @param {string} job
   */
  #unwatchJobSoon(entry, job) {
    this.#sync.environment.setTimeout(() => {
      const watchedJob = entry.watchedJobs.get(job);
      if (watchedJob?.removed && watchedJob.ended) this.#unwatchJob(entry, job);
    }, KEPT_FOR);
  }

  /** Stops watching a job. @param {Entry} entry @param {string} job */
  #unwatchJob({ watchedJobs }, job) {
    const { jobs } = this.#sync;
    const watchedJob = watchedJobs.get(job);
    if (watchedJob === undefined) return;
    watchedJobs.delete(job);
    jobs.remove(job, watchedJob.listener);
    this.#updateJob(job);
    this.#sync.schedule();
  }
}

/** Returns the same text for equal queries. @param {SetQuery} query */
function keyOf({ prefix, statuses, limit }) {
  return JSON.stringify([prefix, statuses && [...statuses].sort(), limit]);
}

/** Changes the content of a set, and calls the listeners. @param {Entry} entry @param {JobSet} value */
function notify(entry, value) {
  if (value === entry.value) return;
  entry.value = Object.freeze(value);
  callAll([...entry.listeners], entry.value);
}
