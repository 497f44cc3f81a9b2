/**
 * Opens a transport: requests the token, loads the code of the transport, and connects. The caller gets one object
 * immediately. It can be ended at any time, and calls no event handler before `openTransport` has returned.
 */

import { load, loadTokens } from './load.js';
import { openSocket } from './socket.js';

/** @import { Environment } from './environment.js' */
/** @import { Command, Frame } from './protocol.js' */
/** @import { TokenProvider } from './tokens.js' */

/** The close code of a transport that ends before it was opened. */
const NOT_OPENED = 0;

/**
 * @typedef {object} TransportEvents
 * @property {(frame: Frame) => void} onFrame
 * @property {(text: string) => void} onMalformed
 * @property {(ms: number, time?: number) => void} onPong  the round-trip time, and the gateway's time
 * @property {(code: number, reason: string, blocked: boolean, reachable?: boolean) => void} onEnd
 *   `blocked`: no gateway has answered, not even with a reason for closing; `reachable`:
 *   it has answered another request meanwhile
 * @property {() => void} [onOpen]  called when commands can be sent, before the welcome
 */

/**
 * @typedef {object} Transport
 * @property {(command: Command) => void} send   sends a command; does nothing after the end
 * @property {() => void} check                  checks now whether the gateway answers
 * @property {(code?: number, reason?: string) => void} end   ends the transport, and calls `onEnd` with the same values
 */

/**
 * @typedef {Omit<TransportEvents, 'onOpen'> & {
 *   onOpen: () => void,
 *   onRefused: (error: unknown) => void,
 * }} ConnectEvents
 *   `onRefused` is called instead of `onEnd` if the browser never connects to such an address
 */

/**
 * @typedef {Transport & { index: number, token: string | null, tokens: typeof import('./tokens.js') | null }} SelectedTransport
 *   `token` and the module for tokens are null until they are loaded
 */

/**
 * Opens a transport.
 * @param {string} url  ws: or wss:
 * @param {number} index  of the transport: see `transport-choice.js`
 * @param {TokenProvider | undefined} provider
 * @param {Environment} environment
 * @param {ConnectEvents} events
 * @returns {SelectedTransport}
 */
export function openTransport(url, index, provider, environment, events) {
  /** @type {Transport | null} */
  let transport = null;
  let ended = false;
  /** @type {SelectedTransport} */
  const selected = { index, token: null, tokens: null, send: (command) => transport?.send(command), check: () => transport?.check(), end };

  /** @param {typeof openSocket} openFunction */
  function open(openFunction) {
    if (ended) return;
    try {
      transport = openFunction(url, environment, events);
    } catch (error) {
      ended = true;
      environment.queueMicrotask(() => events.onRefused(error));
    }
  }

  function end(code = 1000, reason = '') {
    if (transport !== null) return transport.end(code, reason);
    if (ended) return;
    ended = true;
    events.onEnd(code, reason, index > 0);
  }

  /** Loads what the transport needs, and requests the token. */
  async function loadOpenFunction() {
    // The modules are loaded on demand, because most pages never need them.
    const fallback = index === 0 ? null : load(() => import('./http-transports.js'));
    if (provider !== undefined) {
      const tokens = await loadTokens();
      Object.assign(selected, { tokens, token: await tokens.requestToken(provider, environment) });
    }
    if (fallback === null) return openSocket;
    const { openStream, openPolling } = await fallback;
    return index === 1 ? openStream : openPolling;
  }

  if (provider === undefined && index === 0) open(openSocket);
  else loadOpenFunction().then(open, (error) => end(NOT_OPENED, `could not connect: ${error?.message ?? error}`));
  return selected;
}
