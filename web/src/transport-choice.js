/**
 * Chooses the transport to use next. The first one, a WebSocket, is the best. If it is blocked, the next one that gets
 * through is used. While the gateway is unavailable all transports fail, so a transport over HTTP counts as blocked only
 * if the gateway has answered another request; otherwise the one that worked last is used again. This module uses no
 * clock and no socket.
 */

/** The transports, the best first. */
const TRANSPORTS = /** @type {const} */ (['websocket', 'sse', 'polling']);

/** The number of successive failures of a WebSocket after which the next transport is tried. */
const MAX_FAILURES = 2;
/** The same if a WebSocket has worked last, because then the gateway is more likely down than blocked. */
const MAX_FAILURES_AFTER_SUCCESS = 4;

export class TransportChoice {
  #failures = 0;
  /** The index of the transport that worked last; -1: none has worked. */
  #lastWorking = -1;
  /** The index of the transport to use. */
  index = 0;

  /** The name of the transport to use. */
  get name() {
    return /** @type {(typeof TRANSPORTS)[number]} */ (TRANSPORTS[this.index]);
  }

  /** Records that the gateway was reached. */
  onSuccess() {
    this.#lastWorking = this.index;
    this.#failures = 0;
  }

  /**
   * Records that the transport ended before the gateway was reached.
   * @param {boolean} [reachable]  whether the gateway has answered another request meanwhile
   */
  onBlocked(reachable) {
    const maxFailures = this.#lastWorking === 0 ? MAX_FAILURES_AFTER_SUCCESS : MAX_FAILURES;
    if (reachable) this.index = (this.index + 1) % TRANSPORTS.length;
    else if (this.index === 0 ? ++this.#failures < maxFailures : this.index === this.#lastWorking) return;
    else this.index = this.index === 0 ? 1 : 0;
    this.#failures = this.#lastWorking === 0 ? 0 : 1;
  }
}
