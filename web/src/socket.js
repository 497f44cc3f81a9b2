/**
 * One WebSocket, from connecting to its end: splits messages into frames, answers
 * the gateway's pings, sends pings, and detects silence. It reports frames, and
 * `ended` exactly once and nothing after that, so a closing socket cannot affect
 * the next one. It never reconnects; `connection.js` does.
 * Where WebSockets are blocked, `fallback.js` has other transports.
 */

import { ABNORMAL, GOING_AWAY, PING_INTERVAL, SUBPROTOCOL } from './constants.js';
import { parseFrames } from './protocol.js';

/** @import { Environment } from './environment.js' */
/** @import { Command, Frame } from './protocol.js' */
/** @import { Transport, TransportEvents } from './connect.js' */

/** The timeout of the handshake, because the browser's own is minutes long. */
const WELCOME_DEADLINE = 10_000;
/** As often as the gateway pings; below the 30–60 s after which proxies reap. */
const PING_EVERY = PING_INTERVAL * 1000;
const PONG_DEADLINE = 5_000;
/** A timer that is this late means that the machine slept or the tab was frozen, not that the gateway is silent. */
const LATE = 2_000;

/**
 * @param {string} url
 * @param {Environment} environment
 * @param {TransportEvents} events
 * @returns {Transport}
 * @throws what the WebSocket constructor throws: a URL that can never work
 */
export function openSocket(url, environment, events) {
  const socket = new environment.WebSocket(url, [SUBPROTOCOL]);
  let open = false;
  let ended = false;
  let welcomed = false;
  /** When the ping was sent that is still unanswered. @type {number | null} */
  let pingedAt = null;
  let timer = environment.setTimeout(() => end(ABNORMAL, 'no welcome'), WELCOME_DEADLINE);

  /** @param {() => void} callback @param {number} ms */
  function wait(callback, ms) {
    environment.clearTimeout(timer);
    timer = environment.setTimeout(callback, ms);
  }

  function unanswered() {
    // The answer may be queued behind this timer, so send another ping.
    if (environment.now() - (pingedAt ?? 0) > PONG_DEADLINE + LATE) ping();
    else end(ABNORMAL, 'no pong');
  }

  /** @param {Command} command */
  function send(command) {
    if (open && !ended) socket.send(JSON.stringify(command));
  }

  function ping() {
    pingedAt = environment.now();
    wait(unanswered, PONG_DEADLINE);
    send({ type: 'ping', time: true });
  }

  /** @param {Frame} frame */
  function take(frame) {
    if (frame.type === 'ping') {
      // Here and not in a timer or a task: both stand still in a hidden tab.
      send({ type: 'pong' });
    } else if (frame.type === 'pong') {
      if (pingedAt === null) return;
      events.pong(environment.now() - pingedAt, frame.time);
      pingedAt = null;
      wait(ping, PING_EVERY);
    } else {
      if (frame.type === 'welcome') {
        welcomed = true;
        wait(ping, PING_EVERY);
      }
      events.frame(frame);
    }
  }

  function end(code = 1000, reason = '') {
    if (ended) return;
    ended = true;
    environment.clearTimeout(timer);
    socket.onopen = socket.onmessage = socket.onclose = null;
    // The constructor takes 1000 and 3000–4999; a reason of ours stays local.
    socket.close(code === 1000 ? 1000 : undefined);
    events.ended(code, reason, !welcomed && code === ABNORMAL);
  }

  socket.onopen = () => {
    open = true;
  };
  socket.onmessage = ({ data }) => {
    if (typeof data !== 'string') return events.malformed('a binary message');
    for (const frame of parseFrames(data, events.malformed)) {
      if (ended) return;
      take(frame);
    }
  };
  // Before the welcome a code below 4000 is a proxy's: it says nothing about the gateway.
  socket.onclose = ({ code, reason }) => end(welcomed || code >= 4000 || code === GOING_AWAY ? code : ABNORMAL, reason);

  return {
    send,
    check: () => {
      const asked = pingedAt !== null && environment.now() - pingedAt <= PONG_DEADLINE;
      if (welcomed && !asked) ping();
    },
    end,
  };
}
