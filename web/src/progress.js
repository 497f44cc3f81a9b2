/**
 * The data of a job for a component: one frozen value with everything that it can draw,
 * and a store that reports changes. The store is for frameworks (React's
 * `useSyncExternalStore`, Svelte's stores, Vue's `shallowRef`). Values are identical while nothing
 * has changed, change at most once per frame for all jobs together, and the `eta` counts down.
 */

import { ON_SERVER, connect } from './settings.js';
import { isFinal, percentOf, rateOf, timeLeft } from './state.js';
import { everySecond, inNextFrame } from './ticker.js';

/** @import { Connection } from './connection.js' */
/** @import { ConnectionStatus } from './status.js' */
/** @import { Watched } from './jobs.js' */

/**
 * @template [Data=unknown]
 * @typedef {object} Progress
 * @property {string} job
 * @property {'unknown' | import('./constants.js').Status | 'denied'} status
 *   unknown: no state was received yet, or the job was never reported
 * @property {boolean} loading         nothing is known yet
 * @property {boolean} final           it has ended
 * @property {number | null} percent   0–100, never falling within an attempt; null: it cannot say
 * @property {number | null} done
 * @property {number | null} total
 * @property {string | null} unit
 * @property {number} attempt          from 1
 * @property {string} phase
 * @property {string} message
 * @property {string | null} error     why it failed, or is denied
 * @property {number | null} eta       seconds left, counting down; null: not known, or the estimate was wrong
 * @property {number | null} rate      units of `done` a second; percent, if that is not of the whole job
 * @property {'ok' | 'stalled' | 'lost'} health
 * @property {Data | undefined} data   the application's own
 * @property {boolean} stale           it may be out of date: we are not, or the gateway is not, up to date
 * @property {ConnectionStatus['state']} connection
 */

/** @typedef {{ stale: boolean, connection: ConnectionStatus['state'] }} Freshness */

/**
 * @param {string} job
 * @param {Watched | null} watched  null: nothing is known yet
 * @param {Freshness} freshness
 * @param {number} now  the gateway's time, Unix seconds
 * @param {number} [floor]  the percentage that this attempt has reached already
 * @returns {Progress<any>}
 */
export function progressOf(job, watched, { stale, connection }, now, floor = 0) {
  const state = watched?.state ?? null;
  const final = isFinal(state);
  const percent = percentOf(state, floor);
  const left = timeLeft(state, now, percent);
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
    eta: left === null ? null : Math.max(Math.ceil(left), 0),
    rate: state === null || left === null ? null : rateOf(state),
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
 * The store of a job. The job is watched only while there is a subscriber. All callers get the same
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
 * It is shared while it has a subscriber, so that a store which is only read (in a render that React
 * discards) leaves nothing behind.
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

  /** @param {number} floor */
  function read(floor) {
    const freshness = { stale: connection.isStale(job), connection: connection.status().state };
    return progressOf(job, watched, freshness, connection.now(), floor);
  }

  function refresh() {
    const before = watched;
    watched = connection.peek(job);
    const next = read(continues(before, watched) ? (value.percent ?? 0) : 0);
    if (same(value, next)) return;
    value = next;
    for (const changed of [...subscribers]) changed();
  }
  const refreshSoon = () => inNextFrame(refresh);

  /** @type {Store<Progress<any>>} */
  const store = {
    get: () => value,
    subscribe(changed) {
      if (ON_SERVER) return () => {};
      const own = () => changed();
      subscribers.add(own);
      if (subscribers.size === 1) {
        shared(connection).set(job, store);
        stops = [connection.watch(job, refreshSoon), connection.observe(refreshSoon), everySecond(refresh)];
        refresh();
      }
      return () => {
        if (!subscribers.delete(own) || subscribers.size > 0) return;
        for (const stop of stops) stop();
        if (shared(connection).get(job) === store) shared(connection).delete(job);
      };
    },
  };
  return store;
}

/** @param {Connection} connection */
function shared(connection) {
  let ofConnection = stores.get(connection);
  if (ofConnection === undefined) stores.set(connection, (ofConnection = new Map()));
  return ofConnection;
}

/**
 * Whether both are the same attempt of the same job.
 * @param {Watched | null} a @param {Watched | null} b
 */
export function continues(a, b) {
  return (
    a !== null && b !== null && a.epoch === b.epoch &&
    a.state !== null && b.state !== null && a.state.attempt === b.state.attempt
  );
}

/** @param {Progress} a @param {Progress} b */
function same(a, b) {
  const keys = /** @type {Array<keyof Progress>} */ (Object.keys(a));
  return keys.every((key) => Object.is(a[key], b[key]));
}
