/**
 * Dialling: the token is asked for, what carries the line is loaded, and it is
 * opened. To the caller all of that is a line from the first moment on: it can be
 * ended at any time, and it reports nothing before `dial` has returned.
 */

import { openLine } from './line.js';
import { askForToken } from './tokens.js';

/** @import { Environment } from './environment.js' */
/** @import { Line, LineEvents } from './line.js' */
/** @import { TokenProvider } from './tokens.js' */

/** The best first; a number means one of these, as on the ladder. */
export const TRANSPORTS = /** @type {const} */ (['websocket', 'sse', 'polling']);

/** The code of an ending before there was anything to end. */
const NOT_DIALLED = 0;

/**
 * @typedef {Omit<LineEvents, 'opened'> & {
 *   opened: (token: string | null) => void,
 *   refused: (error: unknown) => void,
 * }} DialEvents
 *   `opened` brings the token to say; `refused`, instead of `ended`: the browser
 *   does not dial such an address, and never will
 */

/** @typedef {Line & { step: number }} Dialled */

/**
 * @param {string} url  ws: or wss:
 * @param {number} step  which transport
 * @param {TokenProvider | undefined} provider
 * @param {Environment} environment
 * @param {DialEvents} events
 * @returns {Dialled}
 */
export function dial(url, step, provider, environment, events) {
  /** @type {Line | null} */
  let line = null;
  let ended = false;

  /** @param {typeof openLine} opener @param {string | null} token */
  function open(opener, token) {
    if (ended) return;
    try {
      line = opener(url, environment, { ...events, opened: () => events.opened(token) });
    } catch (error) {
      ended = true;
      environment.queueMicrotask(() => events.refused(error));
    }
  }

  /** @param {number} code @param {string} reason */
  function end(code, reason) {
    if (line !== null) return line.end(code, reason);
    if (ended) return;
    ended = true;
    events.ended(code, reason, false);
  }

  if (provider === undefined && step === 0) {
    open(openLine, null);
  } else {
    Promise.all([openerOf(step), provider === undefined ? null : askForToken(provider, environment)]).then(
      ([opener, token]) => open(opener, token),
      (error) => end(NOT_DIALLED, `could not dial: ${error?.message ?? error}`),
    );
  }
  return { step, send: (command) => line?.send(command), check: () => line?.check(), end };
}

/**
 * The fallbacks are loaded when they are needed: most pages never do.
 * @param {number} step
 * @returns {Promise<typeof openLine>}
 */
async function openerOf(step) {
  if (step === 0) return openLine;
  const { openStream, openPolling } = await import('./fallback.js');
  return step === 1 ? openStream : openPolling;
}
