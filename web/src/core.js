/**
 * The core of the browser client, for `import … from 'progress-gateway'`. The import has no side
 * effects. The element, the React hooks, and the script that a gateway serves (`client.js`) have
 * separate entry points.
 *
 *     import { configure, watchJob } from 'progress-gateway';
 *
 *     configure({ gateway: 'https://progress.example/ws' });
 *     const unwatch = watchJob('video:42', ({ state }) => console.log(state?.percent));
 */

import { endListener } from './end-listener.js';
import { load } from './load.js';
import { connect, credentialsOf } from './settings.js';

/** @import { End } from './end-listener.js' */
/** @import { Listener } from './jobs.js' */
/** @typedef {import('./connection.js').Connection} Connection */
/** @typedef {import('./connection-status.js').ConnectionStatus} ConnectionStatus */
/** @typedef {import('./jobs.js').Watched} Watched */
/** @typedef {import('./settings.js').Settings} Settings */
/** @typedef {import('./send-request.js').RequestAnswer} RequestAnswer */
/** @typedef {import('./send-request.js').RequestError} RequestError */
/** @typedef {import('./send-request.js').RequestOptions} RequestOptions */
/** @typedef {import('./tokens.js').TokenProvider} TokenProvider */
/** @template [Data=unknown] @typedef {import('./end-listener.js').End<Data>} JobEnd */
/** @template [Data=unknown] @typedef {import('./progress.js').Progress<Data>} Progress */
/** @template [Data=unknown] @typedef {import('./protocol.js').State<Data>} State */

export { createConnection } from './connection.js';
export { jobStore } from './progress.js';
export { configure, connect, logout, renew, tokenFrom } from './settings.js';

/**
 * Calls the listener with the state of a job: immediately if it is known, and at every change,
 * including later attempts, until the returned function is called.
 *
 * @param {string} job
 * @param {Listener} listener
 * @param {{ gateway?: string | URL }} [options]
 * @returns {() => void} stops watching; further calls do nothing
 */
export function watchJob(job, listener, { gateway } = {}) {
  return connect(gateway).watch(job, listener);
}

/**
 * Calls the listener once for each attempt of a job that ends. If the job has ended before, it is
 * also called, with `alreadyOver`.
 *
 * @param {string} job
 * @param {(end: End) => void} listener
 * @param {{ gateway?: string | URL }} [options]
 * @returns {() => void} stops watching
 */
export function watchEnd(job, listener, { gateway } = {}) {
  return connect(gateway).watch(job, endListener(listener));
}

/**
 * Sends a request to a job's worker, such as `cancel`: see `docs/control.md`. The job's state
 * contains the result.
 *
 * @param {string} job
 * @param {string} verb  one of those that the job accepts
 * @param {RequestOptions} [options]
 * @returns {Promise<RequestAnswer>} fulfilled when the gateway has accepted the request
 * @throws {RequestError} with the gateway's explanation, if the gateway refused it
 */
export async function requestJob(job, verb, options = {}) {
  const { sendRequest } = await load(() => import('./send-request.js'));
  return sendRequest(credentialsOf(options.gateway), job, verb, options);
}
