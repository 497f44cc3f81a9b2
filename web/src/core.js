/**
 * The core of the browser client: what `import … from 'progress-gateway'` brings.
 * Importing it does nothing; the element and the React hooks have entries of
 * their own, as has the script that a gateway serves (`client.js`).
 *
 *     import { configure, watchJob } from 'progress-gateway';
 *
 *     configure({ gateway: 'https://progress.example/ws' });
 *     const unwatch = watchJob('video:42', ({ state }) => console.log(state?.percent));
 */

import { connect } from './shared.js';

/** @import { Listener } from './jobs.js' */
/** @typedef {import('./connection.js').Connection} Connection */
/** @typedef {import('./status.js').ConnectionStatus} ConnectionStatus */
/** @typedef {import('./jobs.js').Watched} Watched */
/** @typedef {import('./progress.js').Progress} Progress */
/** @typedef {import('./protocol.js').State} State */
/** @typedef {import('./shared.js').Settings} Settings */
/** @typedef {import('./tokens.js').TokenProvider} TokenProvider */

export { createConnection } from './connection.js';
export { jobStore } from './progress.js';
export { configure, connect } from './shared.js';

/**
 * Hear of a job: at once if it is known here already, and at every change. After
 * its final state nothing more comes; to hear of a later attempt, watch anew.
 *
 * @param {string} job
 * @param {Listener} listener
 * @param {{ gateway?: string | URL }} [options]
 * @returns {() => void} ends it; calling it again does no harm
 */
export function watchJob(job, listener, { gateway } = {}) {
  return connect(gateway).watch(job, listener);
}
