/**
 * The jobs a page watches: who listens, what is known of each, and at which
 * position. Applies the client's rule to every frame. It neither sends nor
 * waits: it tells `connection.js` what is wanted and what must be asked anew.
 */

import { judge } from './protocol.js';

/** @import { Position, Progress, State, Subscribe } from './protocol.js' */

/**
 * What a listener sees. A new frozen value for each change, so that identity
 * tells whether anything changed.
 * @typedef {object} Watched
 * @property {string} job
 * @property {number | null} epoch
 * @property {number} seq
 * @property {State | null} state  null: the gateway has never seen this job
 * @property {string | null} denied  why the gateway refuses to show it, if it does
 */

/** @typedef {(watched: Watched) => void} Listener */

/**
 * @typedef {object} Entry
 * @property {Set<Listener>} listeners
 * @property {Watched | null} watched   null: nothing was heard yet
 * @property {Position | null} position
 * @property {number} asked  the id of the command that asked for it last; Infinity: not asked yet
 */

export class Jobs {
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** Jobs whose position was forgotten and that must be asked anew. @type {Set<string>} */
  #fresh = new Set();
  #answered = 0;

  /**
   * @param {string} job
   * @param {Listener} listener
   * @returns {boolean} whether the wanted set grew
   */
  add(job, listener) {
    let entry = this.#entries.get(job);
    if (entry === undefined) {
      entry = { listeners: new Set(), watched: null, position: null, asked: Infinity };
      this.#entries.set(job, entry);
    }
    entry.listeners.add(listener);
    return entry.listeners.size === 1;
  }

  /**
   * The entry itself stays until `sweep`: the gateway goes on sending until it is
   * told, and a listener that comes back before that has lost nothing.
   *
   * @param {string} job
   * @param {Listener} listener
   * @returns {boolean} whether the wanted set shrank
   */
  remove(job, listener) {
    const entry = this.#entries.get(job);
    return entry !== undefined && entry.listeners.delete(listener) && entry.listeners.size === 0;
  }

  /** @param {string} job */
  peek(job) {
    return this.#entries.get(job)?.watched ?? null;
  }

  /**
   * Forget the jobs that nobody watches any more, just before the gateway is told.
   * @returns {{ wanted: Set<string>, fresh: Set<string> }}
   */
  sweep() {
    for (const [job, entry] of this.#entries) {
      if (entry.listeners.size === 0) this.#entries.delete(job);
    }
    const fresh = this.#fresh;
    this.#fresh = new Set();
    return { wanted: new Set(this.#entries.keys()), fresh };
  }

  /** @returns {Array<[job: string, position: Position | null]>} */
  positions() {
    return Array.from(this.#entries, ([job, entry]) => [job, entry.position]);
  }

  /**
   * A command went out: frames of its new jobs may be judged once it is answered.
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
   * A command was answered.
   * @param {unknown} id
   * @param {Record<string, string>} denied
   */
  answered(id, denied) {
    if (typeof id === 'number') this.#answered = Math.max(this.#answered, id);
    for (const [job, code] of Object.entries(denied)) {
      const entry = this.#entries.get(job);
      if (entry === undefined || entry.watched?.denied === code) continue;
      entry.position = null;
      publish(entry, { job, epoch: null, seq: 0, state: null, denied: code });
    }
  }

  /**
   * @param {Progress} frame
   * @returns {boolean} false: a violation; the job is now among those to be asked anew
   */
  apply(frame) {
    const entry = this.#entries.get(frame.job);
    if (entry === undefined) return true; // we left; the gateway has yet to hear of it
    if (judge(entry.position, frame) === 'accept') {
      const { job, epoch, seq, state } = frame;
      entry.position = { epoch, seq };
      publish(entry, { job, epoch, seq, state, denied: null });
      return true;
    }
    // Until the gateway has answered, what arrives may belong to a subscription
    // that we have ended: it proves nothing.
    if (entry.asked > this.#answered) return true;
    entry.position = null;
    entry.asked = Infinity;
    this.#fresh.add(frame.job);
    return false;
  }
}

/** @param {Entry} entry @param {Watched} watched */
function publish(entry, watched) {
  entry.watched = Object.freeze(watched);
  for (const listener of [...entry.listeners]) {
    try {
      listener(watched);
    } catch (error) {
      // One broken component must not take the others' progress away.
      report(error);
    }
  }
}

/** @param {unknown} error */
export function report(error) {
  if (typeof globalThis.reportError === 'function') globalThis.reportError(error);
  else console.error(error);
}
