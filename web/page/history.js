/**
 * The history of a job consists of the events that the gateway has stored, and of those that the connection
 * receives after that. This module uses no DOM.
 */

import { DEFAULT_LEASE, LOST_AFTER } from '../src/constants.js';
import { pathOf } from '../src/job-path.js';
import { percentOf } from '../src/job-state.js';
import { isNewer } from '../src/jobs.js';
import { authorization } from './token.js';
import { t } from './translations.js';

/** @import { JobState } from '../src/jobs.js' */
/** @import { State } from '../src/protocol.js' */
/** @import { Point } from './chart.js' */

/** @typedef {Point & { seq: number, state: State }} HistoryEvent */
/** @typedef {{ epoch: number | null, events?: { seq: number, state: State }[], gap?: unknown }} StoredEvents */

/** The maximum number of events: a chart of this width cannot show more. */
const MAX_EVENTS = 600;
/** Milliseconds until the request for the stored events is aborted. */
const TIMEOUT = 10_000;

export class History {
  /** The events in order of their positions. @type {HistoryEvent[]} */
  events = [];
  /** Whether `events` begin with the first event of the job. */
  complete = false;
  /** The position of the last event. @type {{ epoch: number | null, seq: number }} */
  #position = { epoch: null, seq: 0 };

  /**
   * Reads the stored events. A gateway without a history answers with an error; then `events` has only those
   * that the connection has received.
   * @param {string} job
   * @param {AbortSignal} signal
   */
  async load(job, signal) {
    const { epoch, events, gap } = await loadEvents(job, AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]));
    if (events === undefined) return;
    const receivedEvents = this.#position.epoch === epoch ? this.events : [];
    const firstReceived = receivedEvents[0]?.seq ?? Infinity;
    this.complete = gap === undefined;
    this.events = [...events.filter(({ seq }) => seq < firstReceived).map(({ seq, state }) => event(seq, state)), ...receivedEvents];
    const lastEvent = this.events.at(-1);
    if (lastEvent !== undefined) this.#position = { epoch, seq: lastEvent.seq };
  }

  /** Adds a state that the connection has received. @param {JobState} jobState */
  add({ epoch, seq, state }) {
    if (state === null || !isNewer({ epoch, seq }, this.#position)) return;
    if (epoch !== this.#position.epoch) this.events = [];
    this.#position = { epoch, seq };
    this.events.push(event(seq, state));
    if (this.events.length > MAX_EVENTS) this.events.splice(0, this.events.length - MAX_EVENTS);
  }
}

/**
 * Reads all events that the gateway has stored for a job, page by page.
 * @param {string} job @param {AbortSignal} signal
 */
async function loadEvents(job, signal) {
  /** @type {StoredEvents} */
  const stored = { epoch: null };
  for (let more = true, after = 0; more; after = stored.events?.at(-1)?.seq ?? 0) {
    const epoch = stored.epoch === null ? '' : `&epoch=${stored.epoch}`;
    const url = new URL(`../api/jobs/${pathOf(job)}/events?after=${after}${epoch}`, import.meta.url);
    const response = await fetch(url, { headers: authorization(), signal });
    const page = response.ok ? await response.json() : {};
    if (!Array.isArray(page.events)) break;
    // If the epoch has changed meanwhile, this page begins with the first event of the new epoch.
    const sameEpoch = page.epoch === stored.epoch;
    stored.gap = sameEpoch ? stored.gap : page.gap;
    stored.events = sameEpoch ? [...(stored.events ?? []), ...page.events] : page.events;
    stored.epoch = page.epoch;
    more = page.more === true && page.events.length > 0;
  }
  return stored;
}

/** Returns the event of a state. @param {number} seq @param {State} state @returns {HistoryEvent} */
function event(seq, state) {
  const { status, attempt = 1, health = 'ok', percent = null } = state;
  return { seq, state, status, attempt, health, percent, at: timeOf(state) };
}

/**
 * Returns the time of an event, in Unix seconds. The event `stalled` does not change `updated_at`; it comes one
 * lease after the last report.
 * @param {State} state
 */
function timeOf({ updated_at = 0, health, lease = DEFAULT_LEASE }) {
  if (health === 'stalled') return updated_at + lease;
  return health === 'lost' ? updated_at + LOST_AFTER * lease : updated_at;
}

/**
 * Returns the changes of an event as texts. Some of them are the worker's own texts, in any language.
 * @param {State | undefined} before
 * @param {State} state
 * @returns {string[]}
 */
export function changesOf(before, state) {
  const texts = [];
  if (before === undefined || before.attempt !== state.attempt) texts.push(t('attempt {n}', { n: state.attempt ?? 1 }));
  if (before?.status !== state.status) texts.push(t(state.status));
  if (state.health !== 'ok' && state.health !== before?.health) texts.push(t(state.health ?? ''));
  else if (before?.health !== undefined && before.health !== 'ok' && state.health === 'ok') texts.push(t('reporting again'));
  if (state.percent !== undefined && state.percent !== before?.percent) texts.push(`${Math.floor(percentOf(state, 0) ?? 0)}%`);
  if (state.phase !== undefined && state.phase !== before?.phase) texts.push(state.phase);
  if (state.message !== undefined && state.message !== before?.message) texts.push(state.message);
  if (state.error !== undefined && state.error !== before?.error) texts.push(state.error);
  texts.push(...requestChanges(before?.request, state.request));
  const changes = texts.filter(Boolean);
  return changes.length > 0 ? changes : [t('details')];
}

/** Returns the changes of a request as texts. @param {State['request']} before @param {State['request']} now */
function requestChanges(before, now) {
  if (now === undefined) return [];
  const texts = before?.id === now.id ? [] : [t(now.by ? '{verb} requested by {sender}' : '{verb} requested', { verb: now.verb, sender: now.by ?? '' })];
  const sameRequest = before?.id === now.id ? before : undefined;
  if (now.refused !== undefined) return sameRequest?.refused === now.refused ? texts : [...texts, t('refused: {reason}', { reason: now.refused })];
  return now.seen_at === undefined || sameRequest?.seen_at !== undefined ? texts : [...texts, t('acknowledged by the worker')];
}
