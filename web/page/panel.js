/**
 * The state of the connection: a dot and a word at the top of the page, and a panel
 * with details for developers.
 */

import { everySecond, soon } from '../src/ticker.js';
import { duration } from '../src/view.js';
import { sparkline } from './chart.js';
import { copyOnClick, setText, showFacts } from './dom.js';
import { Journal } from './journal.js';
import { TRANSPORTS, t } from './words.js';

/** @import { Connection } from '../src/connection.js' */
/** @import { ConnectionStatus } from '../src/status.js' */

/** The states that a screen reader announces; attempts to connect are not announced. */
const ANNOUNCED = { connecting: null, live: 'Connected', stale: 'The gateway may be out of date', offline: 'Not connected' };
const LABELS = { connecting: 'Connecting', live: 'Live', stale: 'Stale', offline: 'Offline' };

/**
 * @param {Connection} connection
 * @param {(id: string) => HTMLElement} find
 */
export function showConnection(connection, find) {
  const journal = new Journal();
  const link = find('link');
  const word = find('link-word');
  const announcement = find('link-said');
  const retry = find('panel-retry');

  function paint() {
    const status = connection.status();
    link.dataset['state'] = status.stopped ? 'stopped' : status.state;
    const now = t(status.stopped ? 'Stopped' : LABELS[status.state]);
    setText(word, now);
    const news = ANNOUNCED[status.state];
    if (news !== null) setText(announcement, t(news));
    retry.hidden = status.state !== 'offline';
    if (!find('panel').matches(':popover-open')) return;
    setText(find('panel-story'), describeStatus(status));
    showFacts(find('panel-facts'), facts(connection.url, status));
    showPings(find('panel-pings'), journal.pings);
    showJournal(find('panel-journal'), journal);
  }

  connection.observe((status) => {
    journal.take(status, Date.now());
    soon(paint);
  });
  everySecond(paint);
  find('panel').addEventListener('toggle', paint);
  retry.addEventListener('click', () => connection.retry());
  copyOnClick(find('panel-copy'), () => reportText(connection, journal));
}

/** @param {ConnectionStatus} status */
function describeStatus({ state, stopped, since, retryAt, ending }) {
  const why = ending === null ? '' : ` ${t('The last one ended with {why}.', { why: `${ending.code}${ending.reason && `, “${ending.reason}”`}` })}`;
  switch (state) {
    case 'live':
      return t('Live for {time}. All states are current.', { time: duration((performance.now() - since) / 1000) });
    case 'stale':
      return t('Connected, but the gateway is cut off from its broker: states may be outdated.');
    case 'connecting':
      return `${t('Connecting to the gateway.')}${why}`;
    case 'offline':
      if (stopped) return `${t('Not connected. It does not retry automatically.')}${why}`;
      if (retryAt === null) return `${t('Trying again when this page is visible.')}${why}`;
      return `${t('Trying again in {time}.', { time: duration((retryAt - performance.now()) / 1000) })}${why}`;
  }
}

/** @param {string} url @param {ConnectionStatus} status @returns {Array<[string, string]>} */
function facts(url, status) {
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

/** @param {HTMLElement} figure @param {number[]} pings */
function showPings(figure, pings) {
  figure.hidden = pings.length < 2;
  if (figure.hidden || figure.dataset['n'] === String(pings.length) + pings.at(-1)) return;
  figure.dataset['n'] = String(pings.length) + pings.at(-1);
  const [least, most] = [Math.min(...pings), Math.max(...pings)];
  const said = t('{n} pings: {least} to {most} ms', { n: pings.length, least: Math.round(least), most: Math.round(most) });
  const caption = document.createElement('figcaption');
  caption.textContent = said;
  figure.replaceChildren(sparkline(pings, said), caption);
}

/** @param {HTMLElement} list @param {Journal} journal */
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
 * The whole panel as text, for a bug report.
 * @param {Connection} connection @param {Journal} journal
 */
function reportText(connection, journal) {
  const status = connection.status();
  return [
    `progress-gateway, ${new Date().toISOString()}, ${navigator.userAgent}`,
    `State: ${status.state}${status.stopped ? ', stopped' : ''}. ${describeStatus(status)}`,
    ...facts(connection.url, status).map(([term, value]) => `${term}: ${value}`),
    `Pings (ms): ${journal.pings.map(Math.round).join(' ') || 'none yet'}`,
    '',
    ...journal.entries.map(({ at, text }) => `${new Date(at).toISOString()}  ${text}`),
    '',
  ].join('\n');
}
