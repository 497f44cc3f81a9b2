/**
 * The jobs the page knows, and in which order it shows them. No DOM, no clock.
 *
 * Two groups. *Active* jobs: those at work, then those that wait, the newest
 * first. *Earlier* ones (ended, or lost), the last ended first. None of this
 * changes with progress, so a row moves when its job starts and when it ends,
 * and the latter not before people had a moment to see it.
 */

import { lookOf } from './view.js';

/** @import { State } from './protocol.js' */
/** @import { Look } from './view.js' */

/** @typedef {{ job: string, epoch: number | null, seq: number, state: State | null }} Seen */
/** @typedef {{ seen: Seen, state: State, look: Look, overSince: number | null }} Known */
/** @typedef {{ prefix: string, status: string }} Filter  `status`: a status, `stalled`, or '' for all */

/** A job that ends before your eyes keeps its place for this long, in seconds. */
export const SETTLE = 4;

/**
 * More than anyone reads, and well below the 1,000 jobs that a gateway lets one
 * connection watch.
 */
export const MOST = 500;

export class KnownJobs {
  /** @type {Map<string, Known>} */
  #known = new Map();

  /**
   * Take in what a list or the connection says of a job; the newer of the two counts.
   * @param {Seen} seen
   * @param {number} now  the gateway's time
   * @returns {boolean} whether the job's place or look may have changed
   */
  learn(seen, now) {
    const { job, state } = seen;
    const before = this.#known.get(job);
    if (state === null) return this.#known.delete(job); // forgotten by the gateway
    if (before !== undefined && !isNewer(seen, before.seen)) return false;
    const look = lookOf(state);
    const over = isOver(look);
    // What was over when we first heard of it has had its moment.
    const overSince = !over ? null : before === undefined ? -Infinity : (before.overSince ?? now);
    this.#known.set(job, { seen, state, look, overSince });
    return before?.look !== look || before.state.attempt !== state.attempt;
  }

  /** @param {string} job */
  forget(job) {
    this.#known.delete(job);
  }

  /** @param {string} job */
  has(job) {
    return this.#known.has(job);
  }

  jobs() {
    return [...this.#known.keys()];
  }

  /**
   * @param {Filter} filter
   * @param {number} now
   * @param {number} limit  of the earlier ones
   * @returns {{ active: Known[], earlier: Known[], settling: boolean }}
   */
  arrange(filter, now, limit) {
    const shown = [...this.#known.values()].filter((known) => matches(known, filter));
    /** @type {(known: Known) => boolean} */
    const settled = ({ overSince }) => overSince !== null && now - overSince >= SETTLE;
    return {
      active: shown.filter((known) => !settled(known)).sort(byStart),
      earlier: shown.filter(settled).sort(byEnd).slice(0, limit),
      settling: shown.some((known) => known.overSince !== null && !settled(known)),
    };
  }

  /**
   * How many there are of each look.
   * @param {string} prefix
   * @returns {Map<Look, number>}
   */
  counts(prefix) {
    /** @type {Map<Look, number>} */
    const counts = new Map();
    for (const known of this.#known.values()) {
      if (!known.seen.job.startsWith(prefix)) continue;
      counts.set(known.look, (counts.get(known.look) ?? 0) + 1);
    }
    return counts;
  }

  /**
   * Keep the page bounded: past `MOST`, those over the longest are forgotten first.
   * @returns {string[]} the forgotten
   */
  prune() {
    const excess = this.#known.size - MOST;
    if (excess <= 0) return [];
    const active = [...this.#known.values()].sort((a, b) => Number(isOver(a.look)) - Number(isOver(b.look)) || byEnd(a, b));
    const gone = active.slice(MOST).map(({ seen }) => seen.job);
    for (const job of gone) this.#known.delete(job);
    return gone;
  }
}

/** @param {Look} look */
function isOver(look) {
  return look === 'succeeded' || look === 'failed' || look === 'cancelled' || look === 'lost';
}

/** @param {Known} known @param {Filter} filter */
function matches({ seen, look }, { prefix, status }) {
  if (!seen.job.startsWith(prefix)) return false;
  if (status === 'stalled') return look === 'stalled' || look === 'lost';
  return status === '' || look === status;
}

/** @param {Seen} a @param {Seen} b */
function isNewer(a, b) {
  if (a.epoch !== b.epoch) return (a.epoch ?? 0) > (b.epoch ?? 0);
  return a.seq > b.seq;
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
