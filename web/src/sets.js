/**
 * Sets: the jobs whose ids begin with a prefix, including those that do not exist yet. The core does
 * not import this module, because most pages watch jobs by name; it is attached to a connection when
 * the first set is watched.
 *
 *     import { watchSet } from 'progress-gateway/sets';
 *
 *     const unwatch = watchSet({ prefix: 'user:7:', statuses: ['running'] }, ({ jobs, total }) => …);
 *
 * The gateway sends the states of the jobs in a set without a subscription, so `watchJob` of one of
 * them costs nothing.
 */

import { STATUSES } from './constants.js';
import { endListener } from './ends.js';
import { callAll } from './listeners.js';
import { connect } from './settings.js';
import { isFinal } from './state.js';

/** @import { Transport } from './connect.js' */
/** @import { Connection } from './connection.js' */
/** @import { Status } from './constants.js' */
/** @import { End } from './ends.js' */
/** @import { Listener } from './jobs.js' */
/** @import { Frame, SetFrame } from './protocol.js' */
/** @import { Sync } from './sync.js' */

/**
 * @typedef {object} SetQuery
 * @property {string} prefix                 what the jobs' ids begin with; '' is all
 * @property {readonly Status[] | undefined} [statuses]  only those; by default all
 * @property {number | undefined} [limit]    how many are shown: 50, or up to 200
 */

/**
 * @typedef {object} JobSet
 * @property {readonly string[]} jobs   the ids shown: active ones by start, then ended ones by end, newest first
 * @property {number} total             how many there are, shown or not
 * @property {Readonly<Record<Status, number>>} counts  how many there are under the prefix, whatever `statuses` says
 * @property {boolean} more             there are others, that were updated longer ago than 10,000 jobs
 * @property {boolean} loading          nothing was received yet
 * @property {string | null} denied     why the gateway refuses to show it, if it does
 */

/** @typedef {(set: JobSet) => void} SetListener */
/** @typedef {(end: End<any>) => void} EndListener */

/** @type {JobSet} */
export const LOADING = Object.freeze({
  jobs: Object.freeze([]),
  total: 0,
  counts: Object.freeze(/** @type {Record<Status, number>} */ (Object.fromEntries(STATUSES.map((status) => [status, 0])))),
  more: false,
  loading: true,
  denied: null,
});

/** Minimum milliseconds before a set that a full gateway has denied is requested again; up to twice that. */
const RETRY_AFTER = 5_000;

/**
 * @typedef {object} Entry
 * @property {string} id
 * @property {SetQuery} query
 * @property {Set<SetListener>} listeners
 * @property {Set<EndListener>} onEnds
 * @property {JobSet} value
 * @property {{ epoch: number, seq: number } | null} position  null: only a snapshot can follow
 * @property {Map<string, Held>} held
 */

/**
 * A job that a set shows, or has shown and that has not ended.
 * @typedef {{ listener: Listener, leaving: boolean, over: boolean }} Held
 */

/**
 * Call the listener with the content of a set: immediately if it is known, and at every change,
 * until the returned function is called.
 *
 * @param {SetQuery} query
 * @param {SetListener} listener
 * @param {{ gateway?: string | URL | undefined, onEnd?: EndListener | undefined }} [options]
 *   `onEnd` is called when an attempt of a job that was shown ends; not for those that had ended
 *   before this page knew them
 * @returns {() => void} ends it; calling it again does no harm
 */
export function watchSet(query, listener, { gateway, onEnd } = {}) {
  return setsOf(connect(gateway)).watch(query, listener, onEnd);
}

/**
 * A set as a store, for frameworks: values are equal by identity while nothing changes.
 *
 * @param {SetQuery} query
 * @param {Connection} [connection]
 */
export function setStore(query, connection = connect()) {
  const sets = setsOf(connection);
  return {
    get: () => sets.peek(query),
    /** @param {() => void} changed @param {EndListener} [onEnd] */
    subscribe: (changed, onEnd) => sets.watch(query, changed, onEnd),
  };
}

/** @param {Connection} connection */
function setsOf({ sync }) {
  if (sync.extension instanceof Sets) return sync.extension;
  const sets = new Sets(sync);
  sync.extension = sets;
  return sets;
}

/** The sets that are watched over one connection. */
class Sets {
  #sync;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** How many sets show a job. @type {Map<string, number>} */
  #shown = new Map();
  #lastId = 0;

  /** @param {Sync} sync */
  constructor(sync) {
    this.#sync = sync;
  }

  /** @param {SetQuery} query */
  peek(query) {
    return this.#entries.get(keyOf(query))?.value ?? LOADING;
  }

