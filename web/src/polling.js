/** Polling: one request after the other, or a long poll, if a lock is free. */

import { mergeStates, RESPONSE_TIMEOUT, setParameters } from './request-cycle.js';
import { RequestLocks } from './request-locks.js';

/** @import { WatchSet } from './protocol.js' */
/** @import { RequestCycle } from './request-cycle.js' */

/** Seconds for which the gateway holds a long poll open. */
const LONG_POLL_SECONDS = 25;
/** Milliseconds between two requests for the same job. */
const PAUSE = 2_000;
/** The pause in a hidden page, which may still notify the user of the end of a job. */
const HIDDEN_PAUSE = 10_000;

/** Runs a cycle with polling: jobs are divided into as many parts as there are locks. @param {RequestCycle} cycle */
export async function poll(cycle) {
  const { jobs } = cycle;
  const merged = cycle.sets.length > 0 ? { ...cycle, emit: mergeStates(cycle.emit) } : cycle;
  const parts = Array.from({ length: Math.min(RequestLocks.MAX, jobs.length) }, (_, part) => jobs.filter((_, i) => i % RequestLocks.MAX === part));
  const singles = parts.filter((part) => part.length === 1);
  const withLock = new Set(singles.slice(0, singles.length > 0 ? await cycle.locks.acquire(singles.length) : 0));
  const sets = cycle.sets.map((set) => pollJobs([], merged, { set }));
  return Promise.all([...sets, ...parts.map((part) => pollJobs(part, merged, { hasLock: withLock.has(part) }))]);
}

/**
 * Requests one job after the other, and again after a pause. For a `set` the list of its jobs is requested first.
 * @param {string[]} jobs @param {RequestCycle} cycle
 * @param {{ hasLock?: boolean, wantsStream?: boolean, set?: WatchSet }} [options]
 *   `hasLock`: request the only job with a long poll; `wantsStream`: begin a new cycle with a stream when a lock is free
 */
export async function pollJobs(jobs, cycle, { hasLock = false, wantsStream = false, set } = {}) {
  const { request, signal, pause, locks, environment, emit, welcome, maxHz } = cycle;
  /** @type {Map<string, string>} */
  const etags = new Map();
  /** Whether the job that was requested last was unavailable. Also at first, because an earlier cycle may have said so. */
  let unavailable = true;
  /** Whether the gateway has no quota for a long poll; it still answers other requests. */
  let full = false;
  let setEtag = '';
  while (!signal.aborted) {
    const startedAt = environment.now();
    let changed = false;
    if (set !== undefined) {
      const result = await request(`api/sets?${new URLSearchParams(setParameters('prefix', set))}`, RESPONSE_TIMEOUT, { 'if-none-match': setEtag });
      const { response } = result;
      if (signal.aborted) return;
      if (response.status < 400) welcome(result);
      if (response.status === 200) {
        const document = await response.json();
        if (signal.aborted) return;
        jobs = document.jobs;
        setEtag = response.headers.get('etag') ?? '';
        emit({ type: 'set', ...document, id: set.id, prev: null, snapshot: true });
      } else if (response.status === 503) {
        const { code, detail } = await response.json();
        if (isFull({ code })) emit({ type: 'error', id: set.id, code, message: detail });
      }
    }
    for (const job of jobs) {
      const etag = etags.get(job);
      const wait = hasLock && etag !== undefined && !unavailable && !full ? LONG_POLL_SECONDS : 0;
      const path = `api/jobs/${pathOf(job)}${wait > 0 ? `?wait=${wait}` : ''}`;
      const result = await request(path, RESPONSE_TIMEOUT + wait * 1000, etag ? { 'if-none-match': etag } : {});
      if (signal.aborted) return;
      const { status } = result.response;
      if (wait > 0 && status === 503 && isFull(await result.response.clone().json())) {
        full = true;
        continue;
      }
      if (status === 429 || status >= 500) {
        // The gateway answers, but cannot return the state of the job.
        emit({ type: 'welcome', node: result.node, time: result.time, stale: true });
        unavailable = true;
        await pause(PAUSE);
        continue;
      }
      welcome(result);
      if (unavailable) emit({ type: 'feed', stale: false });
      unavailable = false;
      etags.set(job, await deliverState(job, etag, result.response, cycle));
      changed ||= etags.get(job) !== etag;
    }
    // A long poll that returned at once without a change was not held open, so it is not repeated at once.
    const waited = hasLock && (changed || environment.now() - startedAt > PAUSE);
    const minPause = environment.hidden() ? HIDDEN_PAUSE : waited ? 0 : PAUSE;
    await pause(Math.max(minPause, maxHz === undefined ? 0 : 1000 / maxHz));
    if (wantsStream && !signal.aborted && (await locks.acquireAnother())) cycle.restart();
  }
}

/**
 * Returns the same as `pathOf` in `job-path.js`. The function is repeated, because a bundler puts a module that two
 * chunks import into a separate chunk, which `load.js` could not load again.
 * @param {string} job
 */
export function pathOf(job) {
  return /(^|\/)\.{0,2}(\/|$)|\/events$/.test(job) ? encodeURIComponent(job) : job;
}

/** Returns whether the gateway has no quota for the requested jobs. @param {any} problem */
function isFull(problem) {
  return /_full$/.test(problem?.code);
}

/**
 * Delivers the state of a job in a response, if it is new.
 * @param {string} job @param {string | undefined} etag @param {Response} response @param {RequestCycle} cycle
 * @returns {Promise<string>} its ETag; '' for an unknown job
 */
async function deliverState(job, etag, response, { emit, signal }) {
  if (response.status === 304) return etag ?? '';
  const { job: returnedJob, epoch = null, seq = 0, state = null } = await response.json();
  const unknown = response.status === 404;
  // A proxy that rewrites paths may return another job.
  if (signal.aborted || (unknown ? etag === '' : returnedJob !== job)) return etag ?? '';
  emit({ type: 'progress', job, epoch, prev: null, seq, snapshot: true, state });
  return unknown ? '' : (response.headers.get('etag') ?? `"${epoch}-${seq}"`);
}
