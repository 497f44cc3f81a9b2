/** The path of a job in the API. This module uses no DOM. */

/**
 * Returns the path of a job in the API, below `api/jobs/`. The id is encoded if a browser or a proxy would otherwise
 * change it (`a/../b` to `b`), or if it ends with `/events`: a GET of that path returns the history of the job before
 * it. An id that ends with `/requests` needs no encoding: that endpoint accepts only POST, and clients append
 * `/requests` to every path that they post to, so a GET of the plain path always means the job.
 * @param {string} job
 */
export function pathOf(job) {
  return /(^|\/)\.{0,2}(\/|$)|\/events$/.test(job) ? encodeURIComponent(job) : job;
}
