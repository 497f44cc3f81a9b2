/**
 * Requests to a job's worker, such as to cancel it, and their status: see `docs/control.md`.
 *
 * A request is shown as open when the job's state has it, and not at the click: the state has the
 * request when the gateway has accepted it.
 */

import { isNewer } from './jobs.js';
import { RequestError, sendRequest } from './send-request.js';
import { connect, credentialsOf } from './settings.js';
import { isFinal } from './state.js';

/** @import { Connection } from './connection.js' */
/** @import { Position, State } from './protocol.js' */
/** @import { RequestAnswer } from './send-request.js' */

/** The verb that no other request replaces. It is finished only when the job has ended. */
const CANCEL = 'cancel';
/**
 * The status of a job's newest request.
 *
 * - `none`: there is none that matters any more
 * - `sending`: on its way from this page to the gateway
 * - `open`: the gateway has it; of a cancel: until the job ends
 * - `unanswered`: the same, but the worker does not report
 * - `seen`: the worker knows of it
 * - `refused`: the worker does not do it, see `reason`
 * - `failed`: the gateway did not take it, see `error`
 *
 * @typedef {'none' | 'sending' | 'open' | 'unanswered' | 'seen' | 'refused' | 'failed'} Phase
 */

/**
 * @typedef {object} RequestStatus
 * @property {readonly string[]} accepts   what the job accepts now
 * @property {string | null} verb          what the newest request asks for
 * @property {Phase} phase
 * @property {string | null} reason        why the worker refused
 * @property {RequestError | null} error   why the gateway did not take it
 */

/**
 * The status of the request in a state.
 * @param {State | null} state
 * @returns {Phase}
 */
export function phaseOf(state) {
  const request = state?.request;
  if (state === null || !request || isFinal(state)) return 'none';
  if (request.refused !== undefined) return 'refused';
  if (request.verb !== CANCEL && request.seen_at !== undefined) return 'seen';
  return state.health === 'stalled' || state.health === 'lost' ? 'unanswered' : 'open';
}

/**
 * Whether sending this request now would have no effect.
 * @param {RequestStatus} status @param {string} verb
 */
export function isOpen({ phase, verb: asked }, verb) {
  return phase === 'sending' || ((phase === 'open' || phase === 'unanswered') && (asked === verb || asked === CANCEL));
}

/**
 * `before`: the id of the request that the state had when this one was sent.
 * @typedef {{ verb: string, attempt: number, before: string | undefined, taken: Position | null, error: RequestError | null }} SentRequest
 */

/**
 * The requests of a job, as this page sees and makes them. The value of `get` is the same
 * until something changes. The job is watched only while there is a subscriber.
 *
 * @param {string} job
 * @param {string | URL} [gateway]
 * @param {Connection} [connection]  to that gateway
 */
export function requestStore(job, gateway, connection = connect(gateway)) {
  /** @type {Set<() => void>} */
  const listeners = new Set();
  let stop = () => {};
  /** The request that this page has sent, until the state has it. @type {SentRequest | null} */
  let own = null;
  let value = read();

  /** @returns {RequestStatus} */
  function read() {
    const watched = connection.peek(job);
    const state = watched?.state ?? null;
    const ended = state === null || isFinal(state);
    if (own?.taken && (ended || watched === null || !isNewer(own.taken, watched))) own = null;
    // A request without an answer may have arrived: then the state has another request than before.
    if (own?.error && (ended || (state.attempt ?? 1) !== own.attempt || state.request?.id !== own.before)) own = null;
    const phase = own === null ? phaseOf(state) : own.error === null ? 'sending' : 'failed';
    return Object.freeze({
      accepts: Object.freeze(ended ? [] : [...(state.accepts ?? [])]),
      verb: own?.verb ?? (phase === 'none' ? null : (state?.request?.verb ?? null)),
      phase,
      reason: phase === 'refused' ? (state?.request?.refused ?? null) : null,
      error: own?.error ?? null,
    });
  }

  function refresh() {
    const next = read();
    if (next.error === value.error && JSON.stringify(next) === JSON.stringify(value)) return;
    value = next;
    for (const listener of [...listeners]) listener();
  }

  /** @param {SentRequest | null} next */
  function set(next) {
    own = next;
    refresh();
  }

  return {
    get: () => value,

    /** @param {() => void} changed */
    subscribe(changed) {
      const listener = () => changed();
      listeners.add(listener);
      if (listeners.size === 1) {
        stop = connection.watch(job, refresh);
        refresh();
      }
      return () => {
        if (listeners.delete(listener) && listeners.size === 0) stop();
      };
    },

    /**
     * Ask for something of the attempt that is shown. While that is open already, nothing happens.
     * @param {string} verb @param {{ args?: unknown }} [options]
     * @returns {Promise<RequestAnswer | null>} null: nothing happened
     * @throws {RequestError}
     */
    async ask(verb, { args } = {}) {
      refresh();
      if (isOpen(value, verb)) return null;
      const { attempt, request } = connection.peek(job)?.state ?? {};
      /** @type {SentRequest} */
      const asked = { verb, attempt: attempt ?? 1, before: request?.id, taken: null, error: null };
      set(asked);
      try {
        const answer = await sendRequest(credentialsOf(gateway), job, verb, { args, ...(attempt !== undefined && { attempt }) });
        set({ ...asked, taken: answer });
        return answer;
      } catch (cause) {
        const error = cause instanceof RequestError ? cause : new RequestError(cause instanceof Error ? cause.message : String(cause), { cause });
        set({ ...asked, error });
        throw error;
      }
    },
  };
}
