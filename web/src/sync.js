/**
 * Keeps the gateway's idea of the wanted jobs equal to ours: everything at once
 * when a line opens, then what changed, at most every 300 ms.
 */

import { commandsFor, hello } from './protocol.js';

/** @import { Environment } from './environment.js' */
/** @import { Jobs } from './jobs.js' */
/** @import { Line } from './line.js' */

/** A page that mounts a hundred bars one by one says so about once, not a hundred times. */
const SYNC_EVERY = 300;

export class Sync {
  #jobs;
  #environment;
  /** @type {Line | null} */
  #line = null;
  /** What the gateway knows that we want; null: nothing was said on this line yet. @type {Set<string> | null} */
  #told = null;
  #lastId = 0;
  #due = false;
  #syncedAt = -Infinity;
  /** @type {unknown} */
  #timer = null;

  /** @param {Jobs} jobs @param {Environment} environment */
  constructor(jobs, environment) {
    this.#jobs = jobs;
    this.#environment = environment;
  }

  /**
   * A line opened: say who we are, what we have and what we want.
   * @param {Line} line
   * @param {string | null} token
   */
  begin(line, token) {
    this.end();
    this.#line = line;
    const greeting = hello(this.#jobs.positions(), token);
    if (greeting !== null) line.send(greeting);
    this.#say();
  }

  /** The line is gone. */
  end() {
    this.#line = null;
    this.#told = null;
    this.#due = false;
    this.#environment.clearTimeout(this.#timer);
  }

  /** The wanted set changed: say so, in a microtask if it was quiet, else at the end of the 300 ms. */
  soon() {
    if (this.#due || this.#line === null) return;
    this.#due = true;
    const wait = this.#syncedAt + SYNC_EVERY - this.#environment.now();
    if (wait <= 0) this.#environment.queueMicrotask(() => this.#say());
    else this.#timer = this.#environment.setTimeout(() => this.#say(), Math.min(wait, SYNC_EVERY));
  }

  #say() {
    this.#environment.clearTimeout(this.#timer);
    this.#due = false;
    const line = this.#line;
    if (line === null) return;
    const known = this.#told;
    const { wanted, fresh } = this.#jobs.sweep();
    const commands = commandsFor(known, wanted, fresh, () => ++this.#lastId);
    if (commands.length === 0) return;
    const added = new Set([...wanted].filter((job) => !known?.has(job) || fresh.has(job)));
    for (const command of commands) {
      this.#jobs.asked(command, added);
      line.send(command);
    }
    this.#told = wanted;
    this.#syncedAt = this.#environment.now();
  }
}
