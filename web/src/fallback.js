/**
 * Transports without WebSockets: the same frames over plain HTTP, as Server-Sent Events, or, if a
 * proxy buffers those, by polling. They cannot send commands, so the URL has the wanted jobs: each
 * change of the wanted jobs makes a new request, and snapshots are the answer.
 *
 * Responses that are not a gateway's are ignored (`gatewayOf` reads its header): the 404 of a proxy
 * during an outage does not mean that a job is unknown.
 *
 * They use `fetch` instead of `EventSource`, because it can send the token in a header, which no log
 * stores, and because it shows how a request has failed.
 */

import { ABNORMAL, JOB_ID, MAX_STREAM_JOBS, PING_INTERVAL, UNAUTHORIZED } from './http-constants.js';
import { Lanes } from './lanes.js';
import { pathOf } from './path.js';

/** @import { Environment } from './environment.js' */
/** @import { Command, Frame, WatchSet } from './protocol.js' */
/** @import { Transport, TransportEvents } from './connect.js' */

/** The timeout of a connection attempt, as for a WebSocket. */
const FIRST_ANSWER = 10_000;
const CHECK_DEADLINE = 5_000;
/** The gateway pings after 25 s of silence. */
const SILENCE = (PING_INTERVAL + 15) * 1000;
/** The size of a request head that every proxy accepts. */
const STREAM_BYTES = 4_000;
/** A path that pages of every origin may read. */
const HEALTH = 'healthz';
const WAIT = 25;
const PAUSE = 2_000;
/** The pause in a hidden page, which may still notify the user of an end. */
const HIDDEN_PAUSE = 10_000;

/**
 * Delivers the frames of some jobs until `signal`, because other jobs are wanted.
 * @typedef {object} Round
 * @property {string[]} jobs
 * @property {WatchSet[]} sets
 * @property {AbortSignal} signal
 * @property {Lanes} lanes
 * @property {number | undefined} maxHz
 * @property {(path: string, deadline: number, headers?: Record<string, string>) => Promise<Answer>} request
 * @property {(ms: number) => Promise<void>} pause
 * @property {(answer: Answer) => void} welcome
 * @property {(frame: Frame) => void} emit
 * @property {() => void} again  restart the round
 * @property {(code: number, reason: string, blocked?: boolean) => void} end
 * @property {Environment} environment
 * @property {TransportEvents} events
 */

/** @typedef {{ response: Response, node: string, time: number }} Answer */

/** @param {string} url @param {Environment} environment @param {TransportEvents} events */
export const openStream = (url, environment, events) => openHttp(url, environment, events, stream);

/** @param {string} url @param {Environment} environment @param {TransportEvents} events */
export const openPolling = (url, environment, events) => openHttp(url, environment, events, poll);

/**
 * @param {string} url  of the gateway's `/ws`
 * @param {Environment} environment
 * @param {TransportEvents} events
 * @param {(round: Round) => Promise<unknown>} carry
 * @returns {Transport}
 */
