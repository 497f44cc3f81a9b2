/**
 * The connection of a page to a gateway, which all components share. It keeps a transport open, and reconnects when
 * that ends.
 *
 *     connecting ──welcome──▶ live ◀──feed──▶ stale
 *          any ──the transport ends──▶ offline ──after a while──▶ connecting
 *
 * When it is offline it reconnects automatically, unless it is `stopped` (closed or permanently
 * refused: then `retry` or new credentials connect), or the page was hidden for long (then showing
 * it connects).
 *
 * While one transport is active, a replacement may be opened: to another node, if this node is draining, or a
 * WebSocket, if none was possible so far. It becomes active when the gateway has welcomed it, without a visible
 * interruption.
 *
 * This module has the states of a connection. Other modules: the transports in `open-transport.js`, `socket.js` and
 * `http-transports.js`; sending in `sync.js` and `tokens.js`; received states in `jobs.js`; the time of reconnects in
 * `reconnect.js` and `visibility.js`; the choice of the transport in `transport-choice.js`; the status for observers in
 * `connection-status.js`.
 */

import { GatewayClock } from './clock.js';
import { Status } from './connection-status.js';
import { ABNORMAL, MAX_HZ, MAX_MESSAGE, TOKEN_EXPIRED, UNAUTHORIZED } from './constants.js';
import { browserEnvironment } from './environment.js';
import { Jobs } from './jobs.js';
import { openTransport } from './open-transport.js';
import { mayReconnect } from './protocol.js';
import { Reconnect } from './reconnect.js';
import { SubscriptionSync } from './sync.js';
import { TransportChoice } from './transport-choice.js';
import { Visibility } from './visibility.js';

/** @import { ConnectionStatus, Observer } from './connection-status.js' */
/** @import { Environment } from './environment.js' */
/** @import { Listener, Watched } from './jobs.js' */
/** @import { SelectedTransport } from './open-transport.js' */
/** @import { Frame } from './protocol.js' */
/** @import { Renewal, TokenProvider } from './tokens.js' */

/** Milliseconds after which a connection counts as stable, so that failures are counted from zero again. */
const STABLE_AFTER = 60_000;
/** The first and the longest pause between two attempts to use a WebSocket again, in milliseconds; the pause doubles. */
const FIRST_PROBE_PAUSE = 15_000;
const LONGEST_PROBE_PAUSE = 480_000;
/** Milliseconds without a connection after which states are shown as stale; a shorter reconnect is not shown. */
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
 * @property {(settings: { url: string } & ConnectionOptions) => void} configure
 * @property {() => Promise<void>} renew
 * @property {() => void} logout
 * @property {() => void} retry
 * @property {() => void} close
 */

/** @typedef {{ token?: TokenProvider | undefined, maxHz?: number | undefined }} ConnectionOptions */

