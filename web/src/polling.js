/** Polling: one request after the other, or a long poll, if there is a lane for it. */

import { Lanes } from './lanes.js';
import { FIRST_ANSWER, queryOf } from './round.js';

/** @import { WatchSet } from './protocol.js' */
/** @import { Round } from './round.js' */

/** Seconds that the gateway holds a long poll. */
const WAIT = 25;
const PAUSE = 2_000;
/** The pause in a hidden page, which may still notify the user of an end. */
const HIDDEN_PAUSE = 10_000;

/** @param {Round} round */
export function poll(round) {
  const { jobs } = round;
  const parts = Array.from({ length: Math.min(Lanes.MOST, jobs.length) }, (_, part) => jobs.filter((_, i) => i % Lanes.MOST === part));
  const sets = round.sets.map((set) => pollSome([], round, true, set));
  return Promise.all([...sets, ...parts.map((part) => pollSome(part, round, true))]);
}

/**
 * Request one job after the other, and again after a pause. A single job is requested with a long
 * poll, if a lane is free; if a stream would be better, a lane is requested each time. For a `set`
 * the list of its jobs is requested first.
 * @param {string[]} jobs @param {Round} round @param {boolean} [long] @param {WatchSet} [set]
 */
export async function pollSome(jobs, round, long = false, set) {
  const { request, signal, pause, lanes, environment, emit, welcome, maxHz } = round;
  const held = long && jobs.length === 1 && (await lanes.acquire(1)) > 0;
  /** @type {Map<string, string>} */
  const tags = new Map();
  let unavailable = false;
  /** Whether the gateway has no room for a long poll: it answers those that do not wait. */
  let full = false;
  let setTag = '';
  while (!signal.aborted) {
    const began = environment.now();
    let news = false;
    if (set !== undefined) {
      const answer = await request(`api/sets?${new URLSearchParams(queryOf('prefix', set))}`, FIRST_ANSWER, { 'if-none-match': setTag });
      const { response } = answer;
      if (signal.aborted) return;
      if (response.status < 400) welcome(answer);
      if (response.status === 200) {
        const document = await response.json();
        if (signal.aborted) return;
        jobs = document.jobs;
        setTag = response.headers.get('etag') ?? '';
        emit({ type: 'set', ...document, id: set.id, prev: null, snapshot: true });
      } else if (response.status === 503) {
        const { code, detail } = await response.json();
        if (isFull({ code })) emit({ type: 'error', id: set.id, code, message: detail });
      }
    }
    for (const job of jobs) {
      const tag = tags.get(job);
      const wait = held && tag !== undefined && !unavailable && !full ? WAIT : 0;
      const path = `api/jobs/${pathOf(job)}${wait > 0 ? `?wait=${wait}` : ''}`;
      const answer = await request(path, FIRST_ANSWER + wait * 1000, tag ? { 'if-none-match': tag } : {});
      if (signal.aborted) return;
      const { status } = answer.response;
      if (wait > 0 && status === 503 && isFull(await answer.response.clone().json())) {
        full = true;
        continue;
      }
      if (status === 429 || status >= 500) {
        // The gateway answers, but cannot return the state of the job.
        emit({ type: 'welcome', node: answer.node, time: answer.time, stale: true });
        unavailable = true;
        await pause(PAUSE);
        continue;
      }
      welcome(answer);
      if (unavailable) emit({ type: 'feed', stale: false });
      unavailable = false;
      tags.set(job, await report(job, tag, answer.response, round));
      news ||= tags.get(job) !== tag;
    }
    // A long poll that returned immediately without a change was not held open.
    const waited = held && (news || environment.now() - began > PAUSE);
    const rest = environment.hidden() ? HIDDEN_PAUSE : waited ? 0 : PAUSE;
    await pause(Math.max(rest, maxHz === undefined ? 0 : 1000 / maxHz));
    if (!long && !signal.aborted && (await lanes.available())) round.again();
  }
}

/**
 * The same as in `path.js`. It is repeated because a module that the fallback shared with another chunk
 * would be a chunk of its own, which `load.js` could not load again.
 * @param {string} job
 */
export function pathOf(job) {
  return /(^|\/)\.{0,2}(\/|$)|\/events$/.test(job) ? encodeURIComponent(job) : job;
}

/** @param {any} problem  whether the gateway has no room for what was asked, and for nothing else */
function isFull(problem) {
  return /_full$/.test(problem?.code);
}

/**
 * Deliver the state of a job in a response, if it is new.
 * @param {string} job @param {string | undefined} tag @param {Response} response @param {Round} round
 * @returns {Promise<string>} its ETag; '' for an unknown job
 */
async function report(job, tag, response, { emit, signal }) {
  if (response.status === 304) return tag ?? '';
  const { job: of, epoch = null, seq = 0, state = null } = await response.json();
  const unknown = response.status === 404;
  // A proxy that rewrites paths may return another job.
  if (signal.aborted || (unknown ? tag === '' : of !== job)) return tag ?? '';
  emit({ type: 'progress', job, epoch, prev: null, seq, snapshot: true, state });
  return unknown ? '' : (response.headers.get('etag') ?? `"${epoch}-${seq}"`);
}