function openHttp(url, environment, events, carry) {
  const base = url.replace(/^ws/, 'http');
  const lanes = new Lanes(environment);
  /** @type {Set<string>} */
  const wanted = new Set();
  /** @type {Map<string, WatchSet>} */
  const sets = new Map();
  /** @type {string | undefined} */
  let token;
  /** @type {number | undefined} */
  let maxHz;
  /** The id of the command to acknowledge when the gateway answers. @type {number | null} */
  let asked = null;
  let ended = false;
  let welcomed = false;
  let hidden = environment.hidden();
  let controller = new AbortController();
  let due = false;
  const first = environment.setTimeout(() => end(ABNORMAL, 'no data'), FIRST_ANSWER);
  const unwake = environment.onWake(() => {
    if (hidden === environment.hidden()) return;
    hidden = !hidden;
    if (hidden) lanes.release();
    soon();
  });

  function end(code = 1000, reason = '', blocked = !welcomed) {
    if (ended) return;
    ended = true;
    unwake();
    environment.clearTimeout(first);
    controller.abort();
    lanes.release();
    // With a reason the gateway has answered, so the transport is not blocked.
    events.ended(code, reason, blocked && code === ABNORMAL);
  }

  /** @param {Frame} frame */
  function emit(frame) {
    if (ended) return;
    if (frame.type !== 'welcome') return events.frame(frame);
    // Each stream begins with a welcome. Only the first one counts for this transport.
    events.frame(welcomed ? { type: 'feed', stale: frame.stale === true } : frame);
    welcomed = true;
    environment.clearTimeout(first);
    if (asked !== null) answer(asked, {});
    asked = null;
  }

  /** @param {Answer} answer */
  function welcome({ node, time }) {
    if (!welcomed) emit({ type: 'welcome', node, time });
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Round['request']}
   */
  const requester = (signal) => async (path, deadline, headers = {}) => {
    const late = new AbortController();
    const stop = () => late.abort();
    signal.addEventListener('abort', stop);
    const timer = environment.setTimeout(stop, deadline);
    // Without headers that need a preflight, so that a refused page can read the reason.
    if (token !== undefined && path !== HEALTH) headers['authorization'] = `Bearer ${token}`;
    try {
      const response = await environment.fetch(new URL(path, base).href, { headers, signal: late.signal, cache: 'no-store' });
      const gateway = gatewayOf(response);
      if (gateway === null) throw new Error(`answered with ${response.status}, but not by a gateway`);
      if (response.status === 401 || response.status === 403) {
        const { close_code: code = UNAUTHORIZED, detail = 'not allowed' } = await response.json();
        if (!signal.aborted) end(code, detail); // otherwise the answer is to an earlier token
      }
      return { ...gateway, response };
    } finally {
      environment.clearTimeout(timer);
      signal.removeEventListener('abort', stop);
    }
  };

  /** Request any answer of the gateway; ends the transport if it refuses this page. @param {AbortSignal} signal */
  async function health(signal) {
    const answer = await requester(signal)(HEALTH, CHECK_DEADLINE);
    const { close_code: code, detail } = await answer.response.json();
    if (code !== undefined) end(code, detail);
    return answer;
  }

  /** Check whether a gateway answers. The first answer also has the node's name. */
  async function check() {
    const sent = environment.now();
    const { signal } = controller;
    try {
      const answer = await health(signal);
      if (welcomed) events.pong(environment.now() - sent, answer.time);
      else welcome(answer);
    } catch (error) {
      if (!signal.aborted) end(ABNORMAL, String(error));
    }
  }

  /** Request the jobs and sets that are wanted now. */
  function begin() {
    due = false;
    controller.abort();
    if (ended) return;
    controller = new AbortController();
    const { signal } = controller;
    if (wanted.size + sets.size === 0) return void check();
    carry({
      jobs: [...wanted], sets: [...sets.values()], signal, lanes, maxHz, request: requester(signal), welcome, emit, again: soon, end, environment, events,
      pause: (ms) => new Promise((done) => void environment.setTimeout(done, ms)),
    }).catch(async (error) => {
      // A browser does not show why a page of a forbidden origin gets no answer, so ask the gateway.
      if (!welcomed && !signal.aborted && error instanceof TypeError) await health(signal).catch(() => {});
      if (!signal.aborted) end(ABNORMAL, String(error));
    });
  }

  /** Begin a round after all changes of the current task. */
  function soon() {
    if (!due) environment.queueMicrotask(begin);
    due = true;
  }

  /** @param {number | null} id @param {Record<string, string>} denied */
  function answer(id, denied) {
    emit({ type: 'subscriptions', id, added: [], removed: [], unchanged: 0, denied });
  }

  /** @param {Command} command */
  function send(command) {
    if (ended) return;
    if (command.type === 'hello') {
      if (command.max_hz !== undefined) maxHz = command.max_hz;
      const renewed = token !== undefined && command.token !== undefined && command.token !== token;
      token = command.token ?? token;
      if (renewed) soon();
    }
    if (command.type === 'watch_set' || command.type === 'unwatch_set') {
      if (command.type === 'watch_set') sets.set(command.id, command);
      else sets.delete(command.id);
      soon();
    }
    if (!('jobs' in command)) return;
    if (command.type === 'sync_subscriptions') wanted.clear();
    /** @type {Record<string, string>} */
    const denied = {};
    for (const job of command.jobs) {
      if (command.type === 'unsubscribe') wanted.delete(job);
      else if (JOB_ID.test(job)) wanted.add(job); // with one invalid id the whole request would be refused
      else denied[job] = 'invalid_job';
    }
    asked = command.id;
    environment.queueMicrotask(() => {
      if (ended) return;
      answer(null, denied);
      soon();
    });
  }

  environment.queueMicrotask(() => ended || events.opened?.());
  return { send, check: () => void check(), end };
}

/**
 * The node that has answered, and its time; null: the response is not a gateway's. The header is
 * `Progress-Gateway: <node>`.
 * @param {Response} response
 */
