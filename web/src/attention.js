/**
 * Whether anybody looks at the page, and the moments after which what we believe may
 * be long wrong: it is shown again, the network comes or goes, the machine slept.
 */

import { onSleep } from './sleep.js';

/** @import { Environment } from './environment.js' */

/** Hidden for longer, a page does not dial: a hundred forgotten tabs must not keep a gateway busy. */
const FORGOTTEN_AFTER = 300_000;

export class Attention {
  #environment;
  #callback;
  /** @type {number | null} */
  #hiddenSince = null;
  /** @type {Array<() => void>} */
  #stops = [];

  /** @param {Environment} environment @param {() => void} callback  not while the page is hidden */
  constructor(environment, callback) {
    this.#environment = environment;
    this.#callback = callback;
    this.start();
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

  /** Whether nobody has looked for long. */
  get forgotten() {
    const { hidden, now } = this.#environment;
    if (!hidden()) this.#hiddenSince = null;
    return this.#hiddenSince !== null && now() - this.#hiddenSince >= FORGOTTEN_AFTER;
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
