/**
 * Decides when to reconnect: from the number of failures, and within the window that the gateway
 * has set, so that clients that lost it at the same time do not reconnect at the same time.
 */

import { backoff } from './backoff.js';
import { TOKEN_EXPIRED } from './constants.js';
import { retryWindow } from './protocol.js';

/** @import { Environment } from './environment.js' */
/** @import { RetryWindow } from './protocol.js' */

export class Reconnect {
  #environment;
  #callback;
  #failures = 0;
  /** @type {RetryWindow | null} */
  #window = null;
  /** @type {unknown} */
  #timer = null;

  /** @param {Environment} environment @param {() => void} callback  connects */
  constructor(environment, callback) {
    this.#environment = environment;
    this.#callback = callback;
  }

  /** The gateway set a window. @param {unknown} retry  the `retry` of a frame */
  setWindow(retry) {
    this.#window = retryWindow(retry) ?? this.#window;
  }

  /** Reset the number of failures and the time. */
  reset() {
    this.#failures = 0;
    this.cancel();
  }

  /**
   * Set the time, which counts as a failure until that is reset. A token expires for
   * one client alone: there is no crowd to be spread, so no window.
   * @param {number} [code]  the close code after which we come back
   * @param {boolean} [atOnce]  without a pause
   * @returns {number} when, on the monotonic clock
   */
  schedule(code, atOnce) {
    const { now, random } = this.#environment;
    const wait = atOnce ? 0 : backoff(this.#failures, code === TOKEN_EXPIRED ? null : this.#window, random());
    this.#failures += 1;
    this.cancel();
    this.#timer = this.#environment.setTimeout(this.#callback, wait);
    return now() + wait;
  }

  cancel() {
    this.#environment.clearTimeout(this.#timer);
  }
}
