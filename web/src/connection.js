/**
 * The only connection of a page to a gateway, which all watchers share. It keeps
 * a transport open, and reconnects when that ends.
 *
 *     connecting ──welcome──▶ live ◀──feed──▶ stale
 *          any ──the transport ends──▶ offline ──after a while──▶ connecting
 *
 * When it is offline it reconnects automatically, unless it is `stopped` (closed or permanently
 * refused: then `retry` or new credentials connect), or the page was hidden for long (then showing
 * it connects).
 *
 * While one transport is in use, another one may be opened beside it: to another node, if this node
 * is draining, or a WebSocket, if none was possible so far. It replaces the first when it is
 * welcomed, without a visible interruption.
 *
 * This file has the states of a connection. Other parts: the transports in `connect.js`, `socket.js`
 * and `fallback.js`; sending in `sync.js` and `tokens.js`; received states in `jobs.js`; when to
 * reconnect in `reconnect.js` and `visibility.js`, and with which transport in
 * `transport-choice.js`; the status for observers in `status.js`.
 */

import { GatewayClock } from './clock.js';
import { TRANSPORTS, connectBy } from './connect.js';
import { ABNORMAL, MAX_HZ, MAX_MESSAGE, TOKEN_EXPIRED, UNAUTHORIZED } from './constants.js';
import { browserEnvironment } from './environment.js';
import { Jobs } from './jobs.js';
import { mayReconnect } from './protocol.js';
import { Reconnect } from './reconnect.js';
import { Status } from './status.js';
import { SubscriptionSync } from './sync.js';
import { TransportChoice } from './transport-choice.js';
import { Visibility } from './visibility.js';

/** @import { Opening } from './connect.js' */
/** @import { Environment } from './environment.js' */
/** @import { Listener, Watched } from './jobs.js' */
/** @import { Frame } from './protocol.js' */
/** @import { ConnectionStatus, Observer } from './status.js' */
/** @import { Renewal, TokenProvider } from './tokens.js' */

/** After a connection that lasted this long, failures are counted from zero again. */
const STABLE_AFTER = 60_000;
/** First and longest pause between two attempts to use a WebSocket again; the pause doubles. */
const FIRST_PROBE = 15_000;
const LAST_PROBE = 480_000;
/** A shorter reconnect is not shown, to avoid flickering. */
const STALE_AFTER = 1_500;

/**
 * @typedef {object} Connection
 * @property {string} url
 * @property {(job: string, listener: Listener) => () => void} watch
 * @property {(job: string) => Watched | null} peek
 * @property {(job: string) => boolean} isStale
 * @property {SubscriptionSync} sync
 * @property {(observer: Observer) => () => void} observe
 * @property {() => ConnectionStatus} status
 * @property {() => number} now
 * @property {(settings: { url: string } & ConnectionOptions) => void} use
 * @property {() => Promise<void>} renew
 * @property {() => void} logout
 * @property {() => void} retry
 * @property {() => void} close
 */

/** @typedef {{ token?: TokenProvider | undefined, maxHz?: number | undefined }} ConnectionOptions */

/**
 * Connect, and stay connected until `close`.
 *
 * @param {string} url  ws: or wss:
 * @param {ConnectionOptions & Partial<Environment>} [options]
 * @returns {Connection}
 */
