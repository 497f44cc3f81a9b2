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

  /** Returns the gateway's time in Unix seconds. */
  now = () => this.#environment.now() / 1000 + this.#offset;

  /** Corrects the clock. @param {unknown} time  the gateway's time; ignored if it is not a number */
  set(time) {
    if (Number.isFinite(time)) this.#offset += Number(time) - this.now();
  }

  /** Corrects the clock by the time of an event: the current time cannot be earlier. @param {number | undefined} time */
  atLeast(time = 0) {
    if (time > this.now()) this.set(time);
  }

  /** The seconds by which the machine's clock is behind the gateway's. */
  get skew() {
    return this.now() - this.#environment.wall() / 1000;
  }
}
