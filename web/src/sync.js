/**
 * Keeps the subscriptions at the gateway equal to the wanted jobs: sends all of them when a connection opens, then
 * changes, at most every 300 ms. Jobs that the gateway denied for lack of quota are subscribed again, after longer
 * and longer pauses.
 */

import { MAX_MESSAGE } from './constants.js';
import { commandsFor, hello } from './protocol.js';
import { Reconnect } from './reconnect.js';

/** @import { Environment } from './environment.js' */
/** @import { Jobs } from './jobs.js' */
/** @import { SelectedTransport, Transport } from './open-transport.js' */
/** @import { Frame } from './protocol.js' */

/**
 * The methods that `sets.js` has for this module, if the page watches sets.
 * @typedef {object} SetsHook
 * @property {(transport: Transport) => void} begin  called when a connection has opened
 * @property {(frame: Frame) => void} handle          called with each frame, before the core handles it
 * @property {() => void} clear           drops all known states, because the user or the gateway has changed
 */

/** Milliseconds between two commands, so that a page that mounts a hundred bars one by one does not send a hundred. */
const SYNC_INTERVAL = 300;

export class SubscriptionSync {
  /** @type {Transport | null} */
  transport = null;
  /** The jobs that were sent to the gateway on this connection; null: none were. @type {Set<string> | null} */
  #sentJobs = null;
  #lastId = 0;
  #scheduled = false;
  #syncedAt = -Infinity;
  /** @type {unknown} */
  #timer = null;
  /** Schedules the next attempt for jobs that were denied for lack of quota, with the pauses of a reconnect. */
  #retry;
  /** The maximum bytes of a message that the gateway accepts. */
  maxBytes = MAX_MESSAGE;
  /** @type {SetsHook | undefined} */
  sets;

  /** @param {Jobs} jobs @param {Environment} environment */
  constructor(jobs, environment) {
    this.jobs = jobs;
    this.environment = environment;
    this.#retry = new Reconnect(environment, () => this.#send(true));
  }

  /**
   * Handles a connection that has opened: sends the token, the known positions and the wanted jobs.
   * @param {SelectedTransport} transport
   * @param {number | undefined} maxHz
   */
  begin(transport, maxHz) {
    if (transport === this.transport) return;
    this.end();
    this.transport = transport;
    const command = hello(this.jobs.positions(), { token: transport.token, maxHz, maxBytes: this.maxBytes });
    if (command) transport.send(command);
    this.#send();
    this.sets?.begin(transport);
  }

  /** Drops all known states, because the user or the gateway has changed. */
  clear() {
    this.jobs.clear();
    this.sets?.clear();
  }

  /** Handles the end of the connection. */
  end() {
    this.transport = null;
    this.#sentJobs = null;
    this.#scheduled = false;
    this.environment.clearTimeout(this.#timer);
    this.#retry.reset();
  }

  /** Handles the reply to a command. @param {unknown} id @param {Record<string, string>} [denied] */
  onReply(id, denied = {}) {
    this.jobs.onReply(id, denied);
    if (/_full/.test(`${Object.values(denied)}`)) this.#retry.schedule();
  }

  /** Sends the wanted jobs in a microtask, or 300 ms after the last command. */
  schedule() {
    if (this.#scheduled || !this.transport) return;
    this.#scheduled = true;
    const wait = this.#syncedAt + SYNC_INTERVAL - this.environment.now();
    if (wait <= 0) this.environment.queueMicrotask(() => this.#send());
    else this.#timer = this.environment.setTimeout(() => this.#send(), wait);
  }

  /** Sends what has changed. @param {boolean} [retryDenied]  subscribe again to jobs that were denied for lack of quota */
  #send(retryDenied) {
    this.environment.clearTimeout(this.#timer);
    this.#scheduled = false;
    const { transport } = this;
    if (!transport) return;
    const sentJobs = this.#sentJobs;
    const { wanted, repeat } = this.jobs.collect(retryDenied);
    const commands = commandsFor(sentJobs, wanted, repeat, () => ++this.#lastId, this.maxBytes);
    if (commands.length === 0) return;
    const added = new Set([...wanted].filter((job) => !sentJobs?.has(job) || repeat.has(job)));
    for (const command of commands) {
      this.jobs.onSent(command, added);
      transport.send(command);
    }
    this.#sentJobs = wanted;
    this.#syncedAt = this.environment.now();
  }
}
