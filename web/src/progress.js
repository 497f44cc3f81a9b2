/**
 * What a component sees of a job: one frozen value with everything it may draw,
 * and a store that tells when it changed. The store is for frameworks (React's
 * `useSyncExternalStore`, Svelte's stores, Vue's `shallowRef`): values are equal
 * by identity while nothing changed, come at most once a frame for all jobs
 * together, and count down by themselves.
 */

import { FINAL } from './protocol.js';
import { connect } from './shared.js';
import { everySecond, soon } from './ticker.js';

/** @import { Connection } from './connection.js' */
/** @import { ConnectionStatus } from './status.js' */
/** @import { Watched } from './jobs.js' */

/**
 * @typedef {object} Progress
 * @property {string} job
 * @property {'unknown' | 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'denied'} status
 *   unknown: nothing was heard yet, or nobody has reported on this job
 * @property {boolean} loading         nothing was heard yet
 * @property {boolean} final           it has ended
 * @property {number | null} percent   0–100, never falling within an attempt; null: it cannot say
 * @property {number | null} done
 * @property {number | null} total
 * @property {string | null} unit
 * @property {number} attempt          from 1
 * @property {string} phase
 * @property {string} message
 * @property {string | null} error     why it failed, or is denied
 * @property {number | null} eta       seconds left, counting down
 * @property {number | null} rate      units of `done` a second; percent, if that is not of the whole job
 * @property {'ok' | 'stalled' | 'lost'} health
 * @property {unknown} data            the application's own
 * @property {boolean} stale           it may be out of date: we are not, or the gateway is not, up to date
 * @property {ConnectionStatus['state']} connection
 */

/** A reconnect that takes no longer than this is not worth a flicker. Milliseconds. */
export const STALE_AFTER = 1_500;

/**
 * @param {string} job
 * @param {Watched | null} watched  null: nothing was heard yet
 * @param {ConnectionStatus} status
 * @param {number} now  milliseconds since 1970, by our clock
 * @param {number} [floor]  the percentage that this attempt has reached already
 * @returns {Progress}
 */
export function progressOf(job, watched, status, now, floor = 0) {
  const state = watched?.state ?? null;
  const final = state !== null && FINAL.has(state.status);
  const running = state?.status === 'running';
  const since = now / 1000 + status.skew - (state?.updated_at ?? 0);
  const eta = running && state.health !== 'stalled' && state.health !== 'lost' ? state.eta : undefined;
  return Object.freeze({
    job,
    status: watched?.denied ? 'denied' : (state?.status ?? 'unknown'),
    loading: watched === null,
    final,
    percent: percentOf(state, floor),
    done: state?.done ?? null,
    total: state?.total ?? null,
    unit: state?.unit ?? null,
    attempt: state?.attempt ?? 1,
    phase: state?.phase ?? '',
    message: state?.message ?? '',
    error: state?.error ?? watched?.denied ?? null,
    eta: eta === undefined ? null : Math.max(Math.ceil(eta - since), 0),
    rate: eta === undefined || state === null ? null : rateOf(state),
    health: state?.health ?? 'ok',
    data: state?.data,
    stale: !final && isStale(status, now),
    connection: status.state,
  });
}

/**
 * @param {import('./protocol.js').State | null} state
 * @param {number} floor  the percentage that this attempt has reached already
 * @returns {number | null}  0–100; null: it cannot say
 */
export function percentOf(state, floor) {
  if (state?.status === 'succeeded') return 100;
  return state?.percent === undefined ? null : Math.max(state.percent, floor);
}

/**
 * The pace behind the gateway's own estimate, so that the two never disagree. That is
 * one of the whole job, and `done` may be of a phase: then only percent tells the pace.
 * @param {import('./protocol.js').State} state
 */
export function rateOf(state) {
  const { done = 0, total = 0, percent, eta } = state;
  if (!eta) return null;
  if (countsAll(state)) return (total - done) / eta;
  return percent === undefined ? null : (100 - percent) / eta;
}

/**
 * Whether `done` of `total` is of the whole job: it is what the percentage says.
 * @param {import('./protocol.js').State} state
 */
export function countsAll({ done, total, percent }) {
  if (done === undefined || !total) return false;
  return percent === undefined || Math.abs(percent - (100 * done) / total) < 0.01; // two decimals
}

/** @param {ConnectionStatus} status @param {number} now */
export function isStale({ state, stopped, since }, now) {
  return stopped || (state !== 'live' && now - since > STALE_AFTER);
}

/**
 * @template T
 * @typedef {object} Store
 * @property {() => T} get
 * @property {(changed: () => void) => () => void} subscribe
 */

/** @type {WeakMap<Connection, Map<string, Store<Progress>>>} */
const stores = new WeakMap();

/**
 * The store of a job. Nothing is watched before somebody subscribes; all who ask
 * for the same job are given the same one.
 *
 * @param {string} job
 * @param {Connection} [connection]
 * @returns {Store<Progress>}
 */
export function jobStore(job, connection = connect()) {
  return stores.get(connection)?.get(job) ?? createStore(job, connection);
}

/**
 * It is among the shared ones while somebody subscribes, so that what is only
 * looked at (a render that React throws away) leaves nothing behind.
 *
 * @param {string} job
 * @param {Connection} connection
 * @returns {Store<Progress>}
 */
function createStore(job, connection) {
  /** @type {Set<() => void>} */
  const subscribers = new Set();
  /** @type {Array<() => void>} */
  let leave = [];
  let watched = connection.peek(job);
  let value = progressOf(job, watched, connection.status(), Date.now());

  function refresh() {
    const before = watched;
    watched = connection.peek(job);
    const floor = continues(before, watched) ? (value.percent ?? 0) : 0;
    const next = progressOf(job, watched, connection.status(), Date.now(), floor);
    if (same(value, next)) return;
    value = next;
    for (const changed of [...subscribers]) changed();
  }
  const refreshSoon = () => soon(refresh);

  /** @type {Store<Progress>} */
  const store = {
    get: () => value,
    subscribe(changed) {
      const own = () => changed();
      subscribers.add(own);
      if (subscribers.size === 1) {
        shared(connection).set(job, store);
        leave = [connection.watch(job, refreshSoon), connection.observe(refreshSoon), everySecond(refresh)];
        refresh();
      }
      return () => {
        if (!subscribers.delete(own) || subscribers.size > 0) return;
        for (const part of leave) part();
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
