/**
 * The status of a connection, for its observers: a new frozen value for each change, so that
 * comparing identity detects changes.
 */

import { callAll } from './listeners.js';

/**
 * @typedef {object} ConnectionStatus
 * @property {'connecting' | 'live' | 'stale' | 'offline'} state
 *   stale: connected, but the gateway itself may be behind
 * @property {boolean} stopped     offline for good, or until `retry` is called
 * @property {number} since        since when it is live, or since when it is not, however often
 *                                 it has tried meanwhile; on the clock of `performance.now()`
 * @property {'websocket' | 'sse' | 'polling'} transport  the one in use, or being tried
 * @property {string | null} node  the gateway process we talk to, or last talked to
 * @property {{ code: number, reason: string } | null} ending  how the last connection ended
 * @property {number | null} retryAt   when it connects again by itself, if offline; on the same clock
 * @property {number | null} roundTrip milliseconds of the last ping
 * @property {number} skew         the gateway's clock minus ours, seconds
 * @property {number} reconnects   connections that became live after the first
 * @property {number} violations   frames that broke the client's rule, or were no frames
 * @property {string | null} violation  the last of them
 * @property {string | null} error the last error that the gateway or the token provider gave
 */

/** @typedef {(status: ConnectionStatus) => void} Observer */

/** The status before the first connection. @type {ConnectionStatus} */
export const INITIAL = Object.freeze({
  state: 'connecting',
  stopped: false,
  since: 0,
  transport: 'websocket',
  node: null,
  ending: null,
  retryAt: null,
  roundTrip: null,
  skew: 0,
  reconnects: 0,
  violations: 0,
  violation: null,
  error: null,
});

export class Status {
  /** @type {Set<Observer>} */
  #observers = new Set();
  #now;
  /** @type {ConnectionStatus} */
  current;

  /** @param {() => number} now  monotonic milliseconds */
  constructor(now) {
    this.#now = now;
    this.current = Object.freeze({ ...INITIAL, since: now() });
  }

  /** @param {Partial<ConnectionStatus>} change */
  update(change) {
    const before = this.current;
    const current = { ...before, ...change };
    if ((current.state === 'live') !== (before.state === 'live')) current.since = this.#now();
    this.current = Object.freeze(current);
    callAll([...this.#observers], current);
  }

  /** @param {string} what */
  countViolation(what) {
    this.update({ violations: this.current.violations + 1, violation: what });
  }

  /**
   * Call the observer now and at each change. An observer that is given twice is called twice.
   * @param {Observer} observer
   * @returns {() => void} ends it
   */
  observe(observer) {
    /** @type {Observer} */
    const own = (current) => observer(current);
    this.#observers.add(own);
    own(this.current);
    return () => void this.#observers.delete(own);
  }
}
