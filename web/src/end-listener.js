/**
 * Reports the end of each attempt of a job exactly once, so that a page which reloads a list or
 * navigates at the end does so once.
 */

import { isFinal } from './job-state.js';

/** @import { Listener } from './jobs.js' */
/** @import { State } from './protocol.js' */

/**
 * @template [Data=unknown]
 * @typedef {object} End
 * @property {string} job
 * @property {State<Data>} state
 * @property {number} attempt
 * @property {boolean} alreadyOver  whether the attempt had ended before: the first state that this listener received was final
 */

/**
 * Returns a listener for a job, which calls `onEnd` once for each attempt that ends.
 * @param {(end: End<any>) => void} onEnd
 * @returns {Listener}
 */
export function endListener(onEnd) {
  let isFirst = true;
  let reported = '';
  return ({ job, state }) => {
    const alreadyOver = isFirst;
    isFirst = false;
    if (state === null || !isFinal(state)) return;
    const { attempt = 1, finished_at } = state;
    // The key has the time too, because a record that was dropped starts at attempt 1 again.
    const end = `${attempt} ${finished_at}`;
    if (end === reported) return;
    reported = end;
    onEnd({ job, state, attempt, alreadyOver });
  };
}
