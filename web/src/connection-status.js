/**
 * The status of a connection, for its observers. Each change makes a new frozen value, so that comparing identity
 * detects changes.
 */

import { callAll } from './listeners.js';

/**
 * @typedef {object} ConnectionStatus
 * @property {'connecting' | 'live' | 'stale' | 'offline'} state
 *   stale: connected, but the gateway itself may be out of date
 * @property {boolean} stopped     offline until `retry` is called or the credentials change
 * @property {number} since        when the connection became live, or ceased to be live; attempts to connect do not
 *                                 change it; on the clock of `performance.now()`
 * @property {'websocket' | 'sse' | 'polling'} transport  the transport in use, or being opened
 * @property {string | null} node  the gateway process of this connection, or of the last one
 * @property {{ code: number, reason: string } | null} ending  how the last connection ended
 * @property {number | null} retryAt   when the client reconnects, if offline; on the same clock
 * @property {number | null} roundTrip milliseconds of the last ping
 * @property {number} skew         the gateway's clock minus that of this machine, seconds
 * @property {number} reconnects   the number of connections that became live after the first
 * @property {number} violations   the number of frames that violated the client's rule, or were malformed
 * @property {string | null} violation  a description of the last violation
 * @property {string | null} error the last error of the gateway or of the token provider
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

  /** Changes some fields, and calls the observers. @param {Partial<ConnectionStatus>} change */
  update(change) {
    const before = this.current;
    const current = { ...before, ...change };
    if ((current.state === 'live') !== (before.state === 'live')) current.since = this.#now();
    this.current = Object.freeze(current);
    callAll([...this.#observers], current);
  }

  /** @param {string} violation */
  countViolation(violation) {
    this.update({ violations: this.current.violations + 1, violation });
  }

  /**
   * Calls the observer now and at each change. An observer that is added twice is called twice.
   * @param {Observer} observer
   * @returns {() => void} removes the observer
   */
  observe(observer) {
    /** @type {Observer} */
    const ownObserver = (current) => observer(current);
    this.#observers.add(ownObserver);
    ownObserver(this.current);
    return () => void this.#observers.delete(ownObserver);
  }
}
