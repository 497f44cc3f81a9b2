/**
 * Detects that the machine has slept: a timer then fires much later than planned. A socket that was lost while the
 * machine slept reports no error for minutes. The time is that of the machine's clock, because a monotonic clock may
 * stop while the machine sleeps. If the clock was only set, the callback is called without need, which does no harm.
 */

/** @import { Environment } from './environment.js' */

/** Milliseconds. */
const CHECK_INTERVAL = 5_000;
/**
 * If more milliseconds pass between two checks, the machine has slept, or the page was hidden and its timers were
 * throttled. In the second case the callback does no harm.
 */
const SLEEP_THRESHOLD = 10_000;

/**
 * Calls back after the machine has slept, until the returned function is called.
 * @param {Environment} environment
 * @param {() => void} callback
 * @returns {() => void}
 */
export function onSleep(environment, callback) {
  let checkedAt = environment.wall();
  let timer = environment.setTimeout(check, CHECK_INTERVAL);

  function check() {
    const slept = environment.wall() - checkedAt > SLEEP_THRESHOLD;
    checkedAt = environment.wall();
    timer = environment.setTimeout(check, CHECK_INTERVAL);
    if (slept) callback();
  }

  return () => environment.clearTimeout(timer);
}
