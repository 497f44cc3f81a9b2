/**
 * One WebSocket, from its opening to its end. This module splits messages into frames, answers the gateway's pings,
 * sends pings, and detects a lost connection. It reports frames, calls `onEnd` exactly once, and reports nothing after
 * that, so a closing socket cannot affect the next one. It never reconnects; `connection.js` does. `http-transports.js` has
 * transports for networks that block WebSockets.
 */

import { ABNORMAL, GOING_AWAY, PING_INTERVAL, SUBPROTOCOL } from './constants.js';
import { parseFrames } from './protocol.js';

/** @import { Environment } from './environment.js' */
/** @import { Transport, TransportEvents } from './open-transport.js' */
/** @import { Command, Frame } from './protocol.js' */

/** Milliseconds until the welcome must have arrived. The browser's own timeout is minutes long. */
const WELCOME_TIMEOUT = 10_000;
/** Milliseconds between two pings, as for the gateway: below the 30–60 s after which proxies close idle connections. */
const PING_PAUSE = PING_INTERVAL * 1000;
const PONG_TIMEOUT = 5_000;
/** A timer that is later than this shows that the machine slept or the tab was frozen, not that the gateway did not answer. */
const TIMER_TOLERANCE = 2_000;

/**
 * Opens a WebSocket.
 * @param {string} url
 * @param {Environment} environment
 * @param {TransportEvents} events
 * @returns {Transport}
 * @throws the error of the WebSocket constructor, if the URL is not valid
 */
export function openSocket(url, environment, events) {
  const socket = new environment.WebSocket(url, [SUBPROTOCOL]);
  let open = false;
  let ended = false;
  let welcomed = false;
  /** When the pending ping was sent; null: there is none. @type {number | null} */
  let pingedAt = null;
  let timer = environment.setTimeout(() => end(ABNORMAL, 'no welcome'), WELCOME_TIMEOUT);

  /** Sets the only timer. @param {() => void} callback @param {number} ms */
  function setTimer(callback, ms) {
    environment.clearTimeout(timer);
    timer = environment.setTimeout(callback, ms);
  }

  /** Ends the connection, because no pong has arrived. */
  function onPongTimeout() {
    // After a late timer the pong may be waiting in the queue, so send another ping.
    if (environment.now() - /** @type {number} */ (pingedAt) > PONG_TIMEOUT + TIMER_TOLERANCE) ping();
    else end(ABNORMAL, 'no pong');
  }

  /** @param {Command} command */
  function send(command) {
    if (open && !ended) socket.send(JSON.stringify(command));
  }

  function ping() {
    pingedAt = environment.now();
    setTimer(onPongTimeout, PONG_TIMEOUT);
    send({ type: 'ping', time: true });
  }

  /** Handles a frame. @param {Frame} frame */
  function handleFrame(frame) {
    if (frame.type === 'ping') {
      // Answer here and not in a timer, because timers are delayed in a hidden tab.
      send({ type: 'pong' });
    } else if (frame.type === 'pong') {
      if (pingedAt === null) return;
      events.onPong(environment.now() - pingedAt, frame.time);
      pingedAt = null;
      setTimer(ping, PING_PAUSE);
    } else {
      if (frame.type === 'welcome') {
        welcomed = true;
        setTimer(ping, PING_PAUSE);
      }
      events.onFrame(frame);
    }
  }

  function end(code = 1000, reason = '') {
    if (ended) return;
    ended = true;
    environment.clearTimeout(timer);
    socket.onopen = socket.onmessage = socket.onclose = null;
    // `close` accepts only 1000 and 3000–4999, so another code stays in this page.
    socket.close(code === 1000 ? 1000 : undefined);
    events.onEnd(code, reason, !welcomed && code === ABNORMAL);
  }

  socket.onopen = () => {
    open = true;
  };
  socket.onmessage = ({ data }) => {
    if (typeof data !== 'string') return events.onMalformed('a binary message');
    for (const frame of parseFrames(data, events.onMalformed)) {
      if (ended) return;
      handleFrame(frame);
    }
  };
  // Before the welcome a code below 4000 comes from a proxy, not from the gateway.
  socket.onclose = ({ code, reason }) => end(welcomed || code >= 4000 || code === GOING_AWAY ? code : ABNORMAL, reason);

  return {
    send,
    check: () => {
      const isPingPending = pingedAt !== null && environment.now() - pingedAt <= PONG_TIMEOUT;
      if (welcomed && !isPingPending) ping();
    },
    end,
  };
}
