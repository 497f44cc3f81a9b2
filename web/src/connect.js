/**
 * Connects: requests the token, loads the code of the transport, and opens it. The caller gets one
 * transport object immediately. It can be ended at any time, and calls no event handler before
 * `connectBy` has returned.
 */

import { openSocket } from './socket.js';

/** @import { Environment } from './environment.js' */
/** @import { Command, Frame } from './protocol.js' */
/** @import { TokenProvider } from './tokens.js' */

/** The transports, the best first. Numbers of transports (`transport-choice.js`) are indexes. */
export const TRANSPORTS = /** @type {const} */ (['websocket', 'sse', 'polling']);

/** The close code if the transport ends before it was opened. */
const NOT_OPENED = 0;

/**
 * @typedef {object} TransportEvents
 * @property {(frame: Frame) => void} frame
 * @property {(text: string) => void} malformed
 * @property {(ms: number, time?: number) => void} pong  the round-trip time, and the gateway's time
 * @property {(code: number, reason: string, blocked: boolean) => void} ended
 *   `blocked`: no gateway has answered, not even with a close reason
 * @property {() => void} [opened]  called when commands can be sent, before the welcome
 */

/**
 * @typedef {object} Transport
 * @property {(command: Command) => void} send   does nothing after the end
 * @property {() => void} check                  check now whether the gateway answers
 * @property {(code?: number, reason?: string) => void} end   ends it, and calls `ended` with the same values
 */

/**
 * @typedef {Omit<TransportEvents, 'opened'> & {
 *   opened: () => void,
 *   refused: (error: unknown) => void,
 * }} ConnectEvents
 *   `refused`, instead of `ended`: the browser never connects to such an address
 */

/**
 * @typedef {Transport & { step: number, token: string | null, tokens: typeof import('./tokens.js') | null }} Opening
 *   `token`, and the module for tokens, once they are known
 */

/**
 * @param {string} url  ws: or wss:
 * @param {number} step  which transport
 * @param {TokenProvider | undefined} provider
 * @param {Environment} environment
 * @param {ConnectEvents} events
 * @returns {Opening}
 */
export function connectBy(url, step, provider, environment, events) {
  /** @type {Transport | null} */
  let transport = null;
  let ended = false;
  /** @type {Opening} */
  const opening = { step, token: null, tokens: null, send: (command) => transport?.send(command), check: () => transport?.check(), end };

  /** @param {typeof openSocket} opener */
  function open(opener) {
    if (ended) return;
    try {
      transport = opener(url, environment, events);
    } catch (error) {
      ended = true;
      environment.queueMicrotask(() => events.refused(error));
    }
  }

  function end(code = 1000, reason = '') {
    if (transport !== null) return transport.end(code, reason);
    if (ended) return;
    ended = true;
    events.ended(code, reason, false);
  }

  async function prepare() {
    // Loaded on demand: most pages never need them.
    const fallback = step === 0 ? null : import('./fallback.js');
    if (provider !== undefined) {
      const tokens = await import('./tokens.js');
      Object.assign(opening, { tokens, token: await tokens.requestToken(provider, environment) });
    }
    if (fallback === null) return openSocket;
    const { openStream, openPolling } = await fallback;
    return step === 1 ? openStream : openPolling;
  }

  if (provider === undefined && step === 0) open(openSocket);
  else prepare().then(open, (error) => end(NOT_OPENED, `could not connect: ${error?.message ?? error}`));
  return opening;
}
