/** The path of a job in the API. No DOM. */

/**
 * The path of a job in the API, below `api/jobs/`. Encoded where a browser or a proxy would
 * otherwise read `a/../b` as `b`, or an id's end as an endpoint of the gateway.
 * @param {string} job
 */
export function pathOf(job) {
  return /(^|\/)\.{0,2}(\/|$)|\/events$/.test(job) ? encodeURIComponent(job) : job;
}
