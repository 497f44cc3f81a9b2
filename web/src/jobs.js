/**
 * The jobs that a page watches: the listeners, the known state and the position of each. It checks
 * every frame with the client's rule. It neither sends nor waits: it returns to `connection.js`
 * which jobs are wanted, and which must be requested again.
 *
 * A job stays wanted while it has a listener, also after its end, because a retry begins
 * the next attempt with the same id. The known state of a job is kept for a while
 * after its last listener has left, so that a component that is mounted again has
 * something to show; `isUnconfirmed` returns whether it may be old.
 */

import { LINGER } from './constants.js';
import { callAll } from './listeners.js';
import { accepts } from './protocol.js';

/** @import { Environment } from './environment.js' */
/** @import { Position, ProgressFrame, State, Subscribe } from './protocol.js' */

/**
 * The argument of a listener: a new frozen value for each change, so that comparing identity
 * detects changes.
 * @typedef {object} Watched
 * @property {string} job
 * @property {number | null} epoch
 * @property {number} seq
 * @property {State | null} state  null: the job is unknown to the gateway
 * @property {string | null} denied  the gateway's reason if it refuses to show the job
 * @property {boolean} snapshot  whether it replaces the known state instead of continuing it
 */

/** @typedef {(watched: Watched) => void} Listener */

/**
 * @typedef {object} Entry
 * @property {Set<Listener>} listeners
 * @property {Watched | null} watched   null: no state is known
 * @property {Position | null} position null: only a snapshot can follow
 * @property {number} asked      the id of the last command that subscribed to it; Infinity: there was
 *   none; NaN: none is necessary, because a set contains it
 * @property {boolean} confirmed the gateway has answered for it on this connection
 * @property {number} since      when it was left, or ceased to be confirmed; monotonic milliseconds
 */

/** @typedef {{ job: string, epoch: number | null, seq: number, state: State | null }} Seen  what a list says of a job */

export class Jobs {
  #now;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** Jobs whose position was dropped and that must be requested again. @type {Set<string>} */
  #fresh = new Set();
  #answered = 0;

  /** @param {Pick<Environment, 'now'>} environment */
  constructor({ now }) {
    this.#now = now;
  }

  /**
   * @param {string} job
   * @param {Listener} listener
   * @returns {boolean} whether the wanted set grew
   */
  add(job, listener) {
    let entry = this.#entries.get(job);
    if (entry === undefined || this.#isForgotten(entry)) {
      entry = { listeners: new Set(), watched: null, position: null, asked: Infinity, confirmed: false, since: 0 };
      this.#entries.set(job, entry);
    }
    const grew = entry.listeners.size === 0;
    if (grew) entry.since = this.#now();
    entry.listeners.add(listener);
    return grew;
  }

  /**
   * The gateway continues to send the job until the next `sweep`; a listener that returns before
   * that has missed nothing.
   *
   * @param {string} job
   * @param {Listener} listener
   * @returns {boolean} whether the wanted set shrank
   */
  remove(job, listener) {
    const entry = this.#entries.get(job);
    if (!entry?.listeners.delete(listener) || entry.listeners.size > 0) return false;
    entry.since = this.#now();
    return true;
  }

  /**
   * Set whether a set contains the job. Then the gateway sends its states without a subscription,
   * and the known state is up to date.
   * @param {string} job @param {boolean} shown
   */
  setShown(job, shown) {
    const entry = this.#entries.get(job);
    if (entry === undefined) return;
    entry.asked = shown ? NaN : Infinity;
    entry.confirmed ||= shown;
  }

  /** The known state of a job that is watched, or was watched recently. @param {string} job */
  peek(job) {
    const entry = this.#entries.get(job);
    return entry === undefined || this.#isForgotten(entry) ? null : entry.watched;
  }

  /**
   * For how many milliseconds the known state of a job may have been old; 0: the gateway has
   * confirmed it on this connection.
   * @param {string} job
   */
  unconfirmedFor(job) {
    const entry = this.#entries.get(job);
    return entry === undefined || entry.confirmed ? 0 : this.#now() - entry.since;
  }

