/**
 * Which jobs there are, by asking the API. The list is sorted by the last update,
 * so a poll reads on only as long as a page brings something new; now and then
 * one reads it to the end, which also tells what the gateway has forgotten.
 */

import { TokenNeeded, authorization } from './page-token.js';

/** @import { Seen } from './jobs.js' */

const PAGE = 200;
const DEADLINE = 10_000;
/** Pages of one poll: a gateway with thousands of busy jobs must not be read whole every two seconds. */
const PAGES = 5;
/** A gateway looks at some thousand jobs for a page, and goes on in the next. */
const PAGES_OF_A_SEARCH = 20;
/** How often a poll reads all. Milliseconds. */
const WHOLE_EVERY = 60_000;

export class JobList {
  #most;
  #wholeAt = -Infinity;

  /** Whether the gateway has more jobs than this page reads. */
  truncated = false;

  /** @param {number} most  jobs to read */
  constructor(most) {
    this.#most = most;
  }

  /**
   * @param {(jobs: Seen[]) => boolean} take  answers whether anything was new
   * @returns {Promise<Set<string> | null>} all jobs there are, if it read to the end
   * @throws if the list cannot be had
   */
  async poll(take) {
    const whole = Date.now() - this.#wholeAt > WHOLE_EVERY;
    /** @type {Set<string>} */
    const listed = new Set();
    /** @type {string | null} */
    let after = null;
    for (let page = 0; whole ? listed.size < this.#most : page < PAGES; page++) {
      const { jobs, next } = await read({ after });
      for (const { job } of jobs) listed.add(job);
      const news = take(jobs);
      after = next;
      if (after === null) {
        this.truncated = false;
        this.#wholeAt = Date.now();
        return listed;
      }
      if (!news && !whole) break;
    }
    if (whole) {
      this.truncated = true;
      this.#wholeAt = Date.now();
    }
    return null;
  }

  /**
   * Jobs whose id starts with this, wherever they are in the list.
   * @param {string} prefix
   * @param {(jobs: Seen[]) => boolean} take
   */
  async find(prefix, take) {
    /** @type {string | null} */
    let after = null;
    for (let page = 0; page < PAGES_OF_A_SEARCH; page++) {
      const { jobs, next } = await read({ prefix, after });
      take(jobs);
      after = next;
      if (jobs.length > 0 || after === null) return;
    }
  }
}

/**
 * @param {Record<string, string | null>} query
 * @returns {Promise<{ jobs: Seen[], next: string | null }>}
 */
async function read(query) {
  const url = new URL('api/jobs', import.meta.url);
  for (const [name, value] of Object.entries({ limit: String(PAGE), ...query })) if (value) url.searchParams.set(name, value);
  const response = await fetch(url, { headers: authorization(), signal: AbortSignal.timeout(DEADLINE) });
  if (response.status === 401) throw new TokenNeeded();
  if (!response.ok) throw new Error(`It answered ${response.status} ${response.statusText}.`);
  return response.json();
}
