/**
 * Reads the list of jobs from the API: once for the page, and for each search. Later changes are
 * received over the connection (`live.js`).
 */

import { TokenNeeded, authorization } from './token.js';
import { t } from './words.js';

/** @import { Seen } from '../src/jobs.js' */

const PAGE = 200;
const DEADLINE = 10_000;
/** A gateway checks some thousand jobs for a page of the list, and continues in the next page. */
const PAGES_OF_A_SEARCH = 20;

export class JobList {
  #most;

  /** Whether the gateway has more jobs than this page reads. */
  truncated = false;

  /** @param {number} most  jobs to read */
  constructor(most) {
    this.#most = most;
  }

  /**
   * @param {(jobs: Seen[]) => void} take
   * @returns {Promise<Set<string> | null>} all jobs, if it has read the whole list
   * @throws if the list cannot be read
   */
  async read(take) {
    /** @type {Set<string>} */
    const listed = new Set();
    /** @type {string | null} */
    let after = null;
    while (listed.size < this.#most) {
      const { jobs, next } = await read({ after });
      for (const { job } of jobs) listed.add(job);
      take(jobs);
      after = next;
      if (after === null) break;
    }
    this.truncated = after !== null;
    return this.truncated ? null : listed;
  }

  /**
   * One page of the jobs with this prefix and status, anywhere in the list. It may need several
   * requests.
   * @param {{ prefix: string, status: string }} query
   * @param {(jobs: Seen[]) => void} take
   * @param {() => boolean} wanted  whether to continue
   */
  async find({ prefix, status }, take, wanted) {
    /** @type {string | null} */
    let after = null;
    let found = 0;
    for (let page = 0; page < PAGES_OF_A_SEARCH && found < PAGE && wanted(); page++) {
      const { jobs, next } = await read({ prefix, status, after });
      if (!wanted()) return;
      take(jobs);
      found += jobs.length;
      after = next;
      if (after === null) return;
    }
  }
}

/**
 * @param {Record<string, string | null>} query
 * @returns {Promise<{ jobs: Seen[], next: string | null }>}
 */
async function read(query) {
  const url = new URL('../api/jobs', import.meta.url);
  for (const [name, value] of Object.entries({ limit: String(PAGE), ...query })) if (value) url.searchParams.set(name, value);
  const response = await fetch(url, { headers: authorization(), signal: AbortSignal.timeout(DEADLINE) });
  if (response.status === 401) throw new TokenNeeded();
  if (!response.ok) throw new Error(t('The response was {status}.', { status: `${response.status} ${response.statusText}`.trim() }));
  return response.json();
}
