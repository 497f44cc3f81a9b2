/**
 * One WebSocket, from dialling to its end: splits messages into frames, answers
 * the gateway's pings, pings by itself, and notices silence. A line reports
 * `opened` at most once, then frames, then `ended` exactly once and after that
 * nothing: whatever a dying socket still says has nowhere to go, so it cannot
 * touch the line that follows. It never dials again; `connection.js` does.
 * Where WebSockets are blocked, `fallback.js` has lines of other kinds.
 */

import { SUBPROTOCOL, parseFrames } from './protocol.js';

/** @import { Environment } from './environment.js' */
/** @import { Command, Frame } from './protocol.js' */

/** A network that swallows the handshake must not hold us for the browser's minutes. */
const WELCOME_DEADLINE = 10_000;
/** As often as the gateway pings; below the 30–60 s after which proxies reap. */
const PING_EVERY = 25_000;
const PONG_DEADLINE = 5_000;
/** A timer this late says that we slept, or stood still in a hidden tab; not that the other side is gone. */
const LATE = 2_000;

/** What `ended` says when no close frame did: "abnormal closure". */
export const ABNORMAL = 1006;

/**
 * @typedef {object} LineEvents
 * @property {() => void} opened
 * @property {(frame: Frame) => void} frame
 * @property {(text: string) => void} malformed
 * @property {(ms: number) => void} roundTrip
 * @property {(code: number, reason: string, blocked: boolean) => void} ended
 *   `blocked`: nothing ever came through, not even a reason
 */

/**
 * @typedef {object} Line
 * @property {(command: Command) => void} send   only between `opened` and `ended`; else it does nothing
 * @property {() => void} check                  ask now whether the other side is there
 * @property {(code: number, reason: string) => void} end   ends it; `ended` is called with the same
 */

/**
 * @param {string} url
 * @param {Environment} environment
 * @param {LineEvents} events
 * @returns {Line}
 * @throws what the WebSocket constructor throws: a URL that can never work
 */
export function openLine(url, environment, events) {
  const socket = new environment.WebSocket(url, [SUBPROTOCOL]);
  let open = false;
  let ended = false;
  let welcomed = false;
  /** When the ping went out that is still unanswered. @type {number | null} */
  let pingedAt = null;
  let timer = environment.setTimeout(() => end(ABNORMAL, 'no welcome'), WELCOME_DEADLINE);

  /** @param {() => void} callback @param {number} ms */
  function wait(callback, ms) {
    environment.clearTimeout(timer);
    timer = environment.setTimeout(callback, ms);
  }

  function unanswered() {
    // The answer may have been waiting behind this timer all the while: ask once more.
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
    send({ type: 'ping' });
  }

  /** @param {Frame} frame */
  function take(frame) {
    if (frame.type === 'ping') {
      // Here and not in a timer or a task: both stand still in a hidden tab.
      send({ type: 'pong' });
    } else if (frame.type === 'pong') {
      if (pingedAt === null) return;
      events.roundTrip(environment.now() - pingedAt);
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

  /** @param {number} code @param {string} reason */
  function end(code, reason) {
    if (ended) return;
    ended = true;
    environment.clearTimeout(timer);
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    // The constructor takes 1000 and 3000–4999; a reason of ours stays local.
    socket.close(code === 1000 ? 1000 : undefined);
    events.ended(code, reason, !welcomed && code === ABNORMAL);
  }

  socket.onopen = () => {
    open = true;
    events.opened();
  };
  socket.onmessage = ({ data }) => {
    if (typeof data !== 'string') return events.malformed('a binary message');
    for (const frame of parseFrames(data, events.malformed)) {
      if (ended) return;
      take(frame);
    }
  };
  socket.onclose = ({ code, reason }) => end(code, reason);
  socket.onerror = () => {}; // says nothing; `close` follows

  return {
    send,
    check: () => {
      const asked = pingedAt !== null && environment.now() - pingedAt <= PONG_DEADLINE;
      if (welcomed && !asked) ping();
    },
    end,
  };
}
