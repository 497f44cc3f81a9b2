/**
 * The one connection of a page to a gateway, shared by all who watch. It keeps
 * a line open, dials again when it ends, and keeps the gateway's idea of the
 * wanted jobs equal to ours. It owns when things happen; what they mean is in
 * `protocol.js`, what is known in `jobs.js`, one socket's life in `line.js`.
 *
 *     connecting ──welcome──▶ live ──ended──▶ offline ──after a while──▶ connecting
 *          any ──close(), or an ending that forbids to return──▶ stopped ──retry()──▶ connecting
 */

import { backoff } from './backoff.js';
import { browserEnvironment } from './environment.js';
import { Jobs, report } from './jobs.js';
import { ABNORMAL, openLine } from './line.js';
import { commandsFor, hello, mayReturn, retryWindow } from './protocol.js';

/** @import { Environment } from './environment.js' */
/** @import { Listener } from './jobs.js' */
/** @import { Line } from './line.js' */
/** @import { Frame, RetryWindow } from './protocol.js' */

/** A page that mounts a hundred bars one by one says so about once, not a hundred times. */
const SYNC_EVERY = 300;
/** A connection that lived this long was a good one: start counting failures anew. */
const STABLE_AFTER = 60_000;

/**
 * A frozen picture of the connection; a new one for each change.
 * @typedef {object} ConnectionStatus
 * @property {'connecting' | 'live' | 'offline' | 'stopped'} state
 * @property {number} since        since when it is live, or since when it is not, however often
 *                                 it has dialled meanwhile; milliseconds since 1970
 * @property {string | null} node  the gateway process we talk to, or last talked to
 * @property {{ code: number, reason: string } | null} ending  of the last line
 * @property {number | null} retryAt   when it dials again, if offline
 * @property {number | null} roundTrip milliseconds of the last ping
 * @property {number} skew         the gateway's clock minus ours, seconds
 * @property {number} reconnects   lines that became live after the first
 * @property {number} violations   frames that broke the client's rule, or were no frames
 * @property {string | null} error the last `error` frame
 */

/**
 * @typedef {object} Connection
 * @property {string} url
 * @property {(job: string, listener: Listener) => () => void} watch
 * @property {(job: string) => import('./jobs.js').Watched | null} peek
 * @property {(listener: (status: ConnectionStatus) => void) => () => void} observe
 * @property {() => ConnectionStatus} status
 * @property {() => number} now
 * @property {() => void} retry
 * @property {() => void} close
 */

/**
 * Dial, and stay connected until `close`.
 *
 * @param {string} url  ws: or wss:
 * @param {Partial<Environment>} [overrides]
 * @returns {Connection}
 */
