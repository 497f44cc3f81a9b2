/**
 * Transports without WebSockets. They receive the same frames over HTTP, as Server-Sent Events, or, if a proxy buffers
 * those, by polling. They cannot send commands, so the URL contains the wanted jobs. Each change of the wanted jobs
 * causes new requests, which are answered with snapshots.
 *
 * Responses that are not a gateway's are ignored (`gatewayOf` reads its header): the 404 of a proxy
 * during an outage does not mean that a job is unknown.
 *
 * They use `fetch` instead of `EventSource`, because `fetch` can send the token in a header, which logs do not contain,
 * and because it shows why a request has failed.
 */

import { ABNORMAL, JOB_ID, UNAUTHORIZED } from './http-constants.js';
import { poll } from './polling.js';
import { RESPONSE_TIMEOUT } from './request-cycle.js';
import { RequestLocks } from './request-locks.js';
import { stream } from './sse.js';

/** @import { Environment } from './environment.js' */
/** @import { Transport, TransportEvents } from './open-transport.js' */
/** @import { Command, Frame, WatchSet } from './protocol.js' */
/** @import { GatewayResponse, RequestCycle } from './request-cycle.js' */

const CHECK_TIMEOUT = 5_000;
/** The path of a response that pages of every origin may read. */
const HEALTH_PATH = 'healthz';

/** Opens a transport with Server-Sent Events. @param {string} url @param {Environment} environment @param {TransportEvents} events */
export const openStream = (url, environment, events) => openHttp(url, environment, events, stream);

/** Opens a transport with polling. @param {string} url @param {Environment} environment @param {TransportEvents} events */
export const openPolling = (url, environment, events) => openHttp(url, environment, events, poll);

/**
 * Opens a transport.
 * @param {string} url  of the gateway's `/ws`
 * @param {Environment} environment
 * @param {TransportEvents} events
 * @param {(cycle: RequestCycle) => Promise<unknown>} runCycle
 * @returns {Transport}
 */
