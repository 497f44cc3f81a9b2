/**
 * The pause before a reconnect. Full jitter: a random time between zero and a ceiling that
 * doubles, so that the clients of a lost gateway reconnect evenly instead of all at once (Marc
 * Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). The gateway's retry
 * window is the minimum of the ceiling and is not doubled itself: it already spreads the clients,
 * and after an outage of five seconds no client should wait fifteen more.
 * Pure: randomness is an argument.
 */

/** @import { RetryWindow } from './protocol.js' */

/** Seconds. The first failure is often short; a person waits for 20 s at most. */
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
  // The first pause is within the window. Later a window of [0, 0] must not become a busy loop.
  const doubled = failures === 0 ? 0 : Math.min(FIRST_CEILING * 2 ** failures, LAST_CEILING);
  return (min + random * (Math.max(max, doubled) - min)) * 1000;
}
