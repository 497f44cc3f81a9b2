/**
 * A log of the connection as text, from the differences between one
 * status and the next. Its size is limited, because a page may stay open for weeks. No DOM.
 */

import { TRANSPORTS, t } from './words.js';

/** @import { ConnectionStatus } from '../src/status.js' */

/** @typedef {{ at: number, text: string, bad: boolean }} Entry  `at`: milliseconds since 1970 */

const ENTRIES = 100;
const PINGS = 60;

export class Journal {
  /** The newest last. @type {Entry[]} */
  entries = [];
  /** Round trips in milliseconds, the newest last. @type {number[]} */
  pings = [];
  /** @type {ConnectionStatus | null} */
  #before = null;

  /** @param {ConnectionStatus} status @param {number} at */
  take(status, at) {
    const before = this.#before;
    this.#before = status;
    for (const { text, bad = false } of differences(before, status)) {
      this.entries.push({ at, text, bad });
    }
    // Every ping is recorded, even if it took as long as the last one.
    if (status.roundTrip !== null && onlyPinged(before, status)) this.pings.push(status.roundTrip);
    if (this.entries.length > ENTRIES) this.entries.splice(0, this.entries.length - ENTRIES);
    if (this.pings.length > PINGS) this.pings.splice(0, this.pings.length - PINGS);
  }
}

/** @param {ConnectionStatus | null} before @param {ConnectionStatus} status */
function onlyPinged(before, status) {
  return before !== null && differences(before, status).length === 0 && before.retryAt === status.retryAt && before.error === status.error;
}

/**
 * @param {ConnectionStatus | null} before
 * @param {ConnectionStatus} status
 * @returns {Array<{ text: string, bad?: boolean }>}
 */
function differences(before, status) {
  const happened = [];
  if (before?.state !== status.state || before.stopped !== status.stopped) happened.push(turn(before, status));
  else if (status.reconnects > before.reconnects) happened.push({ text: moved(status) });
  if (status.violations > (before?.violations ?? 0)) happened.push({ text: t('Violation: {what}', { what: status.violation ?? '' }), bad: true });
  if (status.error !== null && status.error !== before?.error) happened.push({ text: t('Error: {what}', { what: status.error }), bad: true });
  return happened;
}

/** A connection has replaced another without an interruption. @param {ConnectionStatus} status */
function moved({ transport, node }) {
  return t(node ? 'Switched without interruption to {transport}, node {node}' : 'Switched without interruption to {transport}', { transport: t(TRANSPORTS[transport]), node: node ?? '' });
}

/** @param {ConnectionStatus | null} before @param {ConnectionStatus} status */
function turn(before, { state, stopped, transport, node, ending }) {
  const why = ending === null ? '' : `: ${ending.code}${ending.reason && ` ${ending.reason}`}`;
  switch (state) {
    case 'connecting':
      return { text: t('Connecting over {transport}', { transport: t(TRANSPORTS[transport]) }) };
    case 'live':
      return before?.state === 'stale' ? { text: t('The gateway is up to date again') } : { text: t(node ? 'Live, node {node}' : 'Live', { node: node ?? '' }) };
    case 'stale':
      return { text: t('The gateway is cut off from its broker'), bad: true };
    case 'offline':
      return { text: `${t(stopped ? 'Stopped' : 'Lost')}${why}`, bad: true };
  }
}
