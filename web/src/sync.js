/**
 * Keeps the gateway's set of subscribed jobs equal to the wanted one: everything at
 * once when a connection opens, then what changed, at most every 300 ms. Jobs that were
 * denied because the gateway has no room are asked for again, after longer and longer pauses.
 */

import { MAX_MESSAGE } from './constants.js';
import { commandsFor, hello } from './protocol.js';
import { Reconnect } from './reconnect.js';

/** @import { Opening, Transport } from './connect.js' */
/** @import { Environment } from './environment.js' */
/** @import { Jobs } from './jobs.js' */
/** @import { Frame } from './protocol.js' */

/**
 * Other subscriptions of a connection: `sets.js`, if the page watches sets.
 * @typedef {object} Extension
 * @property {(transport: Transport) => void} begin  a connection has opened
 * @property {(frame: Frame) => void} take           each frame, before the core has it
 * @property {() => void} clear                     the user or the gateway has changed: drop all known states
 */

/** A page that mounts a hundred bars one by one sends about one command, not a hundred. */
const SYNC_EVERY = 300;

export class Sync {
  /** @type {Transport | null} */
  transport = null;
  /** The jobs that were sent to the gateway; null: none were, on this connection. @type {Set<string> | null} */
  #sent = null;
  #lastId = 0;
  #due = false;
  #syncedAt = -Infinity;
  /** @type {unknown} */
  #timer = null;
  /** When to request again what the gateway had no room for: after pauses like those of a reconnect. */
  #retry;
  /** Bytes of a message that the gateway takes. */
  limit = MAX_MESSAGE;
  /** @type {Extension | undefined} */
  extension;

  /** @param {Jobs} jobs @param {Environment} environment */
  constructor(jobs, environment) {
    this.jobs = jobs;
    this.environment = environment;
    this.#retry = new Reconnect(environment, () => this.#send(true));
  }

  /**
   * A connection has opened: send the token, the known positions and the wanted jobs.
   * @param {Opening} transport
   * @param {number | undefined} maxHz
   */
  begin(transport, maxHz) {
    if (transport === this.transport) return;
    this.end();
    this.transport = transport;
    const greeting = hello(this.jobs.positions(), { token: transport.token, maxHz, limit: this.limit });
    if (greeting) transport.send(greeting);
    this.#send();
    this.extension?.begin(transport);
  }

  /** Drop all known states, because the user or the gateway has changed. */
  clear() {
    this.jobs.clear();
    this.extension?.clear();
  }

  /** The connection has ended. */
  end() {
    this.transport = null;
    this.#sent = null;
    this.#due = false;
    this.environment.clearTimeout(this.#timer);
    this.#retry.reset();
  }

  /** A command was answered. @param {unknown} id @param {Record<string, string>} [denied] */
  answered(id, denied = {}) {
    this.jobs.answered(id, denied);
    if (/_full/.test(`${Object.values(denied)}`)) this.#retry.schedule();
  }

  /** The wanted set changed: send it, in a microtask if it was quiet, else at the end of the 300 ms. */
  soon() {
    if (this.#due || !this.transport) return;
    this.#due = true;
    const wait = this.#syncedAt + SYNC_EVERY - this.environment.now();
    if (wait <= 0) this.environment.queueMicrotask(() => this.#send());
    else this.#timer = this.environment.setTimeout(() => this.#send(), wait);
  }

  /** @param {boolean} [room]  request again what there was no room for */
  #send(room) {
    this.environment.clearTimeout(this.#timer);
    this.#due = false;
    const { transport } = this;
    if (!transport) return;
    const known = this.#sent;
    const { wanted, fresh } = this.jobs.sweep(room);
    const commands = commandsFor(known, wanted, fresh, () => ++this.#lastId, this.limit);
    if (commands.length === 0) return;
    const added = new Set([...wanted].filter((job) => !known?.has(job) || fresh.has(job)));
    for (const command of commands) {
      this.jobs.asked(command, added);
      transport.send(command);
    }
    this.#sent = wanted;
    this.#syncedAt = this.environment.now();
  }
}
