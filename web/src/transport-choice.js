/**
 * Decides which transport to use next. The best one is a WebSocket; where it is blocked, the page
 * uses the next one that gets through. While the gateway is unavailable they all fail, so a failure
 * without a response says nothing about a transport over HTTP, and the page goes on with the one that
 * worked last. No clock, no socket.
 */

/** Failures in a row before another transport than a WebSocket is tried. */
const FAILURES = 2;
/** If a WebSocket worked last, the gateway is more likely unavailable than blocked. */
const FAILURES_IF_IT_WORKED = 4;

export class TransportChoice {
  #steps;
  #failures = 0;
  /** The transport that worked last; -1: none has worked. */
  #worked = -1;
  /** The transport to use: 0 is the best. */
  index = 0;

  /** @param {number} steps */
  constructor(steps) {
    this.#steps = steps;
  }

  /** The transport got through. */
  succeeded() {
    this.#worked = this.index;
    this.#failures = 0;
  }

  /**
   * The transport ended before it got through.
   * @param {boolean} [reachable]  whether the gateway has answered over HTTP meanwhile
   */
  blocked(reachable) {
    this.#failures += 1;
    if (reachable) this.index = (this.index + 1) % this.#steps;
    else if (this.index > 0) this.index = this.index === this.#worked ? this.index : 0;
    else if (this.#failures >= (this.#worked === 0 ? FAILURES_IF_IT_WORKED : FAILURES)) this.index = 1;
    else return;
    this.#failures = this.#worked === 0 ? 0 : 1;
  }
}
