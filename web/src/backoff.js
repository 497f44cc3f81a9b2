/**
 * How long to wait before dialling again. Full jitter: a random time between
 * nothing and a ceiling that doubles, so that the clients of a lost gateway
 * spread evenly instead of coming back in waves (Marc Brooker, "Exponential
 * Backoff And Jitter", AWS Architecture Blog, 2015). The gateway's window is the
 * least ceiling, and not what is doubled: it spreads a crowd already, and after
 * five seconds of outage nobody should wait for fifteen more.
 * Pure: chance comes in.
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
  // The first time in the window alone; then a window of [0, 0] must not become a busy loop.
  const doubled = failures === 0 ? 0 : Math.min(FIRST_CEILING * 2 ** failures, LAST_CEILING);
  return (min + random * (Math.max(max, doubled) - min)) * 1000;
}
