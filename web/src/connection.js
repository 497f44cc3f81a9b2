/**
 * The one connection of a page to a gateway, shared by all who watch. It keeps
 * a line open and dials again when it ends. It owns when things happen; what they
 * mean is in `protocol.js`, what is known in `jobs.js`, what is wanted goes out
 * through `sync.js`, and one line's life is in `line.js` and `fallback.js`.
 *
 *     connecting ──welcome──▶ live ◀──feed──▶ stale
 *          any ──the line ends──▶ offline ──after a while──▶ connecting
 *
 * Offline, it dials by itself, unless it is `stopped` (closed, or sent away for
 * good: then `retry` dials) or nobody has looked for long (then looking does).
 */

import { backoff } from './backoff.js';
import { browserEnvironment } from './environment.js';
import { Jobs, report } from './jobs.js';
import { Ladder } from './ladder.js';
import { ABNORMAL, openLine } from './line.js';
import { mayReturn, retryWindow } from './protocol.js';
import { onSleep } from './sleep.js';
import { Sync } from './sync.js';
import { askForToken, renewIn } from './tokens.js';

/** @import { Environment } from './environment.js' */
/** @import { Listener, Seen } from './jobs.js' */
/** @import { Line } from './line.js' */
/** @import { Frame, RetryWindow } from './protocol.js' */
/** @import { TokenProvider } from './tokens.js' */

/** A connection that lived this long was a good one: start counting failures anew. */
const STABLE_AFTER = 60_000;
/** Hidden for longer, a page does not dial: a hundred forgotten tabs must not keep a gateway busy. */
const FORGOTTEN_AFTER = 300_000;
/** When to see whether a WebSocket gets through by now; the pause doubles up to the second. */
const FIRST_PROBE = 15_000;
const LAST_PROBE = 480_000;

const TRANSPORTS = /** @type {const} */ (['websocket', 'sse', 'polling']);

/** Loaded when it is needed: most pages never do. */
const fallbacks = () => import('./fallback.js').then((lines) => [openLine, lines.openStream, lines.openPolling]);

/**
 * A frozen picture of the connection; a new one for each change.
 * @typedef {object} ConnectionStatus
 * @property {'connecting' | 'live' | 'stale' | 'offline'} state
 *   stale: connected, but the gateway itself may be behind
 * @property {boolean} stopped     offline for good, or until `retry` is called
 * @property {number} since        since when it is live, or since when it is not, however often
 *                                 it has dialled meanwhile; milliseconds since 1970
 * @property {'websocket' | 'sse' | 'polling'} transport  what carries it, or is dialled
 * @property {string | null} node  the gateway process we talk to, or last talked to
 * @property {{ code: number, reason: string } | null} ending  of the last line
 * @property {number | null} retryAt   when it dials again by itself, if offline
 * @property {number | null} roundTrip milliseconds of the last ping
 * @property {number} skew         the gateway's clock minus ours, seconds
 * @property {number} reconnects   lines that became live after the first
 * @property {number} violations   frames that broke the client's rule, or were no frames
 * @property {string | null} violation  the last of them
 * @property {string | null} error the last `error` frame
 */

