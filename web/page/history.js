/**
 * The history of a job: the events that the gateway has stored, and from then on
 * those that the connection receives. No DOM.
 */

import { DEFAULT_LEASE, LOST_AFTER } from '../src/constants.js';
import { isNewer } from '../src/jobs.js';
import { pathOf } from '../src/path.js';
import { percentOf } from '../src/state.js';
import { authorization } from './token.js';
import { t } from './words.js';

/** @import { Seen } from '../src/jobs.js' */
/** @import { State } from '../src/protocol.js' */
/** @import { Point } from './chart.js' */

/** @typedef {Point & { seq: number, state: State }} HistoryEvent */
/** @typedef {{ epoch: number | null, events?: { seq: number, state: State }[], gap?: unknown }} Kept */

/** As many events as a chart of this width can show. */
const MOST = 600;
const DEADLINE = 10_000;

export class History {
  /** The events in order. @type {HistoryEvent[]} */
  events = [];
  /** Whether the gateway had all events, from the first one on. */
  whole = false;
  /** @type {{ epoch: number | null, seq: number }} */
  #at = { epoch: null, seq: 0 };

  /**
   * Read the stored events. A gateway without a history answers with an error; then there are only
   * the events from now on.
   * @param {string} job
   * @param {AbortSignal} signal
   */
  async load(job, signal) {
    const { epoch, events, gap } = await loadEvents(job, AbortSignal.any([signal, AbortSignal.timeout(DEADLINE)]));
    if (events === undefined) return;
    const later = this.#at.epoch === epoch ? this.events : [];
    const first = later[0]?.seq ?? Infinity;
    this.whole = gap === undefined;
    this.events = [...events.filter(({ seq }) => seq < first).map(({ seq, state }) => event(seq, state)), ...later];
    const last = this.events.at(-1);
    if (last !== undefined) this.#at = { epoch, seq: last.seq };
  }

  /** @param {Seen} seen */
  take({ epoch, seq, state }) {
    if (state === null || !isNewer({ epoch, seq }, this.#at)) return;
    if (epoch !== this.#at.epoch) this.events = [];
    this.#at = { epoch, seq };
    this.events.push(event(seq, state));
    if (this.events.length > MOST) this.events.splice(0, this.events.length - MOST);
  }
}

/**
 * Read all events that the gateway has of a job, page by page.
 * @param {string} job @param {AbortSignal} signal
 */
async function loadEvents(job, signal) {
  /** @type {Kept} */
  const all = { epoch: null };
  for (let more = true, after = 0; more; after = all.events?.at(-1)?.seq ?? 0) {
    const epoch = all.epoch === null ? '' : `&epoch=${all.epoch}`;
    const url = new URL(`../api/jobs/${pathOf(job)}/events?after=${after}${epoch}`, import.meta.url);
    const response = await fetch(url, { headers: authorization(), signal });
    const part = response.ok ? await response.json() : {};
    if (!Array.isArray(part.events)) break;
    // The epoch has changed meanwhile: these are all events of the new one.
    const goesOn = part.epoch === all.epoch;
    all.gap = goesOn ? all.gap : part.gap;
    all.events = goesOn ? [...(all.events ?? []), ...part.events] : part.events;
    all.epoch = part.epoch;
    more = part.more === true && part.events.length > 0;
  }
  return all;
}

/** @param {number} seq @param {State} state @returns {HistoryEvent} */
function event(seq, state) {
  const { status, attempt = 1, health = 'ok', percent = null } = state;
  return { seq, state, status, attempt, health, percent, at: timeOf(state) };
}

/**
 * The time of an event. The silence of a worker does not change `updated_at`: it is detected a
 * lease later.
 * @param {State} state
 */
function timeOf({ updated_at = 0, health, lease = DEFAULT_LEASE }) {
  if (health === 'stalled') return updated_at + lease;
  return health === 'lost' ? updated_at + LOST_AFTER * lease : updated_at;
}

/**
 * The changes of an event as texts, of which some are the worker's own, in any language.
 * @param {State | undefined} before
 * @param {State} state
 * @returns {string[]}
 */
export function changesOf(before, state) {
  const words = [];
  if (before === undefined || before.attempt !== state.attempt) words.push(t('attempt {n}', { n: state.attempt ?? 1 }));
  if (before?.status !== state.status) words.push(t(state.status));
  if (state.health !== 'ok' && state.health !== before?.health) words.push(t(state.health ?? ''));
  else if (before?.health !== undefined && before.health !== 'ok' && state.health === 'ok') words.push(t('reporting again'));
  if (state.percent !== undefined && state.percent !== before?.percent) words.push(`${Math.floor(percentOf(state, 0) ?? 0)}%`);
  if (state.phase !== undefined && state.phase !== before?.phase) words.push(state.phase);
  if (state.message !== undefined && state.message !== before?.message) words.push(state.message);
  if (state.error !== undefined && state.error !== before?.error) words.push(state.error);
  words.push(...requestChange(before?.request, state.request));
  const changes = words.filter(Boolean);
  return changes.length > 0 ? changes : [t('details')];
}

/** @param {State['request']} before @param {State['request']} now */
function requestChange(before, now) {
  if (now === undefined) return [];
  const words = before?.id === now.id ? [] : [t(now.by ? '{verb} requested by {who}' : '{verb} requested', { verb: now.verb, who: now.by ?? '' })];
  const known = before?.id === now.id ? before : undefined;
  if (now.refused !== undefined) return known?.refused === now.refused ? words : [...words, t('refused: {why}', { why: now.refused })];
  return now.seen_at === undefined || known?.seen_at !== undefined ? words : [...words, t('acknowledged by the worker')];
}