  /** @param {SetQuery} query @param {SetListener} listener @param {EndListener} [onEnd] */
  watch(query, listener, onEnd) {
    const key = keyOf(query);
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = { id: `set${++this.#lastId}`, query, listeners: new Set(), onEnds: new Set(), value: LOADING, position: null, held: new Map() };
      this.#entries.set(key, entry);
      this.#ask(entry);
    }
    const { listeners, onEnds, value } = entry;
    /** @type {SetListener} */
    const own = (set) => listener(set);
    /** @type {EndListener} */
    const ownEnd = (end) => onEnd?.(end);
    listeners.add(own);
    onEnds.add(ownEnd);
    if (!value.loading) own(value);
    return () => {
      onEnds.delete(ownEnd);
      if (!listeners.delete(own) || listeners.size > 0) return;
      // A component that is mounted again at once (StrictMode) has lost nothing.
      this.#sync.environment.queueMicrotask(() => this.#leave(key));
    };
  }

  // -- for the connection

  /** @param {Transport} transport */
  begin(transport) {
    for (const entry of this.#entries.values()) {
      entry.position = null;
      this.#ask(entry, transport);
    }
  }

  /** @param {Frame} frame */
  take(frame) {
    if (frame.type !== 'set' && frame.type !== 'error') return;
    const entry = [...this.#entries.values()].find(({ id }) => id === frame.id);
    if (entry === undefined) return;
    if (frame.type === 'set') return this.#show(entry, frame);
    if (/_full$/.test(frame.code)) {
      const { environment } = this.#sync;
      const again = () => this.#entries.get(keyOf(entry.query)) === entry && this.#ask(entry);
      environment.setTimeout(again, RETRY_AFTER * (1 + environment.random()));
    }
    publish(entry, { ...LOADING, loading: false, denied: frame.code });
  }

  clear() {
    for (const entry of this.#entries.values()) {
      for (const job of [...entry.held.keys()]) this.#release(entry, job);
      entry.position = null;
      publish(entry, LOADING);
    }
  }

  /** @param {Entry} entry @param {Transport | null} [transport] */
  #ask({ id, query: { prefix, statuses, limit } }, transport = this.#sync.transport) {
    transport?.send({ type: 'watch_set', id, prefix, ...(statuses && { statuses: [...statuses] }), ...(limit !== undefined && { limit }) });
  }

  /** @param {string} key */
  #leave(key) {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.listeners.size > 0) return;
    this.#entries.delete(key);
    for (const job of [...entry.held.keys()]) this.#release(entry, job);
    this.#sync.transport?.send({ type: 'unwatch_set', id: entry.id });
    this.#sync.soon();
  }

  /** @param {Entry} entry @param {SetFrame} frame */
  #show(entry, { epoch, prev, seq, snapshot = false, jobs, total, counts, more = false }) {
    const { position, held } = entry;
    if (!snapshot && (position?.epoch !== epoch || position.seq !== prev)) {
      entry.position = null;
      return this.#ask(entry); // which brings a snapshot
    }
    entry.position = { epoch, seq };
    const shown = new Set(jobs);
    for (const job of jobs) {
      const known = held.get(job);
      if (known === undefined) this.#keep(entry, job);
      else {
        known.leaving = false;
        if (snapshot) this.#sync.jobs.setShown(job, true);
      }
    }
    for (const [job, each] of held) {
      each.leaving = !shown.has(job);
      if (each.leaving && each.over) this.#release(entry, job);
      // What this watch has not shown yet the gateway does not remember: it is watched by its name.
      else if (each.leaving && snapshot) this.#sync.jobs.setShown(job, false);
    }
    this.#sync.soon();
    publish(entry, { jobs: Object.freeze(jobs), total, counts: Object.freeze(counts), more, loading: false, denied: null });
  }

  /** @param {Entry} entry @param {string} job */
  #keep(entry, job) {
    const { jobs } = this.#sync;
    const onEnded = endListener((end) => {
      if (!end.alreadyOver) for (const onEnd of [...entry.onEnds]) onEnd(end);
    });
    /** @type {Held} */
    const held = {
      leaving: false,
      over: false,
      listener: (watched) => {
        const { state } = watched;
        held.over = state === null || isFinal(state);
        onEnded(watched);
        if (held.leaving && held.over) this.#release(entry, job);
      },
    };
    entry.held.set(job, held);
    jobs.add(job, held.listener);
    this.#shown.set(job, (this.#shown.get(job) ?? 0) + 1);
    const known = jobs.peek(job);
    if (known !== null) held.listener(known);
    jobs.setShown(job, true);
  }

  /** @param {Entry} entry @param {string} job */
  #release({ held }, job) {
    const { jobs } = this.#sync;
    const each = held.get(job);
    if (each === undefined) return;
    held.delete(job);
    const left = (this.#shown.get(job) ?? 1) - 1;
    if (left > 0) this.#shown.set(job, left);
    else {
      this.#shown.delete(job);
      jobs.setShown(job, false);
    }
    jobs.remove(job, each.listener);
    this.#sync.soon();
  }
}

/** @param {SetQuery} query */
function keyOf({ prefix, statuses, limit }) {
  return JSON.stringify([prefix, statuses && [...statuses].sort(), limit]);
}

/** @param {Entry} entry @param {JobSet} value */
function publish(entry, value) {
  if (value === entry.value) return;
  entry.value = Object.freeze(value);
  callAll([...entry.listeners], entry.value);
}
