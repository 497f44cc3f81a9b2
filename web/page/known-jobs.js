/**
 * The jobs that the page knows, and their order. No DOM, no clock.
 *
 * Two groups. *Active* jobs: those at work, then those that wait, the newest
 * first. *Earlier* ones (ended, or lost), the last ended first. None of this
 * changes with progress, so a row moves when its job starts and when it ends.
 */

import { isNewer } from '../src/jobs.js';
import { isOver, lookOf } from '../src/state.js';

/** @import { Seen } from '../src/jobs.js' */
/** @import { State } from '../src/protocol.js' */
/** @import { Look } from '../src/state.js' */

/** @typedef {{ seen: Seen, state: State, look: Look, missed: number }} Known */
/** @typedef {{ search: string, prefix: string, status: string }} Filter  `status`: a status, `stalled`, or '' for all */

/** More than anyone reads; a search asks the gateway for the others. */
export const MOST = 5_000;

export class KnownJobs {
  /** @type {Map<string, Known>} */
  #known = new Map();
  /** Jobs that a search has found: they stay, however old they are. @type {Set<string>} */
  #found = new Set();

  /**
   * Take in what a list or the connection says of a job; the newer of the two counts.
   * @param {Seen} seen
   * @returns {'old' | 'new' | 'moved'} moved: the job's place or look may have changed
   */
  update(seen) {
    const { job, state } = seen;
    const before = this.#known.get(job);
    if (state === null) return this.#known.delete(job) ? 'moved' : 'old'; // forgotten by the gateway
    if (before !== undefined) before.missed = 0;
    if (before !== undefined && !isNewer(seen, before.seen)) return 'old';
    const look = lookOf(state);
    this.#known.set(job, { seen, state, look, missed: 0 });
    return before?.look !== look || before.state.attempt !== state.attempt ? 'moved' : 'new';
  }

  /** Another search begins: what the last one found is no more than the rest. */
  beginSearch() {
    this.#found.clear();
  }

  /** @param {Seen[]} jobs  what a search has found */
  keepFound(jobs) {
    for (const { job } of jobs) this.#found.add(job);
  }

  /**
   * The whole list, twice, without a job: the gateway has forgotten it. Once proves
   * nothing, as a job may move from one page to another while the list is read.
   * @param {ReadonlySet<string>} listed
   * @returns {boolean} whether one was forgotten
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
   * How many there are of each look, whatever status is chosen.
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
   * What job ids begin with, up to the first `:` or `/`, most frequent first.
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

  /** Keep the page bounded: past `MOST`, those over the longest are forgotten first, but not what was searched for. */
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
