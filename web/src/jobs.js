/**
 * The jobs that a page watches: the listeners, the known state and the position of each. `Jobs` checks every frame
 * with the client's rule. It neither sends nor waits: `sync.js` requests from it which jobs are wanted, and which
 * must be subscribed again.
 *
 * A job stays wanted while it has a listener, also after its end, because a retry begins the next attempt with the
 * same id. The known state of a job is kept for `LINGER` seconds after its last listener was removed, so that a
 * component that is mounted again has something to show. `unconfirmedMs` returns for how long it may be out of date.
 */

import { LINGER } from './constants.js';
import { callAll } from './listeners.js';
import { acceptsFrame } from './protocol.js';

/** @import { Environment } from './environment.js' */
/** @import { Position, ProgressFrame, State, Subscribe } from './protocol.js' */

/**
 * The argument of a listener. Each change makes a new frozen value, so that comparing identity detects changes.
 * @typedef {object} Watched
 * @property {string} job
 * @property {number | null} epoch
 * @property {number} seq
 * @property {State | null} state  null: the job is unknown to the gateway
 * @property {string | null} denied  the gateway's reason if it refuses to show the job
 * @property {boolean} snapshot  whether the frame replaced the known state instead of continuing it
 */

/** @typedef {(watched: Watched) => void} Listener */

/**
 * @typedef {object} Entry
 * @property {Set<Listener>} listeners
 * @property {Watched | null} watched   null: no state is known
 * @property {Position | null} position null: only a snapshot can follow
 * @property {number} commandId  the id of the last command that subscribed to it; Infinity: there is none
 * @property {number} inSet      for how many listeners a set sends what they need: Infinity if it shows the job, or the
 *   listeners of sets that only wait for its end. Others need a subscription
 * @property {boolean} confirmed whether the gateway has confirmed the state on this connection
 * @property {number} since      when the last listener was removed, or the state ceased to be confirmed; monotonic
 *   milliseconds
 */

/** @typedef {{ job: string, epoch: number | null, seq: number, state: State | null }} JobState  the state of a job at a position */

export class Jobs {
  #now;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** The jobs whose position was dropped, so that they must be subscribed again. @type {Set<string>} */
  #repeat = new Set();
  /** The id of the newest command that the gateway has answered. */
  #lastAnsweredId = 0;

  /** @param {Pick<Environment, 'now'>} environment */
  constructor({ now }) {
    this.#now = now;
  }

  /**
   * Adds a listener.
   * @param {string} job
   * @param {Listener} listener
   */
  add(job, listener) {
    let entry = this.#entries.get(job);
    if (entry === undefined || this.#isExpired(entry)) {
      entry = { listeners: new Set(), watched: null, position: null, commandId: Infinity, inSet: 0, confirmed: false, since: 0 };
      this.#entries.set(job, entry);
    }
    if (entry.listeners.size === 0) entry.since = this.#now();
    entry.listeners.add(listener);
  }

  /**
   * Removes a listener. The gateway continues to send the job until the next `collect`. A listener that is added
   * again before that has missed nothing.
   *
   * @param {string} job
   * @param {Listener} listener
   * @returns {boolean} whether the job is no longer wanted
   */
  remove(job, listener) {
    const entry = this.#entries.get(job);
    if (!entry?.listeners.delete(listener) || entry.listeners.size > 0) return false;
    entry.since = this.#now();
    return true;
  }

  /**
   * Records for how many listeners a set sends the states of the job (`Entry.inSet`). If it sends them, the known state
   * is up to date.
   * @param {string} job @param {number} inSet
   */
  setInSet(job, inSet) {
    const entry = this.#entries.get(job);
    if (entry === undefined) return;
    entry.commandId = Infinity;
    entry.inSet = inSet;
    entry.confirmed ||= inSet > 0;
  }

  /** Returns the known state of a job that is watched, or was watched recently. @param {string} job */
  peek(job) {
    const entry = this.#entries.get(job);
    return entry === undefined || this.#isExpired(entry) ? null : entry.watched;
  }

  /**
   * Returns for how many milliseconds the known state of a job may have been out of date; 0: the gateway has confirmed
   * it on this connection.
   * @param {string} job
   */
  unconfirmedMs(job) {
    const entry = this.#entries.get(job);
    return entry === undefined || entry.confirmed ? 0 : this.#now() - entry.since;
  }

