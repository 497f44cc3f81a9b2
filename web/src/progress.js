/**
 * The data of a job for a component: one frozen value, and a store that reports changes. The store is for frameworks
 * (React's `useSyncExternalStore`, Svelte's stores, Vue's `shallowRef`). The value is identical while nothing has
 * changed. The values of all jobs change together, at most once per frame. `eta` counts down.
 */

import { isFinal, percentOf, rateOf, timeLeft } from './job-state.js';
import { ON_SERVER, connect } from './settings.js';
import { everySecond, inNextFrame } from './ticker.js';

/** @import { ConnectionStatus } from './connection-status.js' */
/** @import { Connection } from './connection.js' */
/** @import { Watched } from './jobs.js' */

/**
 * @template [Data=unknown]
 * @typedef {object} Progress
 * @property {string} job
 * @property {'unknown' | import('./constants.js').Status | 'denied'} status
 *   unknown: no state was received yet, or the job was never reported
 * @property {boolean} loading         whether nothing is known yet
 * @property {boolean} final           whether the job has ended
 * @property {number | null} percent   0–100, never falling within an attempt; null: unknown
 * @property {number | null} done
 * @property {number | null} total
 * @property {string | null} unit
 * @property {number} attempt          the number of the attempt, from 1
 * @property {string} phase
 * @property {string} message
 * @property {string | null} error     why the job has failed, or is denied
 * @property {number | null} eta       the remaining seconds, counting down; null: unknown, or the estimate was wrong
 * @property {number | null} rate      units of `done` a second; percent a second if `done` does not count the whole job
 * @property {'ok' | 'stalled' | 'lost'} health
 * @property {Data | undefined} data   data of the application
 * @property {boolean} stale           whether the value may be out of date, because this page or the gateway is not up to date
 * @property {ConnectionStatus['state']} connection
 */

/** @typedef {{ stale: boolean, connection: ConnectionStatus['state'] }} Freshness */

/**
 * Returns the data of a job.
 * @param {string} job
 * @param {Watched | null} watched  null: nothing is known yet
 * @param {Freshness} freshness
 * @param {number} now  the gateway's time, Unix seconds
 * @param {number} [floor]  the percentage that this attempt has already reached
 * @returns {Progress<any>}
 */
export function progressOf(job, watched, { stale, connection }, now, floor = 0) {
  const state = watched?.state ?? null;
  const final = isFinal(state);
  const percent = percentOf(state, floor);
  const remaining = timeLeft(state, now, percent);
  return Object.freeze({
    job,
    status: watched?.denied ? 'denied' : (state?.status ?? 'unknown'),
    loading: watched === null,
    final,
    percent,
    done: state?.done ?? null,
    total: state?.total ?? null,
    unit: state?.unit ?? null,
    attempt: state?.attempt ?? 1,
    phase: state?.phase ?? '',
    message: state?.message ?? '',
    error: state?.error ?? watched?.denied ?? null,
    eta: remaining === null ? null : Math.max(Math.ceil(remaining), 0),
    rate: state === null || remaining === null ? null : rateOf(state),
    health: state?.health ?? 'ok',
    data: state?.data,
    stale: stale && !final,
    connection,
  });
}

/**
 * @template T
 * @typedef {object} Store
 * @property {() => T} get
 * @property {(changed: () => void) => () => void} subscribe
 */

/** @type {WeakMap<Connection, Map<string, Store<Progress<any>>>>} */
const stores = new WeakMap();

/**
 * Returns the store of a job. The job is watched only while the store has a subscriber. All callers get the same
 * store for the same job. On a server its value never changes.
 *
 * @template [Data=unknown]
 * @param {string} job
 * @param {Connection} [connection]
 * @returns {Store<Progress<Data>>}
 */
export function jobStore(job, connection = connect()) {
  return stores.get(connection)?.get(job) ?? createStore(job, connection);
}

/**
 * Creates the store of a job. The store is shared only while it has a subscriber, so that a store that is only read
 * (in a render that React discards) is freed.
 *
 * @param {string} job
 * @param {Connection} connection
 * @returns {Store<Progress<any>>}
 */
function createStore(job, connection) {
  /** @type {Set<() => void>} */
  const subscribers = new Set();
  /** @type {Array<() => void>} */
  let stops = [];
  let watched = connection.peek(job);
  let value = read(0);

  /** Returns the current data of the job. @param {number} floor */
  function read(floor) {
    const freshness = { stale: connection.isStale(job), connection: connection.status().state };
    return progressOf(job, watched, freshness, connection.now(), floor);
  }

  /** Updates the value, and calls the subscribers if it has changed. */
  function refresh() {
    const before = watched;
    watched = connection.peek(job);
    const next = read(isSameAttempt(before, watched) ? (value.percent ?? 0) : 0);
    if (isEqual(value, next)) return;
    value = next;
    for (const changed of [...subscribers]) changed();
  }
  const refreshSoon = () => inNextFrame(refresh);

  /** @type {Store<Progress<any>>} */
  const store = {
    get: () => value,
    subscribe(changed) {
      if (ON_SERVER) return () => {};
      const ownSubscriber = () => changed();
      subscribers.add(ownSubscriber);
      if (subscribers.size === 1) {
        storesOf(connection).set(job, store);
        stops = [connection.watch(job, refreshSoon), connection.observe(refreshSoon), everySecond(refresh)];
        refresh();
      }
      return () => {
        if (!subscribers.delete(ownSubscriber) || subscribers.size > 0) return;
        for (const stop of stops) stop();
        if (storesOf(connection).get(job) === store) storesOf(connection).delete(job);
      };
    },
  };
  return store;
}

/** Returns the shared stores of a connection. @param {Connection} connection */
function storesOf(connection) {
  let byJob = stores.get(connection);
  if (byJob === undefined) stores.set(connection, (byJob = new Map()));
  return byJob;
}

/**
 * Returns whether both states belong to the same attempt of the job.
 * @param {Watched | null} a @param {Watched | null} b
 */
export function isSameAttempt(a, b) {
  return (
    a !== null && b !== null && a.epoch === b.epoch &&
    a.state !== null && b.state !== null && a.state.attempt === b.state.attempt
  );
}

/** Returns whether all fields are equal. @param {Progress} a @param {Progress} b */
function isEqual(a, b) {
  const keys = /** @type {Array<keyof Progress>} */ (Object.keys(a));
  return keys.every((key) => Object.is(a[key], b[key]));
}
