/**
 * Limits the number of requests that are open at the same time. A browser opens at most six connections to a host,
 * for all tabs together. So that another tab can still load, all tabs together hold at most four requests open, each
 * with a Web Lock. A tab that gets no lock polls instead, and a hidden page holds none.
 */

/** @import { Environment } from './environment.js' */

const LOCK_PREFIX = 'progress-gateway';

export class RequestLocks {
  /** The number of locks. */
  static MAX = 4;

  #environment;
  /** @type {LockManager | undefined} */
  #locks;
  /** The held locks, by number, with the function that releases each. @type {Map<number, () => void>} */
  #held = new Map();
  /** The number of `release` calls so far. A lock that is granted after such a call is no longer wanted. */
  #releases = 0;

  /** @param {Environment & { locks?: LockManager }} environment */
  constructor(environment) {
    this.#environment = environment;
    this.#locks = 'locks' in environment ? environment.locks : globalThis.navigator?.locks;
  }

  /**
   * Acquires free locks, up to `wanted` in total. They are held until `release`.
   * @param {number} wanted
   * @returns {Promise<number>} how many requests may be open
   */
  async acquire(wanted) {
    if (this.#environment.hidden()) return 0;
    if (this.#locks === undefined) return Math.min(wanted, RequestLocks.MAX); // not a secure context
    for (let number = 0; number < RequestLocks.MAX && this.#held.size < wanted; number++) {
      if (!this.#held.has(number)) await this.#acquire(this.#locks, number);
    }
    return Math.min(wanted, this.#held.size);
  }

  /** Acquires one more lock. Returns whether one was free. */
  async acquireAnother() {
    const before = this.#held.size;
    return this.#locks !== undefined && (await this.acquire(before + 1)) > before;
  }

  /** Releases all locks. */
  release() {
    this.#releases += 1;
    for (const release of this.#held.values()) release();
    this.#held.clear();
  }

  /** Acquires the lock with this number if it is free. @param {LockManager} locks @param {number} number */
  #acquire(locks, number) {
    const releases = this.#releases;
    return new Promise((resolve) => {
      locks
        .request(`${LOCK_PREFIX} ${number}`, { ifAvailable: true }, (lock) => {
          const held = lock && releases === this.#releases && new Promise((release) => this.#held.set(number, () => release(undefined)));
          resolve(null);
          return held;
        })
        .catch(() => resolve(null));
    });
  }
}
