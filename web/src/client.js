/**
 * The browser client of progress-gateway, and all a page needs to load:
 *
 *     <script type="module" src="https://progress.example/client.js"></script>
 *     <job-progress job="video:42"></job-progress>
 *
 * or, without the element:
 *
 *     import { watchJob } from 'https://progress.example/client.js';
 *     const unwatch = watchJob('video:42', ({ state }) => console.log(state?.percent));
 */

import { connect } from './shared.js';

/** @import { Listener } from './jobs.js' */

export { createConnection } from './connection.js';
export { JobProgressElement } from './element.js';
export { connect } from './shared.js';
export { describe } from './view.js';

/**
 * Hear of a job: at once if it is known here already, and at every change.
 *
 * @param {string} job
 * @param {Listener} listener
 * @param {{ gateway?: string | URL }} [options]
 * @returns {() => void} ends it; calling it again does no harm
 */
export function watchJob(job, listener, { gateway } = {}) {
  return connect(gateway).watch(job, listener);
}
