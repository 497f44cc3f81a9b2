/**
 * The requests that may be open at the same time. A browser opens at most six connections to a host
 * for all tabs together. So that another tab can still load, all tabs share four of them, with Web
 * Locks. A tab that gets none polls instead, and a hidden page uses none.
 */

/** @import { Environment } from './environment.js' */

const NAME = 'progress-gateway';

export class Lanes {
  static MOST = 4;

  #environment;
  /** @type {LockManager | undefined} */
  #locks;
  /** The held locks, by number, with the function that releases each. @type {Map<number, () => void>} */
  #held = new Map();
  /** How often all were released: a lock that arrives after that is not wanted any more. */
  #released = 0;

  /** @param {Environment & { locks?: LockManager }} environment */
  constructor(environment) {
    this.#environment = environment;
    this.#locks = 'locks' in environment ? environment.locks : globalThis.navigator?.locks;
  }

  /**
   * Acquire as many as are free, up to `wanted` in total. They are kept until `release`.
   * @param {number} wanted
   * @returns {Promise<number>} how many of them may be used
   */
  async acquire(wanted) {
    if (this.#environment.hidden()) return 0;
    if (this.#locks === undefined) return Math.min(wanted, Lanes.MOST); // not a secure context
    for (let number = 0; number < Lanes.MOST && this.#held.size < wanted; number++) {
      if (!this.#held.has(number)) await this.#acquire(this.#locks, number);
    }
    return Math.min(wanted, this.#held.size);
  }

  /** Acquire one more if it is free, and return whether there was one. */
  async available() {
    const before = this.#held.size;
    return this.#locks !== undefined && (await this.acquire(before + 1)) > before;
  }

  release() {
    this.#released += 1;
    for (const release of this.#held.values()) release();
    this.#held.clear();
  }

  /** @param {LockManager} locks @param {number} number */
  #acquire(locks, number) {
    const released = this.#released;
    return new Promise((answered) => {
      locks
        .request(`${NAME} ${number}`, { ifAvailable: true }, (lock) => {
          const held = lock && released === this.#released && new Promise((release) => this.#held.set(number, () => release(undefined)));
          answered(null);
          return held;
        })
        .catch(() => answered(null));
    });
  }
}