export function createConnection(url, { token: provider, maxHz, ...overrides } = {}) {
  /** @type {Environment} */
  const environment = { ...browserEnvironment(), ...overrides };
  const { now } = environment;
  const status = new Status(now);
  const clock = new GatewayClock(environment);
  const jobs = new Jobs(environment);
  const sync = new SubscriptionSync(jobs, environment);
  const choice = new TransportChoice(TRANSPORTS.length);
  const reconnect = new Reconnect(environment, connectAgain);
  const visibility = new Visibility(environment, wake);
  /** Once there is a token. @type {Renewal | undefined} */
  let renewal;

  /** The transport that is in use or being opened; null: offline. @type {Opening | null} */
  let current = null;
  /** The transport that is being opened to replace it. @type {Opening | null} */
  let next = null;
  let started = false;
  let welcomes = 0;
  /** Increased by every event that makes the answer to an earlier token request obsolete. */
  let changes = 0;
  let goawayCode = 0; // the code of a `goaway`
  let lastWarning = '';
  let probes = 0;
  /** @type {unknown} */
  let probeTimer = null;

  const transport = () => TRANSPORTS[choice.index] ?? 'websocket';

  // -- transports ----------------------------------------------------------------

  function connectNow() {
    reconnect.cancel();
    status.update({ state: 'connecting', stopped: false, retryAt: null, transport: transport() });
    current = open(choice.index);
  }

  /** @param {number} step */
  function openBeside(step) {
    next ??= open(step);
  }

  /**
   * Open a transport. Once another one has taken its place its events are ignored.
   * @param {number} step
   * @returns {Opening}
   */
  function open(step) {
    const own = connectBy(url, step, renewal?.fallback ?? provider, environment, {
      opened() {
        if (own === current) sync.begin(own, { token: own.token, maxHz });
        else own.check(); // over HTTP the welcome is the answer to a request
      },
      frame(frame) {
        if (own === next && frame.type === 'welcome') takeOver(own);
        if (own === current) take(frame, own);
      },
      malformed: (text) => own === current && status.countViolation(`no frame: ${text.slice(0, 80)}`),
      pong(ms, time) {
        if (own !== current) return;
        clock.set(time);
        status.update({ roundTrip: ms, skew: clock.skew });
      },
      ended(code, reason, blocked) {
        if (own === current) lost({ code, reason }, blocked);
        else if (own === next) nextEnded();
      },
      refused(error) {
        if (own === current) stop({ code: 0, reason: String(error) });
      },
    });
    return own;
  }

  /** Use the second transport from now on, because it was welcomed. @param {Opening} own */
  function takeOver(own) {
    const old = current;
    release();
    current = own;
    if (own.step === 0) choice.useBest();
    old?.end();
  }

  /** @param {{ code: number, reason: string }} ending @param {boolean} blocked */
  function lost(ending, blocked) {
    const leaving = goawayCode > 0;
    if (leaving && ending.code === ABNORMAL) ending = { ...ending, code: goawayCode };
    if (blocked) choice.blocked();
    else if (!leaving) choice.lost();
    const { state, since } = status.current;
    if (leaving || (state === 'live' && now() - since >= STABLE_AFTER)) reconnect.reset();
    jobs.disconnected();
    const final = !mayReconnect(ending.code);
    // A token that expires in use is no mistake, and a page that has none at present needs no warning.
    const refused = final || (ending.code === TOKEN_EXPIRED && (state !== 'live' || now() - since < STALE_AFTER));
    if (refused && (!provider || current?.token)) warn(`closed with ${ending.code}: ${ending.reason}`);
    if (final) {
      // If a new token was refused, the old one is still valid.
      if (ending.code !== UNAUTHORIZED || !renewal?.revert()) return stop(ending);
    }
    const beside = next;
    release();
    if (leaving && beside?.step === choice.index) {
      // The next transport is being opened already: nothing would be faster.
      current = beside;
      status.update({ state: 'connecting', ending, transport: transport() });
    } else {
      beside?.end();
      status.update({ state: 'offline', ending, retryAt: visibility.hiddenForLong ? null : reconnect.schedule(ending.code) });
    }
  }

  function nextEnded() {
    next = null;
    if (goawayCode > 0) reconnect.schedule();
    else probeLater();
  }

  /** Drop all state of the transports. The caller ends the transports themselves. */
  function release() {
    current = next = null;
    goawayCode = 0;
    sync.end();
    renewal?.end();
    reconnect.cancel();
    environment.clearTimeout(probeTimer);
  }

  /** End both transports. */
  function drop() {
    const open = [current, next];
    release();
    renewal?.reset();
    jobs.disconnected();
    for (const each of open) each?.end();
  }

  /** Stop until `retry` or new credentials. @param {{ code: number, reason: string }} ending */
  function stop(ending) {
    drop();
    status.update({ state: 'offline', stopped: true, retryAt: null, ending });
  }

  // -- credentials -----------------------------------------------------------------

  /** End the open transports, and connect now. */
  function connectAnew() {
    if (!started) return;
    drop();
    visibility.start();
    reconnect.reset();
    connectNow();
  }

  /**
   * Request and send a new token. Nothing with an earlier token may continue. Known states are
   * dropped if they may be those of another user.
   */
  async function renew() {
    const change = ++changes;
    next?.end();
    const renewed = renewal?.transport && (await renewal.renew());
    if (change !== changes || (renewed && !status.current.stopped)) return;
    if (renewed === false || provider !== renewal?.from) sync.clear();
    connectAnew();
  }

  /** Log a refusal in the console, once for each reason. @param {string} error */
  function warn(error) {
    if (error !== lastWarning) console.warn(`progress-gateway (${url}): ${(lastWarning = error)}`);
    status.update({ error });
  }

  // -- frames of the gateway -----------------------------------------------------

  /** @param {Frame} frame @param {Opening} own */
  function take(frame, own) {
    sync.sets?.handle(frame);
    switch (frame.type) {
      case 'welcome':
        clock.set(frame.time);
        sync.limit = Math.min(frame.limits?.message ?? MAX_MESSAGE, MAX_MESSAGE);
        reconnect.setWindow(frame.retry);
        choice.succeeded();
        welcomes += 1;
        if (own.tokens) renewal ??= new own.tokens.Renewal(environment, () => provider, clock, renew, (error) => status.update({ error }));
        if (renewal?.begin(own, own.token) === false) sync.clear();
        sync.begin(own, { token: own.token, maxHz });
        status.update({
          state: frame.stale === true ? 'stale' : 'live',
          transport: transport(),
          node: frame.node,
          skew: clock.skew,
          reconnects: welcomes - 1,
          error: null,
        });
        if (choice.index > 0) probeLater();
        break;
      case 'feed':
        if ((status.current.state === 'stale') !== frame.stale) status.update({ state: frame.stale ? 'stale' : 'live' });
        break;
      case 'subscriptions':
        sync.answered(frame.id, frame.denied);
        break;
      case 'progress': {
        clock.atLeast(frame.state?.updated_at);
        const violation = jobs.apply(frame);
        if (violation === null) break;
        status.countViolation(violation);
        sync.soon();
        break;
      }
      case 'goaway':
        // This connection works until the gateway closes it. Open another one until then.
        goawayCode = frame.code;
        reconnect.setWindow(frame.retry);
        reconnect.reset();
        reconnect.schedule();
        break;
      case 'error':
        // Not an error: there are some seconds left to send a new token.
        if (frame.code === 'token_expired' && renewal) void renew();
        else status.update({ error: `${frame.code}: ${frame.message}` });
        break;
    }
  }

  // -- timers ----------------------------------------------------------------------

  /** Connect, or open the connection that replaces this one. */
  function connectAgain() {
    if (visibility.hiddenForLong) return current ?? status.update({ retryAt: null });
    if (current === null) connectNow();
    else openBeside(choice.index);
  }

  function probeLater() {
    environment.clearTimeout(probeTimer);
    probeTimer = environment.setTimeout(probe, Math.min(FIRST_PROBE * 2 ** probes, LAST_PROBE));
    probes += 1;
  }

  function probe() {
    if (choice.index === 0 || current === null || environment.hidden()) return;
    environment.clearTimeout(probeTimer);
    openBeside(0);
  }

  /** Handle an event after which the known states may be very old. */
  function wake() {
    if (status.current.stopped) return;
    if (current === null) return connectNow();
    current.check();
    probes = 0;
    probe();
  }

  environment.ready(() => {
    started = true;
    if (!status.current.stopped) connectAnew();
  });

  return {
    get url() {
      return url;
    },

    /**
     * Call the listener now if a state is known already, and at each change, but never twice for
     * the same position. The returned function ends it, and may be called several times.
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

    /** The known state of a job that is watched, or was watched recently. */
    peek: (job) => jobs.peek(job),

    /** Whether the known state of a job may be out of date. */
    isStale(job) {
      const { state, stopped, since } = status.current;
      return stopped || (state !== 'live' && now() - since > STALE_AFTER) || jobs.unconfirmedFor(job) > STALE_AFTER;
    },

    /** Used by `sets.js`. */
    sync,

    /** Call the observer with the connection's status, now and at each change. */
    observe: (observer) => status.observe(observer),

    status: () => status.current,

    /** The gateway's time, Unix seconds. */
    now: clock.now,

    /** Apply new settings. The token of another user, or another gateway, drops all known states. */
    use(settings) {
      const moved = settings.url !== url;
      const changed = settings.token !== provider;
      // Before the welcome it is sent together with the token.
      if (settings.maxHz !== maxHz) sync.transport?.send({ type: 'hello', max_hz: settings.maxHz ?? MAX_HZ });
      ({ url, maxHz, token: provider } = settings);
      if (moved) {
        drop();
        sync.clear();
      }
      if (moved || changed) void renew();
    },

    /** Request a new token and send it, for example after the user has got access to more jobs. */
    renew,

    /** Drop the token and all known states, and disconnect until `renew` or new credentials. */
    logout() {
      if (typeof provider !== 'function') provider = undefined;
      sync.clear();
      this.close();
    },

    /** Connect now, even if it is stopped. Does nothing while there is a connection. */
    retry() {
      if (current === null) connectAnew();
    },

    /** Disconnect until `retry`. Watchers stay, and are no longer called. */
    close() {
      changes += 1;
      visibility.stop();
      stop({ code: 1000, reason: 'closed by the page' });
    },
  };
}
