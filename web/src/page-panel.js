/**
 * The state of the connection: a dot and a word at the top of the page, and
 * behind it what a developer would ask for, or show to a colleague.
 */

import { Journal } from './page-journal.js';
import { sparkline } from './page-chart.js';
import { everySecond, soon } from './ticker.js';
import { duration } from './view.js';

/** @import { Connection } from './connection.js' */
/** @import { ConnectionStatus } from './status.js' */

/** What is read out, also to those who are elsewhere; a dial is no news. */
const SAID = { connecting: null, live: 'Connected', stale: 'The gateway may be out of date', offline: 'Not connected' };
const WORDS = { connecting: 'Connecting', live: 'Live', stale: 'Stale', offline: 'Offline' };
const TRANSPORTS = { websocket: 'WebSocket', sse: 'Server-Sent Events', polling: 'long polling' };
const COPIED = 2_000;

/**
 * @param {Connection} connection
 * @param {(id: string) => HTMLElement} find
 */
export function showConnection(connection, find) {
  const journal = new Journal();
  const link = find('link');
  const word = find('link-word');
  const said = find('link-said');
  const retry = find('panel-retry');
  const copy = find('panel-copy');

  function paint() {
    const status = connection.status();
    link.dataset['state'] = status.stopped ? 'stopped' : status.state;
    const now = status.stopped ? 'Stopped' : WORDS[status.state];
    if (word.textContent !== now) word.textContent = now;
    const news = SAID[status.state];
    if (news !== null && said.textContent !== news) said.textContent = news;
    retry.hidden = status.state !== 'offline';
    if (!find('panel').matches(':popover-open')) return;
    find('panel-story').textContent = story(status);
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
  copy.addEventListener('click', async () => {
    const before = copy.textContent;
    try {
      await navigator.clipboard.writeText(report(connection, journal));
      copy.textContent = 'Copied';
    } catch {
      // Not on plain http from elsewhere: what there is to copy can be read and selected.
      copy.textContent = 'The browser does not allow it';
    }
    setTimeout(() => (copy.textContent = before), COPIED);
  });
}

/** @param {ConnectionStatus} status */
function story({ state, stopped, since, retryAt, ending }) {
  const why = ending === null ? '' : ` The last one ended with ${ending.code}${ending.reason && `, “${ending.reason}”`}.`;
  switch (state) {
    case 'live':
      return `Live for ${duration((Date.now() - since) / 1000)}. What you see is true now.`;
    case 'stale':
      return 'Connected, but the gateway is cut off from its broker: what you see may be old.';
    case 'connecting':
      return `Connecting to the gateway.${why}`;
    case 'offline':
      if (stopped) return `Not connected, and not trying by itself.${why}`;
      return retryAt === null ? `Trying again when this page is looked at.${why}` : `Trying again in ${duration((retryAt - Date.now()) / 1000)}.${why}`;
  }
}

/** @param {string} url @param {ConnectionStatus} status @returns {Array<[string, string]>} */
function facts(url, status) {
  return [
    ['Gateway', url.replace(/^wss?:\/\//, '')],
    ['Node', status.node || '–'],
    ['Transport', TRANSPORTS[status.transport]],
    ['Round trip', status.roundTrip === null ? '–' : `${Math.round(status.roundTrip)} ms`],
    ['Clock difference', `${Math.round(status.skew * 1000)} ms`],
    ['Reconnects', String(status.reconnects)],
    ['Violations', String(status.violations)],
    ...(status.error === null ? [] : [/** @type {[string, string]} */ (['Last error', status.error])]),
  ];
}

/** @param {HTMLElement} list @param {Array<[string, string]>} facts */
function showFacts(list, facts) {
  list.replaceChildren(
    ...facts.flatMap(([term, value]) => {
      const dt = document.createElement('dt');
      const dd = document.createElement('dd');
      dt.textContent = term;
      dd.textContent = value;
      return [dt, dd];
    }),
  );
}

/** @param {HTMLElement} figure @param {number[]} pings */
function showPings(figure, pings) {
  figure.hidden = pings.length < 2;
  if (figure.hidden || figure.dataset['n'] === String(pings.length) + pings.at(-1)) return;
  figure.dataset['n'] = String(pings.length) + pings.at(-1);
  const [least, most] = [Math.min(...pings), Math.max(...pings)];
  const said = `${pings.length} pings: ${Math.round(least)} to ${Math.round(most)} ms`;
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
      time.textContent = new Date(at).toLocaleTimeString();
      item.classList.toggle('bad', bad);
      item.append(time, ` ${text}`);
      return item;
    }),
  );
}

/**
 * All of it as text, for a bug report.
 * @param {Connection} connection @param {Journal} journal
 */
function report(connection, journal) {
  const status = connection.status();
  return [
    `progress-gateway, ${new Date().toISOString()}, ${navigator.userAgent}`,
    `State: ${status.state}${status.stopped ? ', stopped' : ''}. ${story(status)}`,
    ...facts(connection.url, status).map(([term, value]) => `${term}: ${value}`),
    `Pings (ms): ${journal.pings.map(Math.round).join(' ') || 'none yet'}`,
    '',
    ...journal.entries.map(({ at, text }) => `${new Date(at).toISOString()}  ${text}`),
    '',
  ].join('\n');
}
