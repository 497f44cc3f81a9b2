/**
 * The one connection of a page to a gateway, shared by all who watch. It keeps
 * a line open and dials again when it ends.
 *
 *     connecting ──welcome──▶ live ◀──feed──▶ stale
 *          any ──the line ends──▶ offline ──after a while──▶ connecting
 *
 * Offline, it dials by itself, unless it is `stopped` (closed, or sent away for
 * good: then `retry` dials) or nobody has looked for long (then looking does).
 *
 * While a line serves another may be opened beside it: one to another node, when
 * this one is about to leave, or a WebSocket, where so far none got through. It
 * takes over in the moment it is welcomed, so that nobody sees anything of it.
 *
 * This file holds the turns that a connection takes. What a line is, from the dial
 * to its end, is in `dial.js`, `line.js` and `fallback.js`; what goes out on it in
 * `sync.js` and `tokens.js`, what came in in `jobs.js`; when to dial again in
 * `redial.js` and `attention.js`, by what in `ladder.js`; what is seen in `status.js`.
 */

import { Attention } from './attention.js';
import { TRANSPORTS, dial } from './dial.js';
import { browserEnvironment } from './environment.js';
import { Jobs } from './jobs.js';
import { Ladder } from './ladder.js';
import { ABNORMAL } from './line.js';
import { mayReturn } from './protocol.js';
import { Redial } from './redial.js';
import { Status } from './status.js';
import { Sync } from './sync.js';
import { Renewal } from './tokens.js';

/** @import { Dialled } from './dial.js' */
/** @import { Environment } from './environment.js' */
/** @import { Listener, Seen, Watched } from './jobs.js' */
/** @import { Frame } from './protocol.js' */
/** @import { ConnectionStatus, Observer } from './status.js' */
/** @import { TokenProvider } from './tokens.js' */

/** A connection that lived this long was a good one: start counting failures anew. */
const STABLE_AFTER = 60_000;
/** When to see whether a WebSocket gets through by now; the pause doubles up to the second. */
const FIRST_PROBE = 15_000;
const LAST_PROBE = 480_000;

/**
 * @typedef {object} Connection
 * @property {string} url
 * @property {(job: string, listener: Listener) => () => void} watch
 * @property {(job: string) => Watched | null} peek
 * @property {(seen: Seen) => void} learn
 * @property {(observer: Observer) => () => void} observe
 * @property {() => ConnectionStatus} status
 * @property {() => number} now
 * @property {() => void} retry
 * @property {() => void} close
 */

/** @typedef {{ token?: TokenProvider | undefined }} ConnectionOptions */

/**
 * Dial, and stay connected until `close`.
 *
 * @param {string} url  ws: or wss:
 * @param {ConnectionOptions & Partial<Environment>} [options]
 * @returns {Connection}
 */
