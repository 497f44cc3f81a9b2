/**
 * One connection per page and gateway, however many components ask for it.
 */

import { createConnection } from './connection.js';

/** @import { Connection } from './connection.js' */
/** @import { TokenProvider } from './tokens.js' */

/**
 * @typedef {object} Settings
 * @property {string | URL} [gateway]  URL of its `/ws`; http(s) is read as ws(s); by default
 *   `/ws` of the page's own origin, or beside the `client.js` that a page loaded
 * @property {TokenProvider} [token]   the token, or how to get one
 */

/** @type {Map<string, Connection>} */
const connections = new Map();

/** @type {Settings} */
let standard = {};

/**
 * Say once, before the first component connects, where the gateway is.
 * @param {Settings} settings  what is left out stays as it was
 */
export function configure(settings) {
  standard = { ...standard, ...settings };
}

/**
 * The connection to a gateway; the token counts when it is made.
 * @param {string | URL} [gateway]
 * @param {Pick<Settings, 'token'>} [options]
 * @returns {Connection}
 */
export function connect(gateway = standard.gateway ?? '/ws', { token = standard.token } = {}) {
  const url = new URL(gateway, globalThis.document?.baseURI);
  url.protocol = url.protocol.replace(/^http/, 'ws');
  url.hash = '';
  let connection = connections.get(url.href);
  if (connection === undefined) {
    connection = createConnection(url.href, { token });
    connections.set(url.href, connection);
  }
  return connection;
}
