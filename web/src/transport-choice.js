/**
 * Decides which transport to use next. The best one is a WebSocket; where it is blocked, the page
 * uses the next one that gets through. While the gateway is unavailable they all fail, so a failure
 * without a response says nothing about a transport over HTTP, and the page goes on with the one that
 * worked last. No clock, no socket.
 */

/** The best first. */
const TRANSPORTS = /** @type {const} */ (['websocket', 'sse', 'polling']);

/** Failures in a row before another transport than a WebSocket is tried. */
const FAILURES = 2;
/** If a WebSocket worked last, the gateway is more likely unavailable than blocked. */
const FAILURES_IF_IT_WORKED = 4;

export class TransportChoice {
  #failures = 0;
  /** The transport that worked last; -1: none has worked. */
  #worked = -1;
  /** The transport to use. */
  index = 0;

  get name() {
    return /** @type {(typeof TRANSPORTS)[number]} */ (TRANSPORTS[this.index]);
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
    const most = this.#worked === 0 ? FAILURES_IF_IT_WORKED : FAILURES;
    if (reachable) this.index = (this.index + 1) % TRANSPORTS.length;
    else if (this.index === 0 ? ++this.#failures < most : this.index === this.#worked) return;
    else this.index = this.index === 0 ? 1 : 0;
    this.#failures = this.#worked === 0 ? 0 : 1;
  }
}
