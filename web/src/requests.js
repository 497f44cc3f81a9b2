/**
 * Requests to a job's worker, such as `cancel`, and their status: see `docs/control.md`.
 *
 * A request is shown as `open` when the job's state contains it, and not at the click: the state contains the request
 * once the gateway has accepted it.
 */

import { isFinal } from './job-state.js';
import { isNewer } from './jobs.js';
import { RequestError, sendRequest } from './send-request.js';
import { connect, credentialsOf } from './settings.js';

/** @import { Connection } from './connection.js' */
/** @import { Position, State } from './protocol.js' */
/** @import { RequestAnswer } from './send-request.js' */

/** The verb that no other request replaces. Such a request is open until the job ends. */
const CANCEL = 'cancel';

/**
 * The status of a job's newest request.
 *
 * - `none`: there is no request, or the job has ended
 * - `sending`: this page has sent it, and the gateway has not answered
 * - `open`: the gateway has accepted it; a `cancel` is open until the job ends
 * - `unanswered`: like `open`, but the worker does not report
 * - `seen`: the worker has acknowledged it
 * - `refused`: the worker has refused it, see `reason`
 * - `failed`: the gateway did not accept it, see `error`
 *
 * @typedef {'none' | 'sending' | 'open' | 'unanswered' | 'seen' | 'refused' | 'failed'} Phase
 */

/**
 * @typedef {object} RequestStatus
 * @property {readonly string[]} accepts   the verbs that the job accepts now
 * @property {string | null} verb          the verb of the newest request
 * @property {Phase} phase
 * @property {string | null} reason        why the worker refused
 * @property {RequestError | null} error   why the gateway did not accept it
 */

/**
 * Returns the status of the request in a state.
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
 * Returns whether sending this request now would have no effect, because the same one or a `cancel` is open.
 * @param {RequestStatus} status @param {string} verb
 */
export function isOpen({ phase, verb: openVerb }, verb) {
  return phase === 'sending' || ((phase === 'open' || phase === 'unanswered') && (openVerb === verb || openVerb === CANCEL));
}

/**
 * A request of this page. `previousId`: the id of the request that the state had when this one was sent; `accepted`: the
 * position of the state that contains it.
 * @typedef {{ verb: string, attempt: number, previousId: string | undefined, accepted: Position | null, error: RequestError | null }} SentRequest
 */

/**
 * Returns a store with the status of a job's newest request, and a function to send one. The value of `get` is
 * identical until something changes. The job is watched only while there is a subscriber.
 *
 * @param {string} job
 * @param {string | URL} [gateway]
 * @param {Connection} [connection]  to that gateway
 */
export function requestStore(job, gateway, connection = connect(gateway)) {
  /** @type {Set<() => void>} */
  const listeners = new Set();
  let unwatch = () => {};
  /** The request that this page has sent, until the state has it. @type {SentRequest | null} */
  let sentRequest = null;
  let value = computeStatus();

  /** Returns the current status. @returns {RequestStatus} */
  function computeStatus() {
    const watched = connection.peek(job);
    const state = watched?.state ?? null;
    const ended = state === null || isFinal(state);
    if (sentRequest?.accepted && (ended || watched === null || !isNewer(sentRequest.accepted, watched))) sentRequest = null;
    // A request without a response may have arrived: then the state has another request than before.
    if (sentRequest?.error && (ended || (state.attempt ?? 1) !== sentRequest.attempt || state.request?.id !== sentRequest.previousId)) sentRequest = null;
    const phase = sentRequest === null ? phaseOf(state) : sentRequest.error === null ? 'sending' : 'failed';
    return Object.freeze({
      accepts: Object.freeze(ended ? [] : [...(state.accepts ?? [])]),
      verb: sentRequest?.verb ?? (phase === 'none' ? null : (state?.request?.verb ?? null)),
      phase,
      reason: phase === 'refused' ? (state?.request?.refused ?? null) : null,
      error: sentRequest?.error ?? null,
    });
  }

  /** Updates the value, and calls the listeners if it has changed. */
  function update() {
    const next = computeStatus();
    if (next.error === value.error && JSON.stringify(next) === JSON.stringify(value)) return;
    value = next;
    for (const listener of [...listeners]) listener();
  }

  /** Changes the request of this page. @param {SentRequest | null} next */
  function setSentRequest(next) {
    sentRequest = next;
    update();
  }

  return {
    get: () => value,

    /** @param {() => void} changed */
    subscribe(changed) {
      const listener = () => changed();
      listeners.add(listener);
      if (listeners.size === 1) {
        unwatch = connection.watch(job, update);
        update();
      }
      return () => {
        if (listeners.delete(listener) && listeners.size === 0) unwatch();
      };
    },

    /**
     * Sends a request for the current attempt. Does nothing while the same request is open.
     * @param {string} verb @param {{ args?: unknown }} [options]
     * @returns {Promise<RequestAnswer | null>} null: nothing was sent
     * @throws {RequestError}
     */
    async send(verb, { args } = {}) {
      update();
      if (isOpen(value, verb)) return null;
      const { attempt, request } = connection.peek(job)?.state ?? {};
      /** @type {SentRequest} */
      const newRequest = { verb, attempt: attempt ?? 1, previousId: request?.id, accepted: null, error: null };
      setSentRequest(newRequest);
      try {
        const reply = await sendRequest(credentialsOf(gateway), job, verb, { args, ...(attempt !== undefined && { attempt }) });
        setSentRequest({ ...newRequest, accepted: reply });
        return reply;
      } catch (cause) {
        const error = cause instanceof RequestError ? cause : new RequestError(cause instanceof Error ? cause.message : String(cause), { cause });
        setSentRequest({ ...newRequest, error });
        throw error;
      }
    },
  };
}
