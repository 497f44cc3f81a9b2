/**
 * One connection per page and gateway, however many components ask for it.
 */

import { createConnection } from './connection.js';

/** @import { Connection } from './connection.js' */

/** @type {Map<string, Connection>} */
const connections = new Map();

/**
 * The connection to a gateway: by default the one this module was loaded from,
 * so that `<script src="https://progress.example/client.js">` needs no setting.
 *
 * @param {string | URL} [gateway]  URL of its `/ws`; http(s) is read as ws(s)
 * @returns {Connection}
 */
export function connect(gateway) {
  const url = new URL(gateway ?? new URL('ws', import.meta.url), globalThis.document?.baseURI ?? import.meta.url);
  url.protocol = url.protocol.replace(/^http/, 'ws');
  url.hash = '';
  let connection = connections.get(url.href);
  if (connection === undefined) {
    connection = createConnection(url.href);
    connections.set(url.href, connection);
  }
  return connection;
}
