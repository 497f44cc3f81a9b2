/** The path of a job in the API. This module uses no DOM. */

/**
 * Returns the path of a job in the API, below `api/jobs/`. The id is encoded if a browser or a proxy would otherwise
 * change it (`a/../b` to `b`), or if its last part has the name of an endpoint.
 * @param {string} job
 */
export function pathOf(job) {
  return /(^|\/)\.{0,2}(\/|$)|\/events$/.test(job) ? encodeURIComponent(job) : job;
}
