/**
 * The state of the connection: a dot and a word at the top of the page, and
 * behind it what a developer would ask for.
 */

import { paintEverySecond, paintSoon } from './ticker.js';
import { duration } from './view.js';

/** @import { Connection, ConnectionStatus } from './connection.js' */

/** What is read out, also to those who are elsewhere; a dial is no news. */
const SAID = { connecting: null, live: 'Connected', offline: 'Not connected', stopped: 'Not connected' };
const WORDS = { connecting: 'Connecting', live: 'Live', offline: 'Offline', stopped: 'Stopped' };

/**
 * @param {Connection} connection
 * @param {(id: string) => HTMLElement} find
 */
export function showConnection(connection, find) {
  const link = find('link');
  const word = find('link-word');
  const said = find('link-said');
  const retry = find('panel-retry');

  function paint() {
    const status = connection.status();
    link.dataset['state'] = status.state;
    if (word.textContent !== WORDS[status.state]) word.textContent = WORDS[status.state];
    const news = SAID[status.state];
    if (news !== null && said.textContent !== news) said.textContent = news;
    retry.hidden = status.state === 'live' || status.state === 'connecting';
    if (!find('panel').matches(':popover-open')) return;
    find('panel-story').textContent = story(status);
    showFacts(find('panel-facts'), facts(connection.url, status));
  }

  connection.observe(() => paintSoon(paint));
  paintEverySecond(paint);
  find('panel').addEventListener('toggle', paint);
  retry.addEventListener('click', () => connection.retry());
}

/** @param {ConnectionStatus} status */
function story({ state, since, retryAt, ending }) {
  const why = ending === null ? '' : ` The last one ended with ${ending.code}${ending.reason && `, “${ending.reason}”`}.`;
  switch (state) {
    case 'live':
      return `Live for ${duration((Date.now() - since) / 1000)}. What you see is true now.`;
    case 'connecting':
      return `Connecting to the gateway.${why}`;
    case 'offline':
      return `Trying again in ${duration(((retryAt ?? 0) - Date.now()) / 1000)}.${why}`;
    case 'stopped':
      return `Not connected, and not trying by itself.${why}`;
  }
}

/** @param {string} url @param {ConnectionStatus} status @returns {Array<[string, string]>} */
function facts(url, status) {
  return [
    ['Gateway', url.replace(/^wss?:\/\//, '')],
    ['Node', status.node ?? '–'],
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