export function createConnection(url, overrides = {}) {
  /** @type {Environment} */
  const environment = { ...browserEnvironment(), ...overrides };
  const jobs = new Jobs();

  /** @type {Line | null} */
  let line = null;
  /** What the gateway knows that we want; null: nothing was said on this line yet. @type {Set<string> | null} */
  let told = null;
  let lastId = 0;
  let failures = 0;
  let lives = 0;
  /** @type {RetryWindow | null} */
  let window = null;
  let leavingWith = 0; // the code of a `goaway`
  /** @type {unknown} */
  let redial = null;
  /** @type {unknown} */
  let syncTimer = null;
  let syncDue = false;
  let syncedAt = -Infinity;

  /** @type {Set<(status: ConnectionStatus) => void>} */
  const observers = new Set();
  /** @type {ConnectionStatus} */
  let status = Object.freeze({
    state: 'connecting',
    since: environment.now(),
    node: null,
    ending: null,
    retryAt: null,
    roundTrip: null,
    skew: 0,
    reconnects: 0,
    violations: 0,
    error: null,
  });

  /** @param {Partial<ConnectionStatus>} change */
  function become(change) {
    const { state = status.state } = change;
    const turned = (state === 'live') !== (status.state === 'live');
    status = Object.freeze({ ...status, ...(turned && { since: environment.now() }), ...change });
    for (const observer of [...observers]) {
      try {
        observer(status);
      } catch (error) {
        report(error);
      }
    }
  }

  function violation() {
    become({ violations: status.violations + 1 });
  }

  // -- the wanted set ------------------------------------------------------

  /** Say what we want: in a microtask if it was quiet, else at the end of the 300 ms. */
  function syncSoon() {
    if (syncDue || told === null) return;
    syncDue = true;
    const wait = syncedAt + SYNC_EVERY - environment.now();
    if (wait <= 0) environment.queueMicrotask(sync);
    else syncTimer = environment.setTimeout(sync, Math.min(wait, SYNC_EVERY));
  }

  function sync() {
    environment.clearTimeout(syncTimer);
    syncDue = false;
    if (line === null || told === null) return;
    const { wanted, fresh } = jobs.sweep();
    const commands = commandsFor(told, wanted, fresh, () => ++lastId);
    if (commands.length === 0) return;
    const known = told;
    const added = new Set([...wanted].filter((job) => !known.has(job) || fresh.has(job)));
    for (const command of commands) {
      jobs.asked(command, added);
      line.send(command);
    }
    told = wanted;
    syncedAt = environment.now();
  }

  // -- the line ------------------------------------------------------------

  function dial() {
    environment.clearTimeout(redial);
    redial = null;
    leavingWith = 0;
    become({ state: 'connecting', retryAt: null });
    try {
      line = openLine(url, environment, { opened, frame, malformed: violation, roundTrip, ended });
    } catch (error) {
      become({ state: 'stopped', ending: { code: 0, reason: String(error) } });
    }
  }

  function opened() {
    told = new Set();
    const greeting = hello(jobs.positions());
    if (greeting !== null) line?.send(greeting);
    sync();
  }

  /** @param {number} ms */
  function roundTrip(ms) {
    become({ roundTrip: ms });
  }

  /** @param {Frame} frame */
  function frame(frame) {
    switch (frame.type) {
      case 'welcome':
        window = retryWindow(frame.retry) ?? window;
        lives += 1;
        become({
          state: 'live',
          node: frame.node,
          skew: frame.time - environment.now() / 1000,
          reconnects: lives - 1,
        });
        break;
      case 'subscriptions':
        jobs.answered(frame.id, frame.denied ?? {});
        break;
      case 'progress':
        if (!jobs.apply(frame)) {
          violation();
          syncSoon();
        }
        break;
      case 'goaway':
        // Not yet: what is queued is still flushed, and the gateway closes by itself.
        window = retryWindow(frame.retry) ?? window;
        leavingWith = frame.code;
        failures = 0;
        break;
      case 'error':
        become({ error: `${frame.code}: ${frame.message}` });
        break;
    }
  }

  /** @param {number} code @param {string} reason */
  function ended(code, reason) {
    line = null;
    told = null;
    syncDue = false;
    environment.clearTimeout(syncTimer);
    const ending = { code: code === ABNORMAL && leavingWith ? leavingWith : code, reason };
    if (status.state === 'stopped') {
      become({ ending });
    } else if (!mayReturn(ending.code)) {
      become({ state: 'stopped', ending });
    } else {
      if (status.state === 'live' && environment.now() - status.since >= STABLE_AFTER) failures = 0;
      const wait = backoff(failures, window, environment.random());
      failures += 1;
      redial = environment.setTimeout(dial, wait);
      become({ state: 'offline', ending, retryAt: environment.now() + wait });
    }
  }

  /** The page woke up, or the network came back: what we believe may be long wrong. */
  function wake() {
    if (status.state === 'offline') dial();
    else line?.check();
  }

  let stopWaking = environment.onWake(wake);
  dial();

  return {
    url,

    /**
     * Hear of a job, now (if something is known already) and at each change.
     * A listener is counted once a job; the answer, called any number of times, ends it.
     */
    watch(job, listener) {
      /** @type {Listener} */
      const own = (watched) => listener(watched);
      if (jobs.add(job, own)) syncSoon();
      const known = jobs.peek(job);
      if (known !== null) own(known);
      return () => {
        if (jobs.remove(job, own)) syncSoon();
      };
    },

    /** What is known of a job that someone watches. */
    peek: (job) => jobs.peek(job),

    /** Hear of the connection's status, now and at each change. */
    observe(observer) {
      /** @type {(status: ConnectionStatus) => void} */
      const own = (status) => observer(status);
      observers.add(own);
      own(status);
      return () => observers.delete(own);
    },

    status: () => status,

    /** The gateway's time, Unix seconds. */
    now: () => environment.now() / 1000 + status.skew,

    /** Dial now, also after `stopped`. Does nothing while there is a line. */
    retry() {
      if (line !== null) return;
      if (status.state === 'stopped') {
        stopWaking();
        stopWaking = environment.onWake(wake);
      }
      failures = 0;
      dial();
    },

    /** Hang up, for good unless `retry` is called. Watchers stay and hear nothing. */
    close() {
      stopWaking();
      environment.clearTimeout(redial);
      become({ state: 'stopped', retryAt: null });
      line?.end(1000, 'closed by the page');
    },
  };
}