function gatewayOf({ headers }) {
  const node = headers.get('progress-gateway');
  return node === null ? null : { node, time: Date.parse(headers.get('date') ?? '') / 1000 };
}

// -- Server-Sent Events ---------------------------------------------------------

/** @param {Round} round */
async function stream(round) {
  /** @type {string[][]} */
  const slices = [];
  let room = 0;
  for (const job of round.jobs) {
    const size = encodeURIComponent(job).length + 5;
    if (size > room || (slices.at(-1)?.length ?? MAX_STREAM_JOBS) >= MAX_STREAM_JOBS) {
      slices.push([]);
      room = STREAM_BYTES;
    }
    room -= size;
    slices.at(-1)?.push(job);
  }
  const sets = [...round.sets];
  const once = sets.length > 0 ? { ...round, emit: inOrder(round.emit) } : round;
  const streams = await round.lanes.acquire(sets.length + slices.length);
  const otherSets = sets.splice(streams);
  const rest = slices.splice(streams - sets.length).flat();
  return Promise.all([
    ...sets.map((set) => streamSome(queryOf('set', set), { ...once, emit: named(set.id, once.emit) })),
    ...slices.map((jobs) => streamSome(jobs.map((job) => ['job', job]), once)),
    ...otherSets.map((set) => pollSome([], once, false, set)),
    ...(rest.length > 0 ? [pollSome(rest, once)] : []),
  ]);
}

/**
 * Filters frames of jobs that are in several streams (of sets, and by name): events that one stream
 * has delivered are dropped in the others, and frames that do not continue the position are changed.
 * @param {Round['emit']} emit
 * @returns {Round['emit']}
 */
function inOrder(emit) {
  /** @type {Map<string, { epoch: number | null, seq: number }>} */
  const delivered = new Map();
  return (frame) => {
    if (frame.type !== 'progress') return emit(frame);
    const { job, epoch, seq, prev, snapshot } = frame;
    const before = delivered.get(job);
    if (before !== undefined && before.epoch === epoch && seq <= before.seq && seq > 0) return;
    delivered.set(job, { epoch, seq });
    emit(!snapshot && (before?.epoch !== epoch || before.seq !== prev) ? { ...frame, prev: null, snapshot: true } : frame);
  };
}

/** Over HTTP a set has no id. @param {string} id @param {Round['emit']} emit @returns {Round['emit']} */
function named(id, emit) {
  return (frame) => emit(frame.type === 'set' ? { ...frame, id } : frame);
}

/** @param {string} name  the parameter of the prefix @param {WatchSet} set @returns {string[][]} */
function queryOf(name, { prefix, statuses, limit }) {
  return [[name, prefix], ...(statuses ? [['statuses', statuses.join()]] : []), ...(limit !== undefined ? [['limit', String(limit)]] : [])];
}

/** @param {string[][]} parameters @param {Round} round */
async function streamSome(parameters, { request, signal, emit, end, environment, events, maxHz }) {
  const query = new URLSearchParams(parameters);
  if (maxHz !== undefined) query.set('max_hz', String(maxHz));
  const { response } = await request(`api/events?${query}`, FIRST_ANSWER);
  if (!response.ok || response.body === null) return end(ABNORMAL, `answered with ${response.status}`);
  const reader = response.body.getReader();
  signal.addEventListener('abort', () => void reader.cancel().catch(() => {}));
  const decoder = new TextDecoder();
  let rest = '';
  let heard = false;
  for (;;) {
    // A proxy that buffers a stream until its end forwards nothing.
    const timer = environment.setTimeout(
      () => signal.aborted || end(ABNORMAL, heard ? 'silence' : 'no data', !heard),
      heard ? SILENCE : FIRST_ANSWER,
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

// -- polling ----------------------------------------------------------------------

/** @param {Round} round */
function poll(round) {
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
async function pollSome(jobs, round, long = false, set) {
  const { request, signal, pause, lanes, environment, emit, welcome, maxHz } = round;
  const held = long && jobs.length === 1 && (await lanes.acquire(1)) > 0;
  /** @type {Map<string, string>} */
  const tags = new Map();
  let unavailable = false;
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
      }
    }
    for (const job of jobs) {
      const tag = tags.get(job);
      const wait = held && tag !== undefined && !unavailable ? WAIT : 0;
      const path = `api/jobs/${pathOf(job)}${wait > 0 ? `?wait=${wait}` : ''}`;
      const answer = await request(path, FIRST_ANSWER + wait * 1000, tag ? { 'if-none-match': tag } : {});
      if (signal.aborted) return;
      const { status } = answer.response;
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
