/**
 * Which transport to use next. The first is the best; where it does not get
 * through, the next one is tried, and after the last the first again: a gateway
 * that is down fails them all and is tried on, one that sits behind a proxy
 * without WebSockets is reached on the second step. No clock, no socket.
 */

/** Failures in a row before the next transport is tried. */
const FAILURES = 2;
/** Where WebSockets have worked on this page, the gateway is more likely down than blocked. */
const FAILURES_ONCE_PROVEN = 4;

export class TransportChoice {
  #steps;
  #failures = 0;
  #proven = false;
  /** The transport to use: 0 is the best. */
  step = 0;

  /** @param {number} steps */
  constructor(steps) {
    this.#steps = steps;
  }

  /** The transport got through. */
  passed() {
    this.#failures = 0;
    this.#proven ||= this.step === 0;
  }

  /** The transport ended before it got through. */
  blocked() {
    this.#failures += 1;
    if (this.#failures < this.#allowed()) return;
    this.step = (this.step + 1) % this.#steps;
    this.#failures = 0;
  }

  /** It got through, and was lost later: the best one is tried again, once if it was not chosen. */
  lost() {
    if (this.step === 0) return;
    this.step = 0;
    this.#failures = this.#allowed() - 1;
  }

  /** Back to the best: it was tried beside the other, and opened. */
  useBest() {
    this.step = 0;
    this.#failures = 0;
  }

  #allowed() {
    if (this.step > 0) return 1;
    return this.#proven ? FAILURES_ONCE_PROVEN : FAILURES;
  }
}
