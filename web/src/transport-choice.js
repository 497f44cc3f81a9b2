/**
 * Which transport to use next. The first is the best; where it does not get
 * through, the next one is tried, and after the last the first again: a gateway
 * that is down fails them all and is tried on, one that sits behind a proxy
 * without WebSockets is reached on the second step. No clock, no socket.
 */

/** Failures in a row before the next transport is tried. */
const FAILURES = 2;
/** Where WebSockets have worked on this page, the gateway is more likely down than blocked. */
const FAILURES_IF_IT_WORKED = 4;

export class TransportChoice {
  #steps;
  #failures = 0;
  #hasWorked = false;
  /** The transport to use: 0 is the best. */
  index = 0;

  /** @param {number} steps */
  constructor(steps) {
    this.#steps = steps;
  }

  /** The transport got through. */
  succeeded() {
    this.#failures = 0;
    this.#hasWorked ||= this.index === 0;
  }

  /** The transport ended before it got through. */
  blocked() {
    this.#failures += 1;
    if (this.#failures < this.#allowed()) return;
    this.index = (this.index + 1) % this.#steps;
    this.#failures = 0;
  }

  /** It got through, and was lost later: the best one is tried again, once if it was not chosen. */
  lost() {
    if (this.index === 0) return;
    this.index = 0;
    this.#failures = this.#allowed() - 1;
  }

  /** Back to the best: it was tried beside the other, and opened. */
  useBest() {
    this.index = 0;
    this.#failures = 0;
  }

  #allowed() {
    if (this.index > 0) return 1;
    return this.#hasWorked ? FAILURES_IF_IT_WORKED : FAILURES;
  }
}
