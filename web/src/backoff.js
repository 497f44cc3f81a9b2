/**
 * How long to wait before dialling again. Full jitter: a random time between
 * nothing and a ceiling that doubles, so that the clients of a lost gateway
 * spread evenly instead of coming back in waves (Marc Brooker, "Exponential
 * Backoff And Jitter", AWS Architecture Blog, 2015). Pure: chance comes in.
 */

/** @import { RetryWindow } from './protocol.js' */

/** Seconds. The first failure is often a blink; 20 s is what a person waits for. */
const FIRST_CEILING = 0.5;
const LAST_CEILING = 20;

/**
 * @param {number} failures      attempts that failed so far, from 0
 * @param {RetryWindow | null} window  what the gateway asked for; its minimum is always kept
 * @param {number} random        0 ≤ random < 1
 * @returns {number} milliseconds
 */
export function backoff(failures, window, random) {
  const [min, max] = window ?? [0, FIRST_CEILING];
  // A window of [0, 0] must not become a busy loop.
  const first = Math.max(max, FIRST_CEILING);
  const ceiling = failures === 0 ? max : Math.min(first * 2 ** failures, Math.max(LAST_CEILING, max));
  return (min + random * (Math.max(ceiling, min) - min)) * 1000;
}
