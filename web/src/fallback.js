/**
 * Lines for where WebSockets do not get through: the same frames over plain HTTP,
 * as Server-Sent Events, or, where a proxy holds those back, by long polling.
 * The gateway cannot be told anything on these, so what is wanted is in the
 * address: each change of the wanted set asks anew, and snapshots answer.
 *
 * With `fetch` instead of `EventSource`: it can send a token in a header, where
 * no log keeps it, and tells how a request failed.
 */

import { ABNORMAL } from './line.js';
import { TOKEN_EXPIRED } from './protocol.js';

/** @import { Environment } from './environment.js' */
/** @import { Line, LineEvents } from './line.js' */
/** @import { Command, Frame } from './protocol.js' */

/** Like a WebSocket's: nothing came through within this time. */
const FIRST_WORD = 10_000;
const CHECK_DEADLINE = 5_000;
/** The gateway pings after 25 s of silence. */
const SILENCE = 40_000;
/** The gateway's limit of jobs in a stream, and a request head that every proxy takes. */
const STREAM_JOBS = 100;
const STREAM_BYTES = 4_000;
/** A browser opens six connections to a host, of which the page needs some. */
const LANES = 4;
const WAIT = 25;
const PAUSE = 2_000;
/** One wrong id would have the whole request refused. */
const JOB_ID = /^[\w.:/@-]{1,200}$/;

/**
 * What brings the frames of some jobs until `signal` says that others are wanted.
 * @typedef {object} Carried
 * @property {string[]} jobs
 * @property {AbortSignal} signal
 * @property {(path: string, deadline: number, headers?: Record<string, string>) => Promise<Response>} request
 *   fails if nobody answers within the deadline
 * @property {(ms: number) => Promise<void>} pause
 * @property {(frame: Frame) => void} emit
 * @property {(code: number, reason: string, blocked?: boolean) => void} end
 * @property {Environment} environment
 * @property {LineEvents} events
 */

/** @param {string} url @param {Environment} environment @param {LineEvents} events */
export const openStream = (url, environment, events) => openHttp(url, environment, events, stream);

/** @param {string} url @param {Environment} environment @param {LineEvents} events */
export const openPolling = (url, environment, events) => openHttp(url, environment, events, poll);

/**
 * @param {string} url  of the gateway's `/ws`
 * @param {Environment} environment
 * @param {LineEvents} events
 * @param {(carried: Carried) => Promise<unknown>} carry
 * @returns {Line}
 */
function openHttp(url, environment, events, carry) {
  const base = url.replace(/^ws/, 'http');
  /** @type {Set<string>} */
  const wanted = new Set();
  /** @type {string | null} */
  let token = null;
  let ended = false;
  let welcomed = false;
  let round = new AbortController();
  let due = false;
  const first = environment.setTimeout(() => end(ABNORMAL, 'no data'), FIRST_WORD);

  /** @param {number} code @param {string} reason @param {boolean} [blocked] */
  function end(code, reason, blocked = !welcomed) {
    if (ended) return;
    ended = true;
    environment.clearTimeout(first);
    round.abort();
    // Whoever was told why got through.
    events.ended(code, reason, blocked && code === ABNORMAL);
  }

  /** @param {Frame} frame */
  function emit(frame) {
    if (ended) return;
    // Each stream begins with a welcome, and only the first is this line's.
    if (frame.type === 'welcome' && welcomed) return events.frame({ type: 'feed', stale: frame.stale === true });
    if (frame.type === 'welcome') {
      welcomed = true;
      environment.clearTimeout(first);
    }
    events.frame(frame);
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Carried['request']}
   */
  const requester = (signal) => async (path, deadline, headers = {}) => {
    const late = new AbortController();
    const stop = () => late.abort();
    signal.addEventListener('abort', stop);
    const timer = environment.setTimeout(stop, deadline);
    if (token !== null) headers['authorization'] = `Bearer ${token}`;
    try {
      const response = await environment.fetch(new URL(path, base).href, { headers, signal: late.signal, cache: 'no-store' });
      if (response.status === 401) end(TOKEN_EXPIRED, 'token refused');
      else if (response.status === 403) end(4500, 'forbidden');
      return response;
    } finally {
      environment.clearTimeout(timer);
      signal.removeEventListener('abort', stop);
    }
  };

  /** Whether anybody answers; the first time it says who. */
  async function check() {
    const asked = environment.now();
    const { signal } = round;
    try {
      const { node } = await (await requester(signal)('healthz', CHECK_DEADLINE)).json();
      if (ended) return;
      if (welcomed) events.roundTrip(environment.now() - asked);
      else emit({ type: 'welcome', node, time: environment.now() / 1000 });
    } catch (error) {
      if (!signal.aborted) end(ABNORMAL, String(error));
    }
  }

  /** Ask for what is wanted now. */
  function turn() {
    due = false;
    round.abort();
    if (ended) return;
    round = new AbortController();
    const { signal } = round;
    const pause = (/** @type {number} */ ms) => new Promise((/** @type {(value: void) => void} */ done) => environment.setTimeout(done, ms));
    if (wanted.size === 0) return void check();
    const carried = { jobs: [...wanted], signal, request: requester(signal), pause, emit, end, environment, events };
    carry(carried).catch((error) => {
      if (!signal.aborted) end(ABNORMAL, String(error));
    });
  }

  /** @param {number | null} id @param {Record<string, string>} denied */
  function answer(id, denied) {
    emit({ type: 'subscriptions', id, added: [], removed: [], unchanged: 0, denied });
  }

  /** @param {Command} command */
  function send(command) {
    if (ended) return;
    if (command.type === 'hello') token = command.token ?? token;
    if (!('jobs' in command)) return;
    if (command.type === 'sync_subscriptions') wanted.clear();
    /** @type {Record<string, string>} */
    const denied = {};
    for (const job of command.jobs) {
      if (command.type === 'unsubscribe') wanted.delete(job);
      else if (JOB_ID.test(job)) wanted.add(job);
      else denied[job] = 'invalid_job';
    }
    environment.queueMicrotask(() => {
      if (ended) return;
      answer(command.id, denied);
      if (!due) environment.queueMicrotask(turn);
      due = true;
    });
  }

  environment.queueMicrotask(() => ended || events.opened());
  return { send, check: () => void check(), end };
}

