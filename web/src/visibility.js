/**
 * Whether the page is visible, and the events after which known states may be very old: the page is
 * shown again, the network comes or goes, or the machine slept.
 */

import { onSleep } from './sleep.js';

/** @import { Environment } from './environment.js' */

/** A page that is hidden for longer does not connect, so that many open tabs do not load the gateway. */
const LONG = 300_000;

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

  start() {
    this.stop();
    const wake = () => this.#wake();
    this.#stops = [this.#environment.onWake(wake), onSleep(this.#environment, wake)];
    if (this.#environment.hidden()) this.#hiddenSince = this.#environment.now();
  }

  stop() {
    for (const stop of this.#stops.splice(0)) stop();
  }

  /** Whether the page was hidden for long. */
  get hiddenForLong() {
    const { hidden, now } = this.#environment;
    if (!hidden()) this.#hiddenSince = null;
    return this.#hiddenSince !== null && now() - this.#hiddenSince >= LONG;
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