/**
 * @typedef {object} Connection
 * @property {string} url
 * @property {(job: string, listener: Listener) => () => void} watch
 * @property {(job: string) => import('./jobs.js').Watched | null} peek
 * @property {(seen: Seen) => void} learn
 * @property {(listener: (status: ConnectionStatus) => void) => () => void} observe
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
  const { clearTimeout, now } = environment;
  const jobs = new Jobs();
  const sync = new Sync(jobs, environment);
  const ladder = new Ladder(TRANSPORTS.length);

  /** @type {Line | null} */
  let line = null;
  /** A WebSocket that is tried beside the line. @type {Line | null} */
  let probe = null;
  let probes = 0;
  /** Counts the dials: what an older one waited for comes too late. */
  let dials = 0;
  let failures = 0;
  let lives = 0;
  /** @type {string | null} */
  let token = null;
  /** @type {RetryWindow | null} */
  let window = null;
  let leavingWith = 0; // the code of a `goaway`
  /** @type {number | null} */
  let hiddenSince = null;
  const timers = { redial: /** @type {unknown} */ (null), probe: /** @type {unknown} */ (null), renew: /** @type {unknown} */ (null) };

  /** @type {Set<(status: ConnectionStatus) => void>} */
  const observers = new Set();
  /** @type {ConnectionStatus} */
  let status = Object.freeze({
    state: 'connecting',
    stopped: false,
    since: now(),
    transport: 'websocket',
    node: null,
    ending: null,
    retryAt: null,
    roundTrip: null,
    skew: 0,
    reconnects: 0,
    violations: 0,
    violation: null,
    error: null,
  });

  /** @param {Partial<ConnectionStatus>} change */
  function become(change) {
    const { state = status.state } = change;
    const turned = (state === 'live') !== (status.state === 'live');
    status = Object.freeze({ ...status, ...(turned && { since: now() }), ...change });
    for (const observer of [...observers]) {
      try {
        observer(status);
      } catch (error) {
        report(error);
      }
    }
  }

  /** @param {string} what */
  function violation(what) {
    become({ violations: status.violations + 1, violation: what });
  }

  /** @param {keyof typeof timers} name @param {() => void} callback @param {number} ms */
  function later(name, callback, ms) {
    clearTimeout(timers[name]);
    timers[name] = environment.setTimeout(callback, ms);
  }

  // -- dialling --------------------------------------------------------------

  function dial() {
    clearTimeout(timers.redial);
    const mine = ++dials;
    const { step } = ladder;
    become({ state: 'connecting', stopped: false, retryAt: null, transport: TRANSPORTS[step] ?? 'websocket' });
    if (provider === undefined && step === 0) return open(openLine);
    const asked = provider === undefined ? null : askForToken(provider, environment);
    Promise.all([asked, step === 0 ? [openLine] : fallbacks()]).then(
      ([answer, openers]) => {
        if (mine !== dials) return;
        token = answer;
        open(openers[step] ?? openLine);
      },
      (error) => {
        if (mine !== dials) return;
        ladder.lost();
        offline({ code: 0, reason: `could not dial: ${error?.message ?? error}` });
      },
    );
  }

  /** @param {typeof openLine} opener */
  function open(opener) {
    leavingWith = 0;
    try {
      line = openWith(opener, () => {}, (ending, blocked) => {
        if (blocked) ladder.blocked();
        else ladder.lost();
        offline(ending);
      });
    } catch (error) {
      become({ state: 'offline', stopped: true, ending: { code: 0, reason: String(error) } });
    }
  }

  /**
   * Open a line. Once another one has taken its place it is heard no more.
   * @param {typeof openLine} opener
   * @param {() => void} opened  just before it is used
   * @param {(ending: { code: number, reason: string }, blocked: boolean) => void} ended
   * @returns {Line}
   */
  function openWith(opener, opened, ended) {
    const own = opener(url, environment, {
      opened() {
        opened();
        if (own !== line) return;
        sync.begin(own, token);
        renewSoon();
      },
      frame: (frame) => own === line && take(frame),
      malformed: (text) => own === line && violation(`no frame: ${text.slice(0, 80)}`),
      roundTrip: (ms) => own === line && become({ roundTrip: ms }),
      ended: (code, reason, blocked) => (own === line || own === probe) && ended({ code, reason }, blocked),
    });
    return own;
  }

  /** @param {Frame} frame */
  function take(frame) {
    switch (frame.type) {
      case 'welcome':
        window = retryWindow(frame.retry) ?? window;
        ladder.passed();
        lives += 1;
        become({
          state: frame.stale === true ? 'stale' : 'live',
          node: frame.node,
          skew: frame.time - now() / 1000,
          reconnects: lives - 1,
        });
        if (ladder.step > 0) probeLater();
        break;
      case 'feed':
        become({ state: frame.stale ? 'stale' : 'live' });
        break;
      case 'subscriptions':
        jobs.answered(frame.id, frame.denied ?? {});
        break;
      case 'progress': {
        const verdict = jobs.apply(frame);
        if (typeof verdict === 'object') violation(verdict.violation);
        if (verdict !== 'fine') sync.soon();
        break;
      }
      case 'goaway':
        // Not yet: what is queued is still flushed, and the gateway closes by itself.
        window = retryWindow(frame.retry) ?? window;
        leavingWith = frame.code;
        failures = 0;
        break;
      case 'error':
        // No fault of ours: there are seconds left in which to say a new one.
        if (frame.code === 'token_expired' && provider !== undefined) renew();
        else become({ error: `${frame.code}: ${frame.message}` });
        break;
    }
  }

  /** The line ended, or could not be opened. @param {{ code: number, reason: string }} ending */
  function offline(ending) {
    line = null;
    release();
    if (ending.code === ABNORMAL && leavingWith > 0) ending = { ...ending, code: leavingWith };
    const lived = status.state === 'live' && now() - status.since >= STABLE_AFTER;
    if (lived) failures = 0;
    if (!mayReturn(ending.code)) return become({ state: 'offline', stopped: true, ending });
    if (forgotten()) return become({ state: 'offline', ending });
    const wait = backoff(failures, window, environment.random());
    failures += 1;
    later('redial', redial, wait);
    become({ state: 'offline', ending, retryAt: now() + wait });
  }

  function redial() {
    if (forgotten()) become({ retryAt: null });
    else dial();
  }

  function forgotten() {
    if (!environment.hidden()) hiddenSince = null;
    return hiddenSince !== null && now() - hiddenSince >= FORGOTTEN_AFTER;
  }

  /** What belongs to a line and must not outlive it. */
  function release() {
    sync.end();
    clearTimeout(timers.probe);
    clearTimeout(timers.renew);
    const aside = probe;
    probe = null;
    aside?.end(1000, 'not needed');
  }

  // -- the token, in place ----------------------------------------------------

  function renewSoon() {
    const wait = typeof provider === 'function' ? renewIn(token, now() / 1000 + status.skew) : null;
    if (wait !== null) later('renew', renew, wait);
  }

  function renew() {
    const own = line;
    if (own === null || provider === undefined) return;
    askForToken(provider, environment).then(
      (answer) => {
        if (own !== line || answer === null) return;
        token = answer;
        own.send({ type: 'hello', token: answer });
        renewSoon();
      },
      // It ends with 4100 then, and each dial asks again.
      (error) => own === line && become({ error: `no new token: ${error?.message ?? error}` }),
    );
  }

  // -- back to WebSockets ------------------------------------------------------

  function probeLater() {
    later('probe', tryBest, Math.min(FIRST_PROBE * 2 ** probes, LAST_PROBE));
    probes += 1;
  }

  function tryBest() {
    if (ladder.step === 0 || line === null || probe !== null || environment.hidden()) return;
    clearTimeout(timers.probe);
    probe = openWith(openLine, climb, () => {
      probe = null;
      probeLater();
    });
  }

  /** It opened: it takes over, and is asked for everything anew, from where we are. */
  function climb() {
    const old = line;
    line = probe;
    probe = null;
    ladder.climb();
    become({ state: 'connecting', transport: 'websocket' });
    old?.end(1000, 'a WebSocket gets through');
  }

  // -- waking up ---------------------------------------------------------------

  /** Something happened after which what we believe may be long wrong. */
  function wake() {
    if (environment.hidden()) {
      hiddenSince ??= now();
      return;
    }
    hiddenSince = null;
    if (status.stopped) return;
    if (status.state === 'offline') return dial();
    line?.check();
    probes = 0;
    tryBest();
  }

  /** @type {() => void} */
  let stopWaking;
  function startWaking() {
    const stops = [environment.onWake(wake), onSleep(environment, wake)];
    stopWaking = () => stops.forEach((stop) => stop());
    if (environment.hidden()) hiddenSince = now();
  }

  startWaking();
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
    observe(observer) {
      /** @type {(status: ConnectionStatus) => void} */
      const own = (status) => observer(status);
      observers.add(own);
      own(status);
      return () => observers.delete(own);
    },

    status: () => status,

    /** The gateway's time, Unix seconds. */
    now: () => now() / 1000 + status.skew,

    /** Dial now, also if it is stopped. Does nothing while there is a line. */
    retry() {
      if (status.state !== 'offline') return;
      if (status.stopped) {
        stopWaking();
        startWaking();
      }
      failures = 0;
      dial();
    },

    /** Hang up, for good unless `retry` is called. Watchers stay and hear nothing. */
    close() {
      dials += 1;
      stopWaking();
      clearTimeout(timers.redial);
      const old = line;
      line = null;
      release();
      old?.end(1000, 'closed by the page');
      become({ state: 'offline', stopped: true, retryAt: null, ending: { code: 1000, reason: 'closed by the page' } });
    },
  };
}