// -- Server-Sent Events ---------------------------------------------------------

/** @param {Carried} carried */
function stream(carried) {
  /** @type {string[][]} */
  const slices = [];
  let room = 0;
  for (const job of carried.jobs) {
    const size = encodeURIComponent(job).length + 5;
    if (size > room || (slices.at(-1)?.length ?? STREAM_JOBS) >= STREAM_JOBS) {
      slices.push([]);
      room = STREAM_BYTES;
    }
    room -= size;
    slices.at(-1)?.push(job);
  }
  const denied = Object.fromEntries(slices.splice(LANES).flat().map((job) => [job, 'too_many_jobs']));
  carried.emit({ type: 'subscriptions', id: null, added: [], removed: [], unchanged: 0, denied });
  return Promise.all(slices.map((jobs) => streamSome(jobs, carried)));
}

/** @param {string[]} jobs @param {Carried} carried */
async function streamSome(jobs, { request, signal, emit, end, environment, events }) {
  const query = new URLSearchParams(jobs.map((job) => ['job', job]));
  const response = await request(`api/events?${query}`, FIRST_WORD);
  if (!response.ok || response.body === null) return end(ABNORMAL, `answered by ${response.status}`);
  const reader = response.body.getReader();
  signal.addEventListener('abort', () => void reader.cancel().catch(() => {}));
  const decoder = new TextDecoder();
  let rest = '';
  let heard = false;
  for (;;) {
    // A proxy that waits for the end of a stream before it passes it on lets nothing through.
    const timer = environment.setTimeout(
      () => signal.aborted || end(ABNORMAL, heard ? 'silence' : 'no data', !heard),
      heard ? SILENCE : FIRST_WORD,
    );
    const { done, value } = await reader.read().finally(() => environment.clearTimeout(timer));
    if (signal.aborted) return;
    if (done) return end(ABNORMAL, 'the stream ended', !heard);
    heard = true;
    rest += decoder.decode(value, { stream: true });
    const lines = rest.split(/\r?\n/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (!line.startsWith('data:') || signal.aborted) continue;
      try {
        emit(JSON.parse(line.slice(5)));
      } catch {
        events.malformed(line);
      }
    }
  }
}

// -- long polling -----------------------------------------------------------------

/** @param {Carried} carried */
function poll(carried) {
  const { jobs } = carried;
  const lanes = Array.from({ length: Math.min(LANES, jobs.length) }, (_, lane) => jobs.filter((_, i) => i % LANES === lane));
  return Promise.all(lanes.map((lane) => pollSome(lane, carried)));
}

/** @param {string[]} jobs @param {Carried} carried */
async function pollSome(jobs, carried) {
  const { request, signal, pause } = carried;
  /** @type {Map<string, string>} */
  const tags = new Map();
  while (!signal.aborted) {
    for (const job of jobs) {
      const tag = tags.get(job);
      const wait = tag !== undefined && jobs.length === 1 ? WAIT : 0;
      const path = `api/jobs/${job}${wait > 0 ? `?wait=${wait}` : ''}`;
      const response = await request(path, FIRST_WORD + wait * 1000, tag ? { 'if-none-match': tag } : {});
      if (signal.aborted) return;
      tags.set(job, await say(job, tag, response, carried));
    }
    if (jobs.length > 1) await pause(PAUSE);
  }
}

/**
 * What a response says of a job, if it is news.
 * @param {string} job @param {string | undefined} tag @param {Response} response @param {Carried} carried
 * @returns {Promise<string>} its tag; '' for a job never seen
 */
async function say(job, tag, response, carried) {
  const { emit, environment, signal } = carried;
  const time = Date.parse(response.headers.get('date') ?? '') || environment.now();
  if (tag === undefined) emit({ type: 'welcome', node: '', time: time / 1000 });
  if (response.status === 304) return tag ?? '';
  if (response.status === 404) {
    if (tag !== '') emit({ type: 'progress', job, epoch: null, prev: null, seq: 0, snapshot: true, state: null });
    return '';
  }
  if (!response.ok) throw new Error(`answered by ${response.status}`);
  const { epoch, seq, state } = await response.json();
  if (!signal.aborted) emit({ type: 'progress', job, epoch, prev: null, seq, snapshot: true, state });
  return response.headers.get('etag') ?? `"${epoch}-${seq}"`;
}
