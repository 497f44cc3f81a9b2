/**
 * The pause before a reconnect. Full jitter: a random time between zero and a ceiling that
 * doubles, so that the clients of a lost gateway reconnect evenly instead of all at once (Marc
 * Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). The gateway's retry
 * window is the minimum of the ceiling and is not doubled itself: it already spreads the clients,
 * and after an outage of five seconds no client should wait fifteen more.
 * The function is pure: the random number is an argument.
 */

/** @import { RetryWindow } from './protocol.js' */

/** The first and the longest ceiling in seconds. The first failure is often short; no user waits longer than 20 s. */
const FIRST_CEILING = 0.5;
const LAST_CEILING = 20;

/**
 * Returns the pause before the next attempt.
 * @param {number} failures      the number of failed attempts, from 0
 * @param {RetryWindow | null} window  the window that the gateway has set; the pause is at least its minimum
 * @param {number} random        0 ≤ random < 1
 * @returns {number} milliseconds
 */
export function backoff(failures, window, random) {
  const [min, max] = window ?? [0, FIRST_CEILING];
  // The first pause is within the window. Later a window of [0, 0] must not become a busy loop.
  const doubled = failures === 0 ? 0 : Math.min(FIRST_CEILING * 2 ** failures, LAST_CEILING);
  return (min + random * (Math.max(max, doubled) - min)) * 1000;
}
