/**
 * Reads the list of jobs from the API: once for the page, and for each search. The connection receives later
 * changes (`job-watcher.js`).
 */

import { MAX_PAGE } from './constants.js';
import { TokenRequired, authorization } from './token.js';
import { t } from './translations.js';

/** @import { JobState } from '../src/jobs.js' */

/** Milliseconds until a request is aborted. */
const TIMEOUT = 10_000;
/** The maximum number of requests per search. A gateway checks some thousand jobs for each of them. */
const MAX_SEARCH_PAGES = 20;

export class JobList {
  #maxJobs;

  /** Whether the gateway has more jobs than this page reads. */
  truncated = false;

  /** @param {number} maxJobs  how many jobs `read` reads */
  constructor(maxJobs) {
    this.#maxJobs = maxJobs;
  }

  /**
   * Reads the newest jobs, page by page.
   * @param {(jobs: JobState[]) => void} onPage
   * @returns {Promise<Set<string> | null>} the ids of all jobs; null: the gateway has more than `maxJobs`
   * @throws if the list cannot be read
   */
  async read(onPage) {
    /** @type {Set<string>} */
    const listed = new Set();
    /** @type {string | null} */
    let cursor = null;
    while (listed.size < this.#maxJobs) {
      const { jobs, next } = await readPage({ after: cursor });
      for (const { job } of jobs) listed.add(job);
      onPage(jobs);
      cursor = next;
      if (cursor === null) break;
    }
    this.truncated = cursor !== null;
    return this.truncated ? null : listed;
  }

  /**
   * Reads about one page of the jobs with this prefix and status, anywhere in the list. This may need several
   * requests.
   * @param {{ prefix: string, status: string }} query
   * @param {(jobs: JobState[]) => void} onPage
   * @param {() => boolean} isWanted  returns whether to continue
   */
  async search({ prefix, status }, onPage, isWanted) {
    /** @type {string | null} */
    let cursor = null;
    let count = 0;
    for (let page = 0; page < MAX_SEARCH_PAGES && count < MAX_PAGE && isWanted(); page++) {
      const { jobs, next } = await readPage({ prefix, status, after: cursor });
      if (!isWanted()) return;
      onPage(jobs);
      count += jobs.length;
      cursor = next;
      if (cursor === null) return;
    }
  }
}

/**
 * Requests one page of the list.
 * @param {Record<string, string | null>} query
 * @returns {Promise<{ jobs: JobState[], next: string | null }>}
 */
async function readPage(query) {
  const url = new URL('../api/jobs', import.meta.url);
  for (const [name, value] of Object.entries({ limit: String(MAX_PAGE), ...query })) if (value) url.searchParams.set(name, value);
  const response = await fetch(url, { headers: authorization(), signal: AbortSignal.timeout(TIMEOUT) });
  if (response.status === 401) throw new TokenRequired();
  if (!response.ok) throw new Error(t('The response was {status}.', { status: `${response.status} ${response.statusText}`.trim() }));
  return response.json();
}
