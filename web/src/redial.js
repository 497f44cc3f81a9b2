/**
 * When to dial again: by the failures so far, and in the window that the gateway
 * set for its clients, so that those who lost it together do not come back together.
 */

import { backoff } from './backoff.js';
import { TOKEN_EXPIRED, retryWindow } from './protocol.js';

/** @import { Environment } from './environment.js' */
/** @import { RetryWindow } from './protocol.js' */

export class Redial {
  #environment;
  #callback;
  #failures = 0;
  /** @type {RetryWindow | null} */
  #window = null;
  /** @type {unknown} */
  #timer = null;

  /** @param {Environment} environment @param {() => void} callback  dials */
  constructor(environment, callback) {
    this.#environment = environment;
    this.#callback = callback;
  }

  /** The gateway set a window. @param {unknown} retry  the `retry` of a frame */
  keepTo(retry) {
    this.#window = retryWindow(retry) ?? this.#window;
  }

  /** Count failures anew. */
  forgive() {
    this.#failures = 0;
  }

  /**
   * Set the time, which counts as a failure until it is forgiven. The end of a token
   * is one client's alone: there is no crowd to be spread, so no window.
   * @param {number} [code]  of the ending after which we come back
   * @returns {number} when, milliseconds since 1970
   */
  later(code) {
    const { now, random } = this.#environment;
    const wait = backoff(this.#failures, code === TOKEN_EXPIRED ? null : this.#window, random());
    this.#failures += 1;
    this.cancel();
    this.#timer = this.#environment.setTimeout(this.#callback, wait);
    return now() + wait;
  }

  cancel() {
    this.#environment.clearTimeout(this.#timer);
  }
}