export function createConnection(url, { token: provider, ...overrides } = {}) {
  /** @type {Environment} */
  const environment = { ...browserEnvironment(), ...overrides };
  const { now } = environment;
  const status = new Status(now);
  const jobs = new Jobs();
  const sync = new Sync(jobs, environment);
  const ladder = new Ladder(TRANSPORTS.length);
  const redial = new Redial(environment, dialAgain);
  const attention = new Attention(environment, wake);
  const renewal = new Renewal(provider, environment, (error) => {
    status.become({ error: `no new token: ${error?.message ?? error}` });
  });

  /** The line that serves, or is dialled; null: offline. @type {Dialled | null} */
  let line = null;
  /** The one that is opened beside it. @type {Dialled | null} */
  let beside = null;
  /** What the last dial brought, to be said on the line. @type {string | null} */
  let token = null;
  let lives = 0;
  let leavingWith = 0; // the code of a `goaway`
  let probes = 0;
  /** @type {unknown} */
  let probeTimer = null;

  const transport = () => TRANSPORTS[ladder.step] ?? 'websocket';

  // -- lines -------------------------------------------------------------------

  function connect() {
    redial.cancel();
    status.become({ state: 'connecting', stopped: false, retryAt: null, transport: transport() });
    line = open(ladder.step);
  }

  /** @param {number} step */
  function openBeside(step) {
    beside ??= open(step);
  }

  /**
   * Open a line. Once another one has taken its place it is heard no more.
   * @param {number} step
   * @returns {Dialled}
   */
  function open(step) {
    const own = dial(url, step, provider, environment, {
      opened(answer) {
        token = answer;
        if (own === line) sync.begin(own, token);
        else own.check(); // over HTTP nobody says welcome unasked
      },
      frame(frame) {
        if (own === beside && frame.type === 'welcome') takeOver(own);
        if (own === line) take(frame);
      },
      malformed: (text) => own === line && status.violated(`no frame: ${text.slice(0, 80)}`),
      roundTrip: (ms) => own === line && status.become({ roundTrip: ms }),
      ended(code, reason, blocked) {
        if (own === line) lost({ code, reason }, blocked);
        else if (own === beside) besideLost();
      },
      refused(error) {
        if (own === line) stop({ code: 0, reason: String(error) });
      },
    });
    return own;
  }

  /** The line beside was welcomed: from now on it is the line. @param {Dialled} next */
  function takeOver(next) {
    const old = line;
    release();
    line = next;
    if (next.step === 0) ladder.climb();
    old?.end(1000, 'another line took over');
    sync.begin(next, token);
  }

  /** @param {{ code: number, reason: string }} ending @param {boolean} blocked */
  function lost(ending, blocked) {
    const left = leavingWith > 0;
    if (left && ending.code === ABNORMAL) ending = { ...ending, code: leavingWith };
    if (blocked) ladder.blocked();
    else if (!left) ladder.lost();
    const { state, since } = status.picture;
    if (left || (state === 'live' && now() - since >= STABLE_AFTER)) redial.forgive();
    if (!mayReturn(ending.code)) return stop(ending);
    const next = beside;
    release();
    if (left && next?.step === ladder.step) {
      // The one that follows is under way already: nothing comes back sooner.
      line = next;
      status.become({ state: 'connecting', ending, transport: transport() });
      sync.begin(next, token);
    } else {
      next?.end(1000, 'not needed');
      status.become({ state: 'offline', ending, retryAt: attention.forgotten ? null : redial.later(ending.code) });
    }
  }

  function besideLost() {
    beside = null;
    if (leavingWith > 0) redial.later();
    else probeLater();
  }

  /** Let go of everything that belongs to the line; the lines themselves are the caller's to end. */
  function release() {
    line = beside = null;
    leavingWith = 0;
    sync.end();
    renewal.end();
    redial.cancel();
    environment.clearTimeout(probeTimer);
  }

  /** No more of it, until `retry`. @param {{ code: number, reason: string }} ending */
  function stop(ending) {
    const open = [line, beside];
    release();
    for (const each of open) each?.end(ending.code, ending.reason);
    status.become({ state: 'offline', stopped: true, retryAt: null, ending });
  }

  // -- what the gateway says -----------------------------------------------------

  /** @param {Frame} frame */
  function take(frame) {
    switch (frame.type) {
      case 'welcome':
        redial.keepTo(frame.retry);
        ladder.passed();
        lives += 1;
        status.become({
          state: frame.stale === true ? 'stale' : 'live',
          transport: transport(),
          node: frame.node,
          skew: frame.time - now() / 1000,
          reconnects: lives - 1,
        });
        if (line !== null) renewal.begin(line, token, status.picture.skew);
        if (ladder.step > 0) probeLater();
        break;
      case 'feed':
        status.become({ state: frame.stale ? 'stale' : 'live' });
        break;
      case 'subscriptions':
        jobs.answered(frame.id, frame.denied ?? {});
        break;
      case 'progress': {
        const verdict = jobs.apply(frame);
        if (typeof verdict === 'object') status.violated(verdict.violation);
        if (verdict !== 'fine') sync.soon();
        break;
      }
      case 'goaway':
        // This line is good until the gateway closes it: that is the time to find another.
        leavingWith = frame.code;
        redial.keepTo(frame.retry);
        redial.forgive();
        redial.later();
        break;
      case 'error':
        // No fault of ours: there are seconds left in which to say a new one.
        if (frame.code === 'token_expired' && renewal.possible) renewal.now(status.picture.skew);
        else status.become({ error: `${frame.code}: ${frame.message}` });
        break;
    }
  }

  // -- when ------------------------------------------------------------------------

  /** The time has come to dial, or to open the line that follows this one. */
  function dialAgain() {
    if (attention.forgotten) return line ?? status.become({ retryAt: null });
    if (line === null) connect();
    else openBeside(ladder.step);
  }

  function probeLater() {
    environment.clearTimeout(probeTimer);
    probeTimer = environment.setTimeout(probe, Math.min(FIRST_PROBE * 2 ** probes, LAST_PROBE));
    probes += 1;
  }

  function probe() {
    if (ladder.step === 0 || line === null || environment.hidden()) return;
    environment.clearTimeout(probeTimer);
    openBeside(0);
  }

  /** Something happened after which what we believe may be long wrong. */
  function wake() {
    if (status.picture.stopped) return;
    if (line === null) return connect();
    line.check();
    probes = 0;
    probe();
  }

  connect();

  return {
    url,

    /**
     * Hear of a job, now (if something is known already) and at each change.
     * A listener is counted once a job; the answer, called any number of times, ends it.
     */
    watch(job, listener) {
      /** @type {Listener} */
      const own = (watched) => listener(watched);
      if (jobs.add(job, own)) sync.soon();
      const known = jobs.peek(job);
      if (known !== null) own(known);
      return () => {
        if (jobs.remove(job, own)) sync.soon();
      };
    },

    /** What is known of a job that someone watches. */
    peek: (job) => jobs.peek(job),

    /**
     * What the page learned of a watched job from a list: shown until the gateway says
     * more; if it goes on after its end, it is followed again.
     */
    learn(seen) {
      if (jobs.learn(seen)) sync.soon();
    },

    /** Hear of the connection's status, now and at each change. */
    observe: (observer) => status.observe(observer),

    status: () => status.picture,

    /** The gateway's time, Unix seconds. */
    now: () => now() / 1000 + status.picture.skew,

    /** Dial now, also if it is stopped. Does nothing while there is a line. */
    retry() {
      if (line !== null) return;
      if (status.picture.stopped) attention.start();
      redial.forgive();
      connect();
    },

    /** Hang up, for good unless `retry` is called. Watchers stay and hear nothing. */
    close() {
      attention.stop();
      stop({ code: 1000, reason: 'closed by the page' });
    },
  };
}
