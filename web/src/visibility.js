/**
 * Observes whether the page is visible, and the events after which the known states may be very old: the page is shown
 * again, the network becomes available or unavailable, or the machine has slept.
 */

import { onSleep } from './sleep.js';

/** @import { Environment } from './environment.js' */

/** Milliseconds after which a hidden page does not connect, so that many open tabs cause no load at the gateway. */
const LONG_HIDDEN = 300_000;

export class Visibility {
  #environment;
  #callback;
  /** @type {number | null} */
  #hiddenSince = null;
  /** @type {Array<() => void>} */
  #stops = [];

  /** @param {Environment} environment @param {() => void} callback  not called while the page is hidden */
  constructor(environment, callback) {
    this.#environment = environment;
    this.#callback = callback;
  }

  /** Begins to observe. */
  start() {
    this.stop();
    const wake = () => this.#wake();
    this.#stops = [this.#environment.onWake(wake), onSleep(this.#environment, wake)];
    if (this.#environment.hidden()) this.#hiddenSince = this.#environment.now();
  }

  /** Stops observing. */
  stop() {
    for (const stop of this.#stops.splice(0)) stop();
  }

  /** Whether the page has been hidden for `LONG_HIDDEN`. */
  get hiddenForLong() {
    const { hidden, now } = this.#environment;
    if (!hidden()) this.#hiddenSince = null;
    return this.#hiddenSince !== null && now() - this.#hiddenSince >= LONG_HIDDEN;
  }

  #wake() {
    if (this.#environment.hidden()) {
      this.#hiddenSince ??= this.#environment.now();
      return;
    }
    this.#hiddenSince = null;
    this.#callback();
  }
}
