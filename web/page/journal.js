/**
 * The connection log of the page: texts that describe how each status of the connection differs from the one
 * before. Its size is limited, because a page may stay open for weeks. This module uses no DOM.
 */

import { TRANSPORTS, t } from './translations.js';

/** @import { ConnectionStatus } from '../src/connection-status.js' */

/** @typedef {{ at: number, text: string, bad: boolean }} Entry  `at`: milliseconds since 1970 */

const MAX_ENTRIES = 100;
const MAX_PINGS = 60;

export class Journal {
  /** The entries, the newest last. @type {Entry[]} */
  entries = [];
  /** Round trips in milliseconds, the newest last. @type {number[]} */
  pings = [];
  /** @type {ConnectionStatus | null} */
  #before = null;

  /** Adds the changes since the last status. @param {ConnectionStatus} status @param {number} at  milliseconds since 1970 */
  add(status, at) {
    const before = this.#before;
    this.#before = status;
    for (const { text, bad = false } of changesBetween(before, status)) {
      this.entries.push({ at, text, bad });
    }
    // Every ping is recorded, even if it took as long as the last one.
    if (status.roundTrip !== null && isOnlyPing(before, status)) this.pings.push(status.roundTrip);
    if (this.entries.length > MAX_ENTRIES) this.entries.splice(0, this.entries.length - MAX_ENTRIES);
    if (this.pings.length > MAX_PINGS) this.pings.splice(0, this.pings.length - MAX_PINGS);
  }
}

/** Returns whether two statuses differ only by a ping. @param {ConnectionStatus | null} before @param {ConnectionStatus} status */
function isOnlyPing(before, status) {
  return before !== null && changesBetween(before, status).length === 0 && before.retryAt === status.retryAt && before.error === status.error;
}

/**
 * Returns the entries for a new status.
 * @param {ConnectionStatus | null} before
 * @param {ConnectionStatus} status
 * @returns {Array<{ text: string, bad?: boolean }>}
 */
function changesBetween(before, status) {
  const entries = [];
  if (before?.state !== status.state || before.stopped !== status.stopped) entries.push(stateChange(before, status));
  else if (status.reconnects > before.reconnects) entries.push({ text: switchText(status) });
  if (status.violations > (before?.violations ?? 0)) entries.push({ text: t('Violation: {text}', { text: status.violation ?? '' }), bad: true });
  if (status.error !== null && status.error !== before?.error) entries.push({ text: t('Error: {text}', { text: status.error }), bad: true });
  return entries;
}

/** Returns the text for a connection that has replaced another without an interruption. @param {ConnectionStatus} status */
function switchText({ transport, node }) {
  return t(node ? 'Switched without interruption to {transport}, node {node}' : 'Switched without interruption to {transport}', { transport: t(TRANSPORTS[transport]), node: node ?? '' });
}

/** Returns the entry for a new state. @param {ConnectionStatus | null} before @param {ConnectionStatus} status */
function stateChange(before, { state, stopped, transport, node, ending }) {
  const lastEnding = ending === null ? '' : `: ${ending.code}${ending.reason && ` ${ending.reason}`}`;
  switch (state) {
    case 'connecting':
      return { text: t('Connecting over {transport}', { transport: t(TRANSPORTS[transport]) }) };
    case 'live':
      return before?.state === 'stale' ? { text: t('The gateway is up to date again') } : { text: t(node ? 'Live, node {node}' : 'Live', { node: node ?? '' }) };
    case 'stale':
      return { text: t('The gateway is not up to date with its broker'), bad: true };
    case 'offline':
      return { text: `${t(stopped ? 'Stopped' : 'Lost')}${lastEnding}`, bad: true };
  }
}
