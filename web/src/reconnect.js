/**
 * Schedules reconnects, by the number of failures, and within the window that the gateway has set, so that clients
 * that lost the gateway at the same time do not reconnect at the same time.
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

  /** @param {Environment} environment @param {() => void} callback  called when it is time to connect */
  constructor(environment, callback) {
    this.#environment = environment;
    this.#callback = callback;
  }

  /** Stores the window that a frame sets. @param {unknown} retry  the `retry` of a frame */
  setWindow(retry) {
    this.#window = retryWindow(retry) ?? this.#window;
  }

  /** Resets the number of failures, and cancels the reconnect. */
  reset() {
    this.#failures = 0;
    this.cancel();
  }

  /**
   * Schedules a reconnect. It counts as a failure until `reset`. After an expired token the window is not used,
   * because a token expires for one client only.
   * @param {number} [code]  the close code that ended the connection
   * @param {boolean} [immediately]  without a pause
   * @returns {number} the time of the reconnect, on the monotonic clock
   */
  schedule(code, immediately) {
    const { now, random } = this.#environment;
    const wait = immediately ? 0 : backoff(this.#failures, code === TOKEN_EXPIRED ? null : this.#window, random());
    this.#failures += 1;
    this.cancel();
    this.#timer = this.#environment.setTimeout(this.#callback, wait);
    return now() + wait;
  }

  /** Cancels the reconnect. */
  cancel() {
    this.#environment.clearTimeout(this.#timer);
  }
}
