/**
 * What those who look at the connection see of it: a frozen picture, and a new one
 * for each change, so that identity tells whether anything changed.
 */

import { report } from './jobs.js';

/**
 * @typedef {object} ConnectionStatus
 * @property {'connecting' | 'live' | 'stale' | 'offline'} state
 *   stale: connected, but the gateway itself may be behind
 * @property {boolean} stopped     offline for good, or until `retry` is called
 * @property {number} since        since when it is live, or since when it is not, however often
 *                                 it has dialled meanwhile; milliseconds since 1970
 * @property {'websocket' | 'sse' | 'polling'} transport  what carries it, or is dialled
 * @property {string | null} node  the gateway process we talk to, or last talked to
 * @property {{ code: number, reason: string } | null} ending  of the last line that was lost
 * @property {number | null} retryAt   when it dials again by itself, if offline
 * @property {number | null} roundTrip milliseconds of the last ping
 * @property {number} skew         the gateway's clock minus ours, seconds
 * @property {number} reconnects   lines that became live after the first
 * @property {number} violations   frames that broke the client's rule, or were no frames
 * @property {string | null} violation  the last of them
 * @property {string | null} error the last `error` frame
 */

/** @typedef {(status: ConnectionStatus) => void} Observer */

export class Status {
  /** @type {Set<Observer>} */
  #observers = new Set();
  #now;
  /** @type {ConnectionStatus} */
  picture;

  /** @param {() => number} now  milliseconds since 1970 */
  constructor(now) {
    this.#now = now;
    this.picture = Object.freeze({
      state: 'connecting',
      stopped: false,
      since: now(),
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
  }

  /** @param {Partial<ConnectionStatus>} change */
  become(change) {
    const before = this.picture;
    const turned = ((change.state ?? before.state) === 'live') !== (before.state === 'live');
    const picture = Object.freeze({ ...before, ...(turned && { since: this.#now() }), ...change });
    this.picture = picture;
    for (const observer of [...this.#observers]) {
      try {
        observer(picture);
      } catch (error) {
        report(error);
      }
    }
  }

  /** @param {string} what */
  violated(what) {
    this.become({ violations: this.picture.violations + 1, violation: what });
  }

  /**
   * Hear of it, now and at each change. An observer is counted each time it is given.
   * @param {Observer} observer
   * @returns {() => void} ends it
   */
  observe(observer) {
    /** @type {Observer} */
    const own = (picture) => observer(picture);
    this.#observers.add(own);
    own(this.picture);
    return () => void this.#observers.delete(own);
  }
}
