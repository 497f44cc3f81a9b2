/**
 * Chooses the transport to use next. The first one is the best. If a transport is blocked, the next one is tried, and
 * after the last one the first again. So a gateway behind a proxy without WebSockets is reached with the second
 * transport, and a gateway that is down is tried with all of them in turn. This module uses no clock and no socket.
 */

/** The number of successive failures after which the next transport is tried. */
const MAX_FAILURES = 2;
/** The same if a WebSocket has worked on this page, because then the gateway is more likely down than blocked. */
const MAX_FAILURES_AFTER_SUCCESS = 4;

export class TransportChoice {
  #count;
  #failures = 0;
  #hasWorked = false;
  /** The index of the transport to use: 0 is the best. */
  index = 0;

  /** @param {number} count  the number of transports */
  constructor(count) {
    this.#count = count;
  }

  /** Records that the gateway was reached. */
  succeeded() {
    this.#failures = 0;
    this.#hasWorked ||= this.index === 0;
  }

  /** Records that the transport ended before the gateway was reached. */
  blocked() {
    this.#failures += 1;
    if (this.#failures < this.#maxFailures()) return;
    this.index = (this.index + 1) % this.#count;
    this.#failures = 0;
  }

  /** Records that a transport was lost after the gateway was reached: another one than the best tries the best once. */
  lost() {
    if (this.index === 0) return;
    this.index = 0;
    this.#failures = this.#maxFailures() - 1;
  }

  /** Records that the best transport has replaced another one. */
  useBest() {
    this.index = 0;
    this.#failures = 0;
  }

  /** Returns the number of failures after which the next transport is tried. */
  #maxFailures() {
    if (this.index > 0) return 1;
    return this.#hasWorked ? MAX_FAILURES_AFTER_SUCCESS : MAX_FAILURES;
  }
}
