/**
 * The jobs a page watches: who listens, what is known of each, and at which
 * position. Applies the client's rule to every frame. It neither sends nor
 * waits: it tells `connection.js` what is wanted and what must be asked anew.
 *
 * A job that has ended is wanted no more, as nothing can follow but a new
 * attempt: whoever begins to watch it, or learns of one elsewhere, asks again.
 */

import { FINAL, judge } from './protocol.js';

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
 * @property {boolean} snapshot  whether it replaces what was known, and does not continue it
 */

/** @typedef {(watched: Watched) => void} Listener */

/**
 * @typedef {object} Entry
 * @property {Set<Listener>} listeners
 * @property {Watched | null} watched   null: nothing was heard yet
 * @property {Position | null} position
 * @property {number} asked  the id of the command that asked for it last; Infinity: not asked yet
 * @property {boolean} over  its state is final
 */

/** @typedef {{ job: string, epoch: number | null, seq: number, state: State | null }} Seen */

/**
 * What became of a frame: nothing more to do; the wanted set changed; or it broke
 * the client's rule, and says how.
 * @typedef {'fine' | 'wants' | { violation: string }} Verdict
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
      entry = { listeners: new Set(), watched: null, position: null, asked: Infinity, over: false };
      this.#entries.set(job, entry);
    }
    const grew = entry.listeners.size === 0 || entry.over;
    entry.listeners.add(listener);
    entry.over = false;
    return grew;
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
    return entry !== undefined && entry.listeners.delete(listener) && entry.listeners.size === 0 && !entry.over;
  }

  /**
   * What a list said of a job: shown until the gateway itself says more. It has no
   * part in the client's rule, so it is no position.
   * @param {Seen} seen
   * @returns {boolean} whether the wanted set grew: the job goes on after its end
   */
  learn({ job, epoch, seq, state }) {
    const entry = this.#entries.get(job);
    const known = entry?.watched;
    if (entry === undefined || state === null) return false;
    const grew = entry.over && known != null && isNewer({ epoch, seq }, known);
    if (known != null && !grew) return false;
    entry.over = false;
    publish(entry, { job, epoch, seq, state, denied: null, snapshot: true });
    return grew;
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
    return { wanted: new Set([...this.#entries].filter(([, entry]) => isWanted(entry)).map(([job]) => job)), fresh };
  }

  /**
   * Where we are in the jobs that are wanted. Of no other: the gateway keeps a
   * position until the job is subscribed to, and would go on from it much later.
   * @returns {Array<[job: string, position: Position | null]>}
   */
  positions() {
    return [...this.#entries].filter(([, entry]) => isWanted(entry)).map(([job, { position }]) => [job, position]);
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
      publish(entry, { job, epoch: null, seq: 0, state: null, denied: code, snapshot: true });
    }
  }

  /**
   * @param {Progress} frame
   * @returns {Verdict} after a violation the job is among those to be asked anew
   */
  apply(frame) {
    const entry = this.#entries.get(frame.job);
    if (entry === undefined) return 'fine'; // we left; the gateway has yet to hear of it
    const had = entry.position;
    if (judge(had, frame) === 'accept') {
      const { job, epoch, seq, state, snapshot = false } = frame;
      const was = entry.over;
      entry.position = { epoch, seq };
      entry.over = state !== null && FINAL.has(state.status);
      publish(entry, { job, epoch, seq, state, denied: null, snapshot });
      return was === entry.over ? 'fine' : 'wants';
    }
    // Until the gateway has answered, what arrives may belong to a subscription
    // that we have ended: it proves nothing.
    if (entry.asked > this.#answered || entry.over) return 'fine';
    entry.position = null;
    entry.asked = Infinity;
    this.#fresh.add(frame.job);
    return { violation: `${frame.job}: had ${said(had)}, then came (${frame.prev}, ${frame.seq}] of epoch ${frame.epoch}` };
  }
}

/** @param {Entry} entry */
function isWanted({ listeners, over }) {
  return listeners.size > 0 && !over;
}

/** @param {Position | null} position */
function said(position) {
  return position === null ? 'nothing' : `${position.seq} of epoch ${position.epoch}`;
}

/**
 * Whether `a` is the later position of the two.
 * @param {Position} a @param {Position} b
 */
export function isNewer(a, b) {
  if (a.epoch !== b.epoch) return (a.epoch ?? 0) > (b.epoch ?? 0);
  return a.seq > b.seq;
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