  /**
   * Remove the jobs that have no listener, just before the wanted jobs are sent to the gateway.
   * @param {boolean} room  whether to request the jobs again that were denied for lack of quota
   * @returns {{ wanted: Set<string>, fresh: Set<string> }}
   */
  sweep(room = false) {
    /** @type {Set<string>} */
    const wanted = new Set();
    const fresh = this.#fresh;
    this.#fresh = new Set();
    for (const [job, entry] of this.#entries) {
      if (entry.listeners.size > 0) entry.asked && wanted.add(job);
      else if (this.#isForgotten(entry)) this.#entries.delete(job);
      else {
        room ||= entry.confirmed;
        reset(entry);
      }
    }
    // If other jobs were removed, the quota may suffice now.
    if (room) for (const job of wanted) if (/_jobs|_full/.test(`${this.peek(job)?.denied}`)) fresh.add(job);
    return { wanted, fresh };
  }

  /**
   * The positions of the wanted jobs. Others are not sent, because the gateway keeps a position
   * until the job is subscribed to, and would continue from it much later.
   * @returns {Array<[job: string, position: Position | null]>}
   */
  positions() {
    return [...this.#entries].filter(([, { listeners }]) => listeners.size > 0).map(([job, { position }]) => [job, position]);
  }

  /** Handle the loss of the connection: from now on all states may be old. */
  disconnected() {
    for (const entry of this.#entries.values()) {
      if (entry.confirmed && entry.listeners.size > 0) entry.since = this.#now();
      entry.confirmed = false;
    }
  }

  /** Drop all known states, because the user or the gateway has changed. */
  clear() {
    for (const [job, entry] of this.#entries) {
      if (entry.listeners.size === 0) this.#entries.delete(job);
      else if (entry.watched !== null) {
        reset(entry);
        entry.watched = null; // not that the job is unknown to the gateway, which has not said so
        callAll([...entry.listeners], Object.freeze({ job, epoch: null, seq: 0, state: null, denied: null, snapshot: true }));
      }
    }
  }

  /**
   * Handle a command that was sent: frames of its new jobs can be checked after its answer.
   * @param {Subscribe} command
   * @param {ReadonlySet<string>} added  those of its jobs that the gateway did not know
   */
  asked(command, added) {
    for (const job of command.jobs) {
      const entry = this.#entries.get(job);
      if (entry !== undefined && added.has(job)) entry.asked = command.id;
    }
  }

  /**
   * Handle the answer to a command. A job without a following frame is up to date.
   * @param {unknown} id
   * @param {Record<string, string>} denied
   */
  answered(id, denied) {
    if (typeof id === 'number') {
      this.#answered = Math.max(this.#answered, id);
      for (const entry of this.#entries.values()) entry.confirmed ||= entry.asked <= id;
    }
    for (const [job, code] of Object.entries(denied)) {
      const entry = this.#entries.get(job);
      if (entry === undefined) continue;
      entry.position = null;
      entry.asked = Infinity; // also of a set's job: it is asked for by its name, when there is room
      publish(entry, { job, epoch: null, seq: 0, state: null, denied: code, snapshot: true });
    }
  }

  /**
   * @param {ProgressFrame} frame
   * @returns {string | null} how it violates the client's rule; then the job is requested again
   */
  apply(frame) {
    const entry = this.#entries.get(frame.job);
    // The job is not watched any more, but the gateway did not know that when it sent this.
    if (entry === undefined || (entry.listeners.size === 0 && entry.asked === Infinity)) return null;
    const had = entry.position;
    if (accepts(had, frame)) {
      const { job, epoch, seq, state, snapshot = false } = frame;
      entry.position = { epoch, seq };
      entry.confirmed = true;
      publish(entry, { job, epoch, seq, state, denied: null, snapshot });
      return null;
    }
    // Until the gateway has answered, a frame may belong to an earlier subscription,
    // so it is no violation.
    if (entry.asked > this.#answered) return null;
    entry.position = null;
    entry.asked = Infinity;
    this.#fresh.add(frame.job);
    return `${frame.job}: had ${JSON.stringify(had)}, then came (${frame.prev}, ${frame.seq}] of epoch ${frame.epoch}`;
  }

  /** @param {Entry} entry */
  #isForgotten({ listeners, since }) {
    return listeners.size === 0 && this.#now() - since > LINGER * 1000;
  }
}

/** Drop the position: only a snapshot can follow. @param {Entry} entry */
function reset(entry) {
  entry.position = null;
  entry.asked = Infinity;
  entry.confirmed = false;
}

/**
 * Whether position `a` is later than `b`.
 * @param {Position} a @param {Position} b
 */
export function isNewer(a, b) {
  if (a.epoch !== b.epoch) return (a.epoch ?? 0) > (b.epoch ?? 0);
  return a.seq > b.seq;
}

/**
 * Call the listeners, unless they have been called for this position, which always has the same
 * state.
 * @param {Entry} entry @param {Watched} watched
 */
function publish(entry, watched) {
  const before = entry.watched;
  if (before !== null && before.epoch === watched.epoch && before.seq === watched.seq && before.denied === watched.denied) return;
  entry.watched = Object.freeze(watched);
  callAll([...entry.listeners], watched);
}
