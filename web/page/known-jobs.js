/**
 * The jobs that the page knows, and their order. This module uses no DOM and no clock.
 *
 * There are two lists. *Active* jobs: running ones, then queued ones, the newest first. *Earlier* jobs (ended or
 * lost): the one that ended last comes first. Progress does not change the order, so a row moves only when its
 * job starts or ends.
 */

import { isOver, lookOf } from '../src/job-state.js';
import { isNewer } from '../src/jobs.js';

/** @import { Look } from '../src/job-state.js' */
/** @import { JobState } from '../src/jobs.js' */
/** @import { State } from '../src/protocol.js' */

/** @typedef {{ jobState: JobState, state: State, look: Look, missedLists: number }} KnownJob  `missedLists`: complete lists without it, in a row */
/** @typedef {{ search: string, prefix: string, status: string }} Filter  `status`: a status, `stalled`, or '' for all */

/** The maximum number of jobs that the page keeps. A search requests others from the gateway. */
export const MAX_JOBS = 5_000;

export class KnownJobs {
  /** @type {Map<string, KnownJob>} */
  #jobs = new Map();
  /** The jobs that the last search has found. They are kept, however old they are. @type {Set<string>} */
  #searchResults = new Set();

  /**
   * Adds a state from a list or from the connection. An older state than the known one is ignored.
   * @param {JobState} jobState
   * @returns {'ignored' | 'updated' | 'moved'} moved: the job's place or look may have changed
   */
  update(jobState) {
    const { job, state } = jobState;
    const before = this.#jobs.get(job);
    if (state === null) return this.#jobs.delete(job) ? 'moved' : 'ignored'; // the gateway has dropped the job
    if (before !== undefined) before.missedLists = 0;
    if (before !== undefined && !isNewer(jobState, before.jobState)) return 'ignored';
    const look = lookOf(state);
    this.#jobs.set(job, { jobState, state, look, missedLists: 0 });
    return before?.look !== look || before.state.attempt !== state.attempt ? 'moved' : 'updated';
  }

  /** Treats the results of the last search like other jobs, because another search begins. */
  clearSearchResults() {
    this.#searchResults.clear();
  }

  /** Keeps the results of the current search. @param {JobState[]} jobs */
  addSearchResults(jobs) {
    for (const { job } of jobs) this.#searchResults.add(job);
  }

  /**
   * Removes the jobs that are missing in two complete lists, because the gateway has dropped them. One list is
   * not enough, because a job may move between the pages of the list while they are read.
   * @param {ReadonlySet<string>} listed
   * @returns {boolean} whether a job was removed
   */
  removeUnlisted(listed) {
    let removed = false;
    for (const [job, knownJob] of this.#jobs) {
      if (listed.has(job) || this.#searchResults.has(job)) continue;
      knownJob.missedLists += 1;
      if (knownJob.missedLists > 1) removed = this.#jobs.delete(job);
    }
    return removed;
  }

  /** @param {string} job */
  get(job) {
    return this.#jobs.get(job);
  }

  /** @param {string} job */
  has(job) {
    return this.#jobs.has(job);
  }

  get size() {
    return this.#jobs.size;
  }

  /**
   * Returns the jobs that match, in order.
   * @param {Filter} filter
   * @returns {{ active: KnownJob[], earlier: KnownJob[] }}
   */
  arrange(filter) {
    const matches = matcher(filter);
    /** @type {KnownJob[]} */
    const active = [];
    /** @type {KnownJob[]} */
    const earlier = [];
    for (const knownJob of this.#jobs.values()) {
      if (!matches(knownJob)) continue;
      (isOver(knownJob.look) ? earlier : active).push(knownJob);
    }
    return { active: active.sort(byStart), earlier: earlier.sort(byEnd) };
  }

  /**
   * Returns the number of jobs with each look that match the search text and the prefix.
   * @param {Filter} filter
   * @returns {Map<Look, number>}
   */
  counts(filter) {
    const matches = matcher({ ...filter, status: '' });
    /** @type {Map<Look, number>} */
    const counts = new Map();
    for (const knownJob of this.#jobs.values()) {
      if (matches(knownJob)) counts.set(knownJob.look, (counts.get(knownJob.look) ?? 0) + 1);
    }
    return counts;
  }

  /**
   * Returns the prefixes of the job ids, up to the first `:` or `/`, the most frequent first.
   * @returns {Array<[prefix: string, count: number]>}
   */
  prefixes() {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const job of this.#jobs.keys()) {
      const prefix = /^[^:/]*[:/]/.exec(job)?.[0];
      if (prefix !== undefined) counts.set(prefix, (counts.get(prefix) ?? 0) + 1);
    }
    return [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  }

  /**
   * Removes jobs above `MAX_JOBS`: those that ended first, except the results of a search.
   */
  removeExcess() {
    if (this.#jobs.size <= MAX_JOBS) return;
    const sorted = [...this.#jobs.values()].sort((a, b) => Number(isOver(a.look)) - Number(isOver(b.look)) || byEnd(a, b));
    for (const { jobState } of sorted.slice(MAX_JOBS)) if (!this.#searchResults.has(jobState.job)) this.#jobs.delete(jobState.job);
  }
}

/**
 * Returns a function that checks whether a job matches the filter.
 * @param {Filter} filter
 * @returns {(knownJob: KnownJob) => boolean}
 */
function matcher({ search, prefix, status }) {
  const searchText = search.toLowerCase();
  return ({ jobState, state, look }) => {
    if (!jobState.job.startsWith(prefix)) return false;
    if (status === 'stalled' ? look !== 'stalled' && look !== 'lost' : status !== '' && look !== status) return false;
    if (searchText === '') return true;
    return [jobState.job, state.phase, state.message, state.error].some((text) => text?.toLowerCase().includes(searchText));
  };
}

/** Orders active jobs: running ones first, the newest first. @param {KnownJob} a @param {KnownJob} b */
function byStart(a, b) {
  const created = (/** @type {KnownJob} */ { state }) => state.created_at ?? 0;
  const queuedLast = (/** @type {KnownJob} */ { look }) => Number(look === 'queued');
  return queuedLast(a) - queuedLast(b) || created(b) - created(a) || byName(a, b);
}

/** Orders ended jobs: the one that ended last first. @param {KnownJob} a @param {KnownJob} b */
function byEnd(a, b) {
  const end = (/** @type {KnownJob} */ { state }) => state.finished_at ?? state.updated_at ?? 0;
  return end(b) - end(a) || byName(a, b);
}

/** @param {KnownJob} a @param {KnownJob} b */
function byName(a, b) {
  return a.jobState.job < b.jobState.job ? -1 : 1;
}
