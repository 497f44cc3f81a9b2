/**
 * Shows the state of the connection: a button with a dot and a word at the top of the page, and a panel with
 * details for developers.
 */

import { everySecond, inNextFrame } from '../src/ticker.js';
import { duration } from '../src/view.js';
import { sparkline } from './chart.js';
import { copyOnClick, setText, showFacts } from './dom.js';
import { Journal } from './journal.js';
import { TRANSPORTS, t } from './translations.js';

/** @import { ConnectionStatus } from '../src/connection-status.js' */
/** @import { Connection } from '../src/connection.js' */

/** The states that a screen reader announces; attempts to connect are not announced. */
const ANNOUNCED = { connecting: null, live: 'Connected', stale: 'The gateway may be out of date', offline: 'Not connected' };
const LABELS = { connecting: 'Connecting', live: 'Live', stale: 'Stale', offline: 'Offline' };

/**
 * Keeps the button and the panel up to date.
 * @param {Connection} connection
 * @param {(id: string) => HTMLElement} find  returns the element with an id
 */
export function showConnection(connection, find) {
  const journal = new Journal();
  const button = find('connection');
  const label = find('connection-state');
  const announcement = find('connection-announcement');
  const retry = find('panel-retry');

  function paint() {
    const status = connection.status();
    button.dataset['state'] = status.stopped ? 'stopped' : status.state;
    setText(label, t(status.stopped ? 'Stopped' : LABELS[status.state]));
    const announcementText = ANNOUNCED[status.state];
    if (announcementText !== null) setText(announcement, t(announcementText));
    retry.hidden = status.state !== 'offline';
    if (!find('panel').matches(':popover-open')) return;
    setText(find('panel-status'), describeStatus(status));
    showFacts(find('panel-facts'), connectionFacts(connection.url, status));
    showPings(find('panel-pings'), journal.pings);
    showJournal(find('panel-log'), journal);
  }

  connection.observe((status) => {
    journal.add(status, Date.now());
    inNextFrame(paint);
  });
  everySecond(paint);
  find('panel').addEventListener('toggle', paint);
  retry.addEventListener('click', () => connection.retry());
  copyOnClick(find('panel-copy'), () => reportText(connection, journal));
}

/** Returns a sentence about the state of the connection. @param {ConnectionStatus} status */
function describeStatus({ state, stopped, since, retryAt, ending }) {
  const lastEnding = ending === null ? '' : ` ${t('The last one ended with {reason}.', { reason: `${ending.code}${ending.reason && `, “${ending.reason}”`}` })}`;
  switch (state) {
    case 'live':
      return t('Live for {time}. All states are current.', { time: duration((performance.now() - since) / 1000) });
    case 'stale':
      return t('Connected, but the gateway is not up to date with its broker: states may be outdated.');
    case 'connecting':
      return `${t('Connecting to the gateway.')}${lastEnding}`;
    case 'offline':
      if (stopped) return `${t('Not connected. It does not retry automatically.')}${lastEnding}`;
      if (retryAt === null) return `${t('Trying again when this page is visible.')}${lastEnding}`;
      return `${t('Trying again in {time}.', { time: duration((retryAt - performance.now()) / 1000) })}${lastEnding}`;
  }
}

/** Returns the rows of the table. @param {string} url @param {ConnectionStatus} status @returns {Array<[string, string]>} */
function connectionFacts(url, status) {
  return [
    ['Gateway', url.replace(/^wss?:\/\//, '')],
    ['Node', status.node || '–'],
    ['Transport', t(TRANSPORTS[status.transport])],
    ['Round trip', status.roundTrip === null ? '–' : `${Math.round(status.roundTrip)} ms`],
    ['Clock difference', `${Math.round(status.skew * 1000)} ms`],
    ['Reconnects', String(status.reconnects)],
    ['Violations', String(status.violations)],
    ...(status.error === null ? [] : [/** @type {[string, string]} */ (['Last error', status.error])]),
  ];
}

/** Shows the round trips as a chart. @param {HTMLElement} figure @param {number[]} pings */
function showPings(figure, pings) {
  figure.hidden = pings.length < 2;
  if (figure.hidden || figure.dataset['n'] === String(pings.length) + pings.at(-1)) return;
  figure.dataset['n'] = String(pings.length) + pings.at(-1);
  const [min, max] = [Math.min(...pings), Math.max(...pings)];
  const summary = t('{n} pings: {min} to {max} ms', { n: pings.length, min: Math.round(min), max: Math.round(max) });
  const caption = document.createElement('figcaption');
  caption.textContent = summary;
  figure.replaceChildren(sparkline(pings, summary), caption);
}

/** Shows the log, the newest entry first. @param {HTMLElement} list @param {Journal} journal */
function showJournal(list, { entries }) {
  const newest = entries.at(-1);
  const state = `${entries.length} ${newest?.at} ${newest?.text}`;
  if (list.dataset['state'] === state) return;
  list.dataset['state'] = state;
  list.replaceChildren(
    ...[...entries].reverse().map(({ at, text, bad }) => {
      const item = document.createElement('li');
      const time = document.createElement('time');
      time.dateTime = new Date(at).toISOString();
      time.textContent = new Date(at).toLocaleTimeString(document.documentElement.lang);
      item.classList.toggle('bad', bad);
      item.append(time, ` ${text}`);
      return item;
    }),
  );
}

/**
 * Returns the content of the panel as text, for a bug report.
 * @param {Connection} connection @param {Journal} journal
 */
function reportText(connection, journal) {
  const status = connection.status();
  return [
    `progress-gateway, ${new Date().toISOString()}, ${navigator.userAgent}`,
    `State: ${status.state}${status.stopped ? ', stopped' : ''}. ${describeStatus(status)}`,
    ...connectionFacts(connection.url, status).map(([term, value]) => `${term}: ${value}`),
    `Pings (ms): ${journal.pings.map(Math.round).join(' ') || 'none yet'}`,
    '',
    ...journal.entries.map(({ at, text }) => `${new Date(at).toISOString()}  ${text}`),
    '',
  ].join('\n');
}