  /**
   * Returns the jobs that are wanted now, and those of them that must be subscribed again. Removes the jobs without a
   * listener.
   * @param {boolean} retryDenied  whether to subscribe again to the jobs that were denied for lack of quota
   * @returns {{ wanted: Set<string>, repeat: Set<string> }}
   */
  collect(retryDenied = false) {
    /** @type {Set<string>} */
    const wanted = new Set();
    const repeat = this.#repeat;
    this.#repeat = new Set();
    for (const [job, entry] of this.#entries) {
      if (entry.listeners.size > 0) entry.listeners.size > entry.inSet && wanted.add(job);
      else if (this.#isExpired(entry)) this.#entries.delete(job);
      else {
        retryDenied ||= entry.confirmed;
        reset(entry);
        entry.confirmed = false;
      }
    }
    // After other jobs were removed, the quota may suffice.
    if (retryDenied) for (const job of wanted) if (/_jobs|_full/.test(`${this.peek(job)?.denied}`)) repeat.add(job);
    return { wanted, repeat };
  }

  /**
   * Returns the positions of the wanted jobs, for another connection. Others are forgotten: another node does not know
   * that the client has their states, and could send older ones.
   * @returns {Array<[job: string, position: Position | null]>}
   */
  positions() {
    for (const [job, { listeners }] of this.#entries) if (listeners.size === 0) this.#entries.delete(job);
    return [...this.#entries].map(([job, { position }]) => [job, position]);
  }

  /** Handles the loss of the connection: from now on all states may be out of date. */
  onDisconnect() {
    for (const entry of this.#entries.values()) {
      if (entry.confirmed && entry.listeners.size > 0) entry.since = this.#now();
      entry.confirmed = false;
    }
  }

  /** Drops all known states, because the user or the gateway has changed. */
  clear() {
    for (const [job, entry] of this.#entries) {
      if (entry.listeners.size === 0) this.#entries.delete(job);
      else if (entry.watched !== null) {
        reset(entry);
        entry.confirmed = false;
        entry.watched = null; // nothing is known yet; the gateway has not reported the job as unknown
        callAll([...entry.listeners], Object.freeze({ job, epoch: null, seq: 0, state: null, denied: null, snapshot: true }));
      }
    }
  }

  /**
   * Handles a command that was sent: frames of its new jobs can be checked after the reply.
   * @param {Subscribe} command
   * @param {ReadonlySet<string>} added  those of its jobs that were not subscribed before
   */
  onSent(command, added) {
    for (const job of command.jobs) {
      const entry = this.#entries.get(job);
      if (entry !== undefined && added.has(job)) entry.commandId = command.id;
    }
  }

  /**
   * Handles the reply to a command. It confirms the known states of the jobs of the command.
   * @param {unknown} id
   * @param {Record<string, string>} denied
   */
  onReply(id, denied) {
    if (typeof id === 'number') {
      this.#lastAnsweredId = Math.max(this.#lastAnsweredId, id);
      for (const entry of this.#entries.values()) entry.confirmed ||= entry.commandId <= id;
    }
    for (const [job, code] of Object.entries(denied)) {
      const entry = this.#entries.get(job);
      if (entry === undefined) continue;
      reset(entry); // also a job in a set: it is subscribed by its name, when there is quota
      notify(entry, { job, epoch: null, seq: 0, state: null, denied: code, snapshot: true });
    }
  }

  /**
   * Applies a frame.
   * @param {ProgressFrame} frame
   * @returns {string | null} how the frame violates the client's rule; then the job is subscribed again
   */
  apply(frame) {
    const entry = this.#entries.get(frame.job);
    // The job is no longer watched, but the gateway did not know that when it sent this frame.
    if (entry === undefined || (entry.listeners.size === 0 && !entry.inSet && entry.commandId === Infinity)) return null;
    const position = entry.position;
    if (acceptsFrame(position, frame)) {
      const { job, epoch, seq, state, snapshot = false } = frame;
      entry.position = { epoch, seq };
      entry.confirmed = true;
      notify(entry, { job, epoch, seq, state, denied: null, snapshot });
      return null;
    }
    // Before the reply, a frame may belong to an earlier subscription, so it is not a violation.
    if (!entry.inSet && entry.commandId > this.#lastAnsweredId) return null;
    reset(entry);
    this.#repeat.add(frame.job);
    return `${frame.job}: (${frame.prev}, ${frame.seq}] of epoch ${frame.epoch} does not continue ${JSON.stringify(position)}`;
  }

  /** Returns whether a job without listeners has been kept for long enough. @param {Entry} entry */
  #isExpired({ listeners, since }) {
    return listeners.size === 0 && this.#now() - since > LINGER * 1000;
  }
}

/** Drops the position and the subscription: only a snapshot can follow. @param {Entry} entry */
function reset(entry) {
  entry.position = null;
  entry.commandId = Infinity;
  entry.inSet = 0;
}

/**
 * Returns whether position `a` is later than `b`.
 * @param {Position} a @param {Position} b
 */
export function isNewer(a, b) {
  if (a.epoch !== b.epoch) return (a.epoch ?? 0) > (b.epoch ?? 0);
  return a.seq > b.seq;
}

/**
 * Calls the listeners, unless they have been called for this position, which always has the same state.
 * @param {Entry} entry @param {Watched} watched
 */
function notify(entry, watched) {
  const before = entry.watched;
  if (before !== null && before.epoch === watched.epoch && before.seq === watched.seq && before.denied === watched.denied) return;
  entry.watched = Object.freeze(watched);
  callAll([...entry.listeners], watched);
}
