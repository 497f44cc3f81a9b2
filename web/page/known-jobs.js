/**
 * The jobs that the page knows, and their order. No DOM, no clock.
 *
 * There are two parts. *Active* jobs: running ones, then queued ones, the newest first. *Earlier*
 * jobs (ended or lost): the one that ended last comes first. Progress does not change the order, so
 * a row moves only when its job starts or ends.
 */

import { isNewer } from '../src/jobs.js';
import { isOver, lookOf } from '../src/state.js';

/** @import { Seen } from '../src/jobs.js' */
/** @import { State } from '../src/protocol.js' */
/** @import { Look } from '../src/state.js' */

/** @typedef {{ seen: Seen, state: State, look: Look, missed: number }} Known */
/** @typedef {{ search: string, prefix: string, status: string }} Filter  `status`: a status, `stalled`, or '' for all */

/** More than anyone reads; a search requests others from the gateway. */
export const MOST = 5_000;

export class KnownJobs {
  /** @type {Map<string, Known>} */
  #known = new Map();
  /** Jobs that a search has found. They are kept, however old they are. @type {Set<string>} */
  #found = new Set();

  /**
   * Add a state from a list or from the connection; the newer of the two is used.
   * @param {Seen} seen
   * @returns {'old' | 'new' | 'moved'} moved: the job's place or look may have changed
   */
  update(seen) {
    const { job, state } = seen;
    const before = this.#known.get(job);
    if (state === null) return this.#known.delete(job) ? 'moved' : 'old'; // dropped by the gateway
    if (before !== undefined) before.missed = 0;
    if (before !== undefined && !isNewer(seen, before.seen)) return 'old';
    const look = lookOf(state);
    this.#known.set(job, { seen, state, look, missed: 0 });
    return before?.look !== look || before.state.attempt !== state.attempt ? 'moved' : 'new';
  }

  /** Another search begins: the results of the last one are treated like other jobs. */
  beginSearch() {
    this.#found.clear();
  }

  /** @param {Seen[]} jobs  what a search has found */
  keepFound(jobs) {
    for (const { job } of jobs) this.#found.add(job);
  }

  /**
   * Drop the jobs that are missing in two complete lists, because the gateway has dropped them. One
   * list is not enough, because a job may move between its pages while they are read.
   * @param {ReadonlySet<string>} listed
   * @returns {boolean} whether a job was dropped
   */
  forgetUnlisted(listed) {
    let forgot = false;
    for (const [job, known] of this.#known) {
      if (listed.has(job) || this.#found.has(job)) continue;
      known.missed += 1;
      if (known.missed > 1) forgot = this.#known.delete(job);
    }
    return forgot;
  }

  /** @param {string} job */
  get(job) {
    return this.#known.get(job);
  }

  /** @param {string} job */
  has(job) {
    return this.#known.has(job);
  }

  get size() {
    return this.#known.size;
  }

  /**
   * @param {Filter} filter
   * @returns {{ active: Known[], earlier: Known[] }}
   */
  arrange(filter) {
    const matches = matcher(filter);
    /** @type {Known[]} */
    const active = [];
    /** @type {Known[]} */
    const earlier = [];
    for (const known of this.#known.values()) {
      if (!matches(known)) continue;
      (isOver(known.look) ? earlier : active).push(known);
    }
    return { active: active.sort(byStart), earlier: earlier.sort(byEnd) };
  }

  /**
   * The number of jobs of each look, whatever status is chosen.
   * @param {Filter} filter
   * @returns {Map<Look, number>}
   */
  counts(filter) {
    const matches = matcher({ ...filter, status: '' });
    /** @type {Map<Look, number>} */
    const counts = new Map();
    for (const known of this.#known.values()) {
      if (matches(known)) counts.set(known.look, (counts.get(known.look) ?? 0) + 1);
    }
    return counts;
  }

  /**
   * The prefixes of the job ids, up to the first `:` or `/`, the most frequent first.
   * @returns {Array<[prefix: string, count: number]>}
   */
  prefixes() {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const job of this.#known.keys()) {
      const prefix = /^[^:/]*[:/]/.exec(job)?.[0];
      if (prefix !== undefined) counts.set(prefix, (counts.get(prefix) ?? 0) + 1);
    }
    return [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  }

  /**
   * Limit the number of jobs: above `MOST`, those that ended first are dropped, except the results
   * of a search.
   */
  prune() {
    if (this.#known.size <= MOST) return;
    const all = [...this.#known.values()].sort((a, b) => Number(isOver(a.look)) - Number(isOver(b.look)) || byEnd(a, b));
    for (const { seen } of all.slice(MOST)) if (!this.#found.has(seen.job)) this.#known.delete(seen.job);
  }
}

/**
 * @param {Filter} filter
 * @returns {(known: Known) => boolean}
 */
function matcher({ search, prefix, status }) {
  const wanted = search.toLowerCase();
  return ({ seen, state, look }) => {
    if (!seen.job.startsWith(prefix)) return false;
    if (status === 'stalled' ? look !== 'stalled' && look !== 'lost' : status !== '' && look !== status) return false;
    if (wanted === '') return true;
    return [seen.job, state.phase, state.message, state.error].some((text) => text?.toLowerCase().includes(wanted));
  };
}

/** @param {Known} a @param {Known} b */
function byStart(a, b) {
  const created = (/** @type {Known} */ { state }) => state.created_at ?? 0;
  const waits = (/** @type {Known} */ { look }) => Number(look === 'queued');
  return waits(a) - waits(b) || created(b) - created(a) || byName(a, b);
}

/** @param {Known} a @param {Known} b */
function byEnd(a, b) {
  const end = (/** @type {Known} */ { state }) => state.finished_at ?? state.updated_at ?? 0;
  return end(b) - end(a) || byName(a, b);
}

/** @param {Known} a @param {Known} b */
function byName(a, b) {
  return a.seen.job < b.seen.job ? -1 : 1;
}