/**
 * Connects, and stays connected until `close`.
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
  const choice = new TransportChoice();
  const reconnect = new Reconnect(environment, connectAgain);
  const visibility = new Visibility(environment, wake);
  /** Created with the first token. @type {Renewal | undefined} */
  let renewal;

  /** The transport that is in use or being opened; null: offline. @type {SelectedTransport | null} */
  let active = null;
  /** The transport that is being opened to replace `active`. @type {SelectedTransport | null} */
  let replacement = null;
  let started = false;
  let welcomeCount = 0;
  /** Increased by each event that makes the result of earlier token requests obsolete. */
  let credentialsVersion = 0;
  /** The code of a `goaway`; 0: none was received. */
  let goawayCode = 0;
  let lastWarning = '';
  let probeCount = 0;
  /** @type {unknown} */
  let probeTimer = null;

  // -- transports ----------------------------------------------------------------

  /** Opens the active transport. */
  function openActive() {
    reconnect.cancel();
    status.update({ state: 'connecting', stopped: false, retryAt: null, transport: choice.name });
    active = open(choice.index);
  }

  /**
   * Opens a transport. Its events are ignored once it is neither active nor the replacement.
   * @param {number} index
   * @returns {SelectedTransport}
   */
  function open(index) {
    const transport = openTransport(url, index, renewal?.fallback ?? provider, environment, {
      onOpen() {
        if (transport === active) sync.begin(transport, maxHz);
        else transport.check(); // over HTTP the welcome is the response to a request
      },
      onFrame(frame) {
        if (transport === replacement && frame.type === 'welcome') replaceActive(transport);
        if (transport === active) handleFrame(frame, transport);
      },
      onMalformed(text) {
        if (transport === active) status.countViolation(`malformed: ${text.slice(0, 80)}`);
      },
      onPong(roundTrip, time) {
        if (transport !== active) return;
        clock.set(time);
        status.update({ roundTrip, skew: clock.skew });
      },
      onEnd(code, reason, blocked, reachable) {
        if (transport === active) onActiveTransportEnded({ code, reason }, blocked, reachable);
        else if (transport === replacement) onReplacementEnded();
      },
      onRefused(error) {
        if (transport === active) stop({ code: 0, reason: String(error) });
      },
    });
    return transport;
  }

  /** Makes the replacement active, because the gateway has welcomed it. @param {SelectedTransport} transport */
  function replaceActive(transport) {
    const previous = active;
    resetTransports();
    active = transport;
    choice.index = transport.index;
    previous?.end();
  }

  /** Handles the end of the active transport. @param {{ code: number, reason: string }} ending @param {boolean} blocked @param {boolean} [reachable] */
  function onActiveTransportEnded(ending, blocked, reachable) {
    const draining = goawayCode > 0;
    if (draining && ending.code === ABNORMAL) ending = { ...ending, code: goawayCode };
    if (blocked) choice.onBlocked(reachable);
    else probeCount = 0;
    const { state, since } = status.current;
    const liveFor = state === 'live' ? now() - since : 0;
    if (draining || liveFor >= STABLE_AFTER) reconnect.reset();
    jobs.onDisconnect();
    const stopsReconnecting = !mayReconnect(ending.code);
    // No warning is needed if a token expires in use, or if the provider has no token at present.
    const refused = stopsReconnecting || (ending.code === TOKEN_EXPIRED && liveFor < STALE_AFTER);
    if (refused && (!provider || active?.token)) warn(`closed with ${ending.code}: ${ending.reason}`);
    if (stopsReconnecting) {
      // If a new token was refused, the previous one may still be valid.
      if (ending.code !== UNAUTHORIZED || !renewal?.revert()) return stop(ending);
    }
    const opening = replacement;
    resetTransports();
    if (draining && opening?.index === choice.index) {
      // The replacement is already being opened, which is faster than another attempt.
      active = opening;
      status.update({ state: 'connecting', ending, transport: choice.name });
    } else {
      opening?.end();
      status.update({ state: 'offline', ending, retryAt: visibility.hiddenForLong ? null : reconnect.schedule(ending.code, reachable) });
    }
  }

  /** Handles the end of the replacement. */
  function onReplacementEnded() {
    replacement = null;
    if (goawayCode > 0) reconnect.schedule();
    else probeLater();
  }

  /** Resets everything that belongs to the transports. The caller ends the transports themselves. */
  function resetTransports() {
    active = replacement = null;
    goawayCode = 0;
    sync.end();
    renewal?.end();
    reconnect.cancel();
    environment.clearTimeout(probeTimer);
  }

  /** Ends both transports. */
  function endTransports() {
    const transports = [active, replacement];
    resetTransports();
    renewal?.reset();
    jobs.onDisconnect();
    for (const transport of transports) transport?.end();
  }

  /** Disconnects until `retry` or new credentials. @param {{ code: number, reason: string }} ending */
  function stop(ending) {
    endTransports();
    status.update({ state: 'offline', stopped: true, retryAt: null, ending });
  }

  // -- credentials -----------------------------------------------------------------

  /** Ends the open transports, and connects now. */
  function reconnectNow() {
    if (!started) return;
    endTransports();
    visibility.start();
    reconnect.reset();
    openActive();
  }

  /**
   * Requests and sends a new token. A replacement that has an earlier token is ended. Known states are dropped if they
   * may be those of another user.
   */
  async function renew() {
    const version = ++credentialsVersion;
    replacement?.end();
    const renewed = renewal?.transport && (await renewal.renew());
    if (version !== credentialsVersion || (renewed && !status.current.stopped)) return;
    if (renewed === false || provider !== renewal?.from) sync.clear();
    reconnectNow();
  }

  /** Logs a refusal in the console, once for each reason. @param {string} error */
  function warn(error) {
    if (error !== lastWarning) console.warn(`progress-gateway (${url}): ${(lastWarning = error)}`);
    status.update({ error });
  }

  // -- frames of the gateway -----------------------------------------------------

  /** Handles a frame of the active transport. @param {Frame} frame @param {SelectedTransport} transport */
  function handleFrame(frame, transport) {
    sync.sets?.handle(frame);
    switch (frame.type) {
      case 'welcome':
        clock.set(frame.time);
        sync.maxBytes = Math.min(frame.limits?.message ?? MAX_MESSAGE, MAX_MESSAGE);
        reconnect.setWindow(frame.retry);
        choice.onSuccess();
        welcomeCount += 1;
        if (transport.tokens) renewal ??= new transport.tokens.Renewal(environment, () => provider, clock, renew, (error) => status.update({ error }));
        if (renewal?.begin(transport, transport.token) === false) sync.clear();
        sync.begin(transport, maxHz);
        status.update({
          state: frame.stale === true ? 'stale' : 'live',
          transport: choice.name,
          node: frame.node,
          skew: clock.skew,
          reconnects: welcomeCount - 1,
          error: null,
        });
        if (choice.index > 0) probeLater();
        break;
      case 'feed':
        if ((status.current.state === 'stale') !== frame.stale) status.update({ state: frame.stale ? 'stale' : 'live' });
        break;
      case 'subscriptions':
        sync.onReply(frame.id, frame.denied);
        break;
      case 'progress': {
        clock.atLeast(frame.state?.updated_at);
        const violation = jobs.apply(frame);
        if (violation === null) break;
        status.countViolation(violation);
        sync.schedule();
        break;
      }
      case 'goaway':
        // This transport works until the gateway closes it. A replacement is opened before that.
        goawayCode = frame.code;
        reconnect.setWindow(frame.retry);
        reconnect.reset();
        reconnect.schedule();
        break;
      case 'error':
        // This is not an error, because a new token can be sent within some seconds.
        if (frame.code === 'token_expired' && renewal) void renew();
        else status.update({ error: `${frame.code}: ${frame.message}` });
        break;
    }
  }

  // -- timers ----------------------------------------------------------------------

  /** Connects, or opens the replacement. */
  function connectAgain() {
    if (visibility.hiddenForLong) return active ?? status.update({ retryAt: null });
    if (active === null) openActive();
    else replacement ??= open(choice.index);
  }

  /** Schedules the next attempt to use a WebSocket again. */
  function probeLater() {
    environment.clearTimeout(probeTimer);
    probeTimer = environment.setTimeout(probeWebSocket, Math.min(FIRST_PROBE_PAUSE * 2 ** probeCount++, LONGEST_PROBE_PAUSE));
  }

  /** Opens a WebSocket as a replacement, unless it is already in use. */
  function probeWebSocket() {
    if (choice.index === 0 || active === null || environment.hidden()) return;
    environment.clearTimeout(probeTimer);
    replacement ??= open(0);
  }

  /** Handles an event after which the known states may be very old. */
  function wake() {
    if (status.current.stopped) return;
    if (active === null) return openActive();
    active.check();
    probeCount = 0;
    probeWebSocket();
  }

  environment.ready(() => {
    started = true;
    if (!status.current.stopped) reconnectNow();
  });

  return {
    get url() {
      return url;
    },

    /**
     * Calls the listener now if a state is known, and at each change, but never twice for the same position, until the
     * returned function is called, which may be called several times.
     */
    watch(job, listener) {
      /** @type {Listener} */
      const ownListener = (watched) => listener(watched);
      jobs.add(job, ownListener);
      sync.schedule();
      const knownState = jobs.peek(job);
      if (knownState !== null) ownListener(knownState);
      return () => {
        jobs.remove(job, ownListener);
        sync.schedule();
      };
    },

    /** Returns the known state of a job that is watched, or was watched recently. */
    peek: (job) => jobs.peek(job),

    /** Returns whether the known state of a job may be out of date. */
    isStale(job) {
      const { state, stopped, since } = status.current;
      return stopped || (state !== 'live' && now() - since > STALE_AFTER) || jobs.unconfirmedMs(job) > STALE_AFTER;
    },

    /** For `sets.js`. */
    sync,

    /** Calls the observer with the connection's status, now and at each change. */
    observe: (observer) => status.observe(observer),

    status: () => status.current,

    /** Returns the gateway's time in Unix seconds. */
    now: clock.now,

    /** Applies new settings. With the token of another user, or with another gateway, all known states are dropped. */
    configure(settings) {
      const urlChanged = settings.url !== url;
      const tokenChanged = settings.token !== provider;
      // Before the welcome `maxHz` is sent together with the token.
      if (settings.maxHz !== maxHz) sync.transport?.send({ type: 'hello', max_hz: settings.maxHz ?? MAX_HZ });
      ({ url, maxHz, token: provider } = settings);
      if (urlChanged) {
        endTransports();
        sync.clear();
      }
      if (urlChanged || tokenChanged) void renew();
    },

    /** Requests a new token and sends it, for example after the user has got access to more jobs. */
    renew,

    /** Drops the token and all known states, and disconnects until `renew` or new credentials. */
    logout() {
      if (typeof provider !== 'function') provider = undefined;
      sync.clear();
      this.close();
    },

    /** Connects now, also after a stop. Does nothing while a transport is active. */
    retry() {
      if (active === null) reconnectNow();
    },

    /** Disconnects until `retry`. Listeners are kept, and are not called until then. */
    close() {
      credentialsVersion += 1;
      visibility.stop();
      stop({ code: 1000, reason: 'closed by the page' });
    },
  };
}
