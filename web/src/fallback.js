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

import { ABNORMAL, JOB_ID, UNAUTHORIZED } from './http-constants.js';
import { RequestLocks } from './request-locks.js';
import { poll } from './polling.js';
import { RESPONSE_TIMEOUT } from './request-cycle.js';
import { stream } from './sse.js';

/** @import { Environment } from './environment.js' */
/** @import { Command, Frame, WatchSet } from './protocol.js' */
/** @import { Transport, TransportEvents } from './connect.js' */
/** @import { GatewayResponse, RequestCycle } from './request-cycle.js' */

const CHECK_DEADLINE = 5_000;
/** A path that pages of every origin may read. */
const HEALTH = 'healthz';

/** @param {string} url @param {Environment} environment @param {TransportEvents} events */
export const openStream = (url, environment, events) => openHttp(url, environment, events, stream);

/** @param {string} url @param {Environment} environment @param {TransportEvents} events */
export const openPolling = (url, environment, events) => openHttp(url, environment, events, poll);

/**
 * @param {string} url  of the gateway's `/ws`
 * @param {Environment} environment
 * @param {TransportEvents} events
 * @param {(round: RequestCycle) => Promise<unknown>} runCycle
 * @returns {Transport}
 */
function openHttp(url, environment, events, runCycle) {
  const base = url.replace(/^ws/, 'http');
  const locks = new RequestLocks(environment);
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
  const first = environment.setTimeout(() => end(ABNORMAL, 'no data'), RESPONSE_TIMEOUT);
  const unwake = environment.onWake(() => {
    if (hidden === environment.hidden()) return;
    hidden = !hidden;
    if (hidden) locks.release();
    soon();
  });

  function end(code = 1000, reason = '', blocked = !welcomed) {
    if (ended) return;
    ended = true;
    unwake();
    environment.clearTimeout(first);
    controller.abort();
    locks.release();
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

  /** @param {GatewayResponse} answer */
  function welcome({ node, time }) {
    if (!welcomed) emit({ type: 'welcome', node, time });
  }

  /**
   * @param {AbortSignal} signal
   * @returns {RequestCycle['request']}
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
    runCycle({
      jobs: [...wanted], sets: [...sets.values()], signal, locks, maxHz, request: requester(signal), welcome, emit, restart: soon, end, environment, events,
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