function openHttp(url, environment, events, runCycle) {
  const base = url.replace(/^ws/, 'http');
  const locks = new RequestLocks(environment);
  /** @type {Set<string>} */
  const wantedJobs = new Set();
  /** @type {Map<string, WatchSet>} */
  const sets = new Map();
  /** @type {string | undefined} */
  let token;
  /** @type {number | undefined} */
  let maxHz;
  /** The id of the command to acknowledge when the gateway has answered; null: there is none. @type {number | null} */
  let pendingCommandId = null;
  let ended = false;
  /** Whether the page has received states before, perhaps from a faster node. */
  let resumed = false;
  /** Whether the gateway has answered a request. */
  let answered = false;
  let welcomed = false;
  let hidden = environment.hidden();
  let cycleController = new AbortController();
  let cycleScheduled = false;
  const firstTimer = environment.setTimeout(() => end(ABNORMAL, 'no data'), RESPONSE_TIMEOUT);
  const stopObserving = environment.onWake(() => {
    if (hidden === environment.hidden()) return;
    hidden = !hidden;
    if (hidden) locks.release();
    scheduleCycle();
  });

  function end(code = 1000, reason = '', blocked = !welcomed) {
    if (ended) return;
    ended = true;
    stopObserving();
    environment.clearTimeout(firstTimer);
    cycleController.abort();
    locks.release();
    // If the gateway has refused the request, it has answered, so the transport is not blocked.
    events.onEnd(code, reason, blocked && code === ABNORMAL, answered && !welcomed && code === ABNORMAL);
  }

  /** Delivers a frame. @param {Frame} frame */
  function emit(frame) {
    if (ended) return;
    if (frame.type === 'progress') resumed = true;
    if (frame.type !== 'welcome') return events.onFrame(frame);
    // Each stream begins with a welcome. Only the first one is that of this transport.
    events.onFrame(welcomed ? { type: 'feed', stale: frame.stale === true } : frame);
    welcomed = true;
    environment.clearTimeout(firstTimer);
    if (pendingCommandId !== null) reply(pendingCommandId, {});
    pendingCommandId = null;
  }

  /** @param {GatewayResponse} result */
  function welcome({ node, time }) {
    if (!welcomed) emit({ type: 'welcome', node, time });
  }

  /**
   * Returns a function that sends a request, until `signal` ends the cycle.
   * @param {AbortSignal} signal
   * @returns {RequestCycle['request']}
   */
  const requestFunction = (signal) => async (path, timeout, headers = {}) => {
    const requestController = new AbortController();
    const abort = () => requestController.abort();
    signal.addEventListener('abort', abort);
    const timer = environment.setTimeout(abort, timeout);
    // `HEALTH_PATH` is requested without headers that need a preflight, so that a refused page can read the reason.
    if (token !== undefined && path !== HEALTH_PATH) headers['authorization'] = `Bearer ${token}`;
    try {
      const response = await environment.fetch(new URL(path, base).href, { headers, signal: requestController.signal, cache: 'no-store' });
      const gateway = gatewayOf(response);
      if (gateway === null) throw new Error(`answered with ${response.status}, but not by a gateway`);
      if (response.status === 401 || response.status === 403) {
        const { close_code: code = UNAUTHORIZED, detail = 'not allowed' } = await response.json();
        if (!signal.aborted) end(code, detail); // otherwise an earlier token was refused
      }
      return { ...gateway, response };
    } finally {
      environment.clearTimeout(timer);
      signal.removeEventListener('abort', abort);
    }
  };

  /** Requests the health of the gateway. Ends the transport if the gateway refuses this page. @param {AbortSignal} signal */
  async function requestHealth(signal) {
    const result = await requestFunction(signal)(HEALTH_PATH, CHECK_TIMEOUT);
    answered = true;
    const { close_code: code, detail } = await result.response.json();
    if (code !== undefined) end(code, detail);
    return result;
  }

  /** Returns whether the page wants nothing at present. */
  const isIdle = () => wantedJobs.size + sets.size === 0;

  /** Checks whether the gateway answers. If the page wants nothing, the first response is the welcome. */
  async function check() {
    const sentAt = environment.now();
    const { signal } = cycleController;
    try {
      const result = await requestHealth(signal);
      if (welcomed) events.onPong(environment.now() - sentAt, result.time);
      else if (isIdle()) welcome(result);
    } catch (error) {
      if (!signal.aborted) end(ABNORMAL, String(error));
    }
  }

  /**
   * Begins a cycle of requests for the jobs and sets that are wanted now. The first one is preceded by one request for
   * the health, so that an unavailable gateway gets only this one, and because only its response has the reason why an
   * origin is forbidden.
   */
  async function beginCycle() {
    cycleScheduled = false;
    cycleController.abort();
    if (ended) return;
    cycleController = new AbortController();
    const { signal } = cycleController;
    if (isIdle()) return void check();
    try {
      if (!answered) await requestHealth(signal);
      if (signal.aborted) return;
      await runCycle({
        jobs: [...wantedJobs], sets: [...sets.values()], resumed, signal, locks, maxHz, request: requestFunction(signal), welcome, emit, restart: scheduleCycle, end, environment, events,
        pause: (ms) => new Promise((done) => void environment.setTimeout(done, ms)),
      });
    } catch (error) {
      if (!signal.aborted) end(ABNORMAL, String(error));
    }
  }

  /** Begins a cycle after all changes of the current task. */
  function scheduleCycle() {
    if (!cycleScheduled) environment.queueMicrotask(() => void beginCycle());
    cycleScheduled = true;
  }

  /** Delivers the reply to a command, which the gateway would send over a WebSocket. @param {number | null} id @param {Record<string, string>} denied */
  function reply(id, denied) {
    emit({ type: 'subscriptions', id, added: [], removed: [], unchanged: 0, denied });
  }

  /** Executes a command. @param {Command} command */
  function send(command) {
    if (ended) return;
    if (command.type === 'hello') {
      if (command.max_hz !== undefined) maxHz = command.max_hz;
      if (command.positions !== undefined) resumed = true;
      const tokenChanged = token !== undefined && command.token !== undefined && command.token !== token;
      token = command.token ?? token;
      if (tokenChanged) scheduleCycle();
    }
    if (command.type === 'watch_set' || command.type === 'unwatch_set') {
      if (command.type === 'watch_set') sets.set(command.id, command);
      else sets.delete(command.id);
      scheduleCycle();
    }
    if (!('jobs' in command)) return;
    if (command.type === 'sync_subscriptions') wantedJobs.clear();
    /** @type {Record<string, string>} */
    const denied = {};
    for (const job of command.jobs) {
      if (command.type === 'unsubscribe') wantedJobs.delete(job);
      else if (JOB_ID.test(job)) wantedJobs.add(job); // with one invalid id the whole request would be refused
      else denied[job] = 'invalid_job';
    }
    pendingCommandId = command.id;
    environment.queueMicrotask(() => {
      if (ended) return;
      reply(null, denied);
      scheduleCycle();
    });
  }

  environment.queueMicrotask(() => ended || events.onOpen?.());
  return { send, check: () => void check(), end };
}

/**
 * Returns the node that has answered, from the header `Progress-Gateway: <node>`, and its time; null: the response is
 * not that of a gateway.
 * @param {Response} response
 */
function gatewayOf({ headers }) {
  const node = headers.get('progress-gateway');
  return node === null ? null : { node, time: Date.parse(headers.get('date') ?? '') / 1000 };
}
