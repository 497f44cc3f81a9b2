/**
 * The gateway's time, continued with a monotonic clock, so that setting the machine's clock while
 * the page is open changes no times. Every answer of the gateway that has a time corrects it.
 */

/** @import { Environment } from './environment.js' */

export class GatewayClock {
  #environment;
  /** The gateway's time minus the monotonic clock, seconds. */
  #offset;

  /** @param {Environment} environment */
  constructor(environment) {
    this.#environment = environment;
    this.#offset = (environment.wall() - environment.now()) / 1000;
  }

  /** Unix seconds. */
  now = () => this.#environment.now() / 1000 + this.#offset;

  /** @param {unknown} time  the gateway's time; ignored if it is not a number */
  set(time) {
    if (Number.isFinite(time)) this.#offset += Number(time) - this.now();
  }

  /** The time of a past event: the current time cannot be earlier. @param {number | undefined} time */
  atLeast(time = 0) {
    if (time > this.now()) this.set(time);
  }

  /** How far the machine's clock is behind the gateway's, seconds. */
  get skew() {
    return this.now() - this.#environment.wall() / 1000;
  }
}
