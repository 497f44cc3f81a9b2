/**
 * Notices that the machine slept: a timer that fires much later than it was set
 * for. Sockets that died meanwhile say nothing by themselves for minutes. By the
 * machine's clock, as a monotonic one may stand still while it sleeps; if that clock
 * was merely set, asking does no harm.
 */

/** @import { Environment } from './environment.js' */

const TICK = 5_000;
/** Later than any busy page; hidden pages are also late, and asking then does no harm. */
const SLEPT = 10_000;

/**
 * @param {Environment} environment
 * @param {() => void} callback
 * @returns {() => void}  how to stop
 */
export function onSleep(environment, callback) {
  let set = environment.wall();
  let timer = environment.setTimeout(tick, TICK);

  function tick() {
    const slept = environment.wall() - set > SLEPT;
    set = environment.wall();
    timer = environment.setTimeout(tick, TICK);
    if (slept) callback();
  }

  return () => environment.clearTimeout(timer);
}
