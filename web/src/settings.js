/**
 * The settings of the page: the gateway's URL, the token and others; and one connection per gateway, which all components
 * share.
 *
 * Settings can change at any time, by `configure`. Without a script they are set in the HTML, as
 * `<meta name="progress-gateway" content="https://progress.example/ws" data-token-url="/token">`
 * or `<script src="…/client.js" data-token-url="/token">`.
 */

import { createConnection } from './connection.js';
import { loadTokens } from './load.js';

/** @import { Connection } from './connection.js' */
/** @import { TokenProvider } from './tokens.js' */

/**
 * @typedef {object} Settings
 * @property {string | URL | undefined} [gateway]  the URL of its `/ws`; http(s) is changed to ws(s); the default
 *   is `/ws` of the page's origin, or that beside the `client.js` that the page has loaded
 * @property {TokenProvider | undefined} [token]   the token, or a function that returns one
 * @property {number | undefined} [maxHz]  the maximum number of changes of a job that the gateway sends per second
 * @property {string | undefined} [locale]  the language of words and numbers: `de`, `zh-Hans`; the default is English
 * @property {Partial<import('./language.js').Words> | undefined} [words]  replace those of the locale
 */

/** @typedef {{ gateway?: string | URL | undefined, token?: TokenProvider | undefined }} GatewayOptions */
/** @typedef {{ url: string, token: TokenProvider | undefined, loadTokens: typeof loadTokens }} Credentials */

/** @type {Array<GatewayOptions & { connection: Connection }>} */
const connections = [];

/** @type {Settings | undefined} */
let settings;

/** Reads the settings in the HTML. @returns {Settings} */
function settingsInHtml() {
  const element = /** @type {HTMLMetaElement | undefined} */ (
    globalThis.document?.querySelector?.('meta[name="progress-gateway"], script[data-token-url]')
  );
  const tokenUrl = element?.dataset['tokenUrl'];
  return { ...(element?.content && { gateway: element.content }), ...(tokenUrl && { token: tokenFrom(tokenUrl) }) };
}

/**
 * Returns a token provider that requests a URL of the application's backend, which answers with the token as text, or
 * as JSON with `token`.
 * @param {string | URL} url
 * @returns {() => Promise<string>}
 */
export const tokenFrom = (url) => async () => (await loadTokens()).fetchToken(url);

/** Returns the settings of this page. */
export const currentSettings = () => (settings ??= settingsInHtml());

/**
 * Sets the gateway's URL and the token. Open connections use them immediately: a new token is sent. With the token of
 * another user, or with another gateway, all known states are dropped.
 * @param {Settings} changes  settings that are not in it do not change
 */
export function configure(changes) {
  settings = { ...currentSettings(), ...changes };
  for (const { connection, ...gatewayOptions } of connections) connection.configure(settingsOf(gatewayOptions));
}

/**
 * Returns the connection to a gateway. On a server, where there is no page, it never connects.
 * @param {string | URL} [gateway]
 * @param {Pick<Settings, 'token'>} [options]
 * @returns {Connection}
 */
export function connect(gateway, { token } = {}) {
  const gatewayOptions = { gateway, token };
  const { url, ...options } = settingsOf(gatewayOptions);
  if (ON_SERVER) return createConnection(url, { ready: () => {} });
  const shared = connections.find(({ connection }) => connection.url === url);
  if (shared !== undefined) return shared.connection;
  const connection = createConnection(url, options);
  connections.push({ ...gatewayOptions, connection });
  return connection;
}

/** Whether this code runs neither in a page nor in a web worker. */
export const ON_SERVER = typeof window === 'undefined' && !('WorkerGlobalScope' in globalThis);

/**
 * Renews the tokens of all connections: requests new ones from the token provider and sends them to the gateways. Call it
 * after a login, or to see more jobs than before.
 */
export async function renew() {
  await Promise.all(connections.map(({ connection }) => connection.renew()));
}

/** Drops the token and all known states, and disconnects. `renew`, or `configure` with a token, connects again. */
export function logout() {
  for (const options of [currentSettings(), ...connections]) if (typeof options.token === 'string') options.token = undefined;
  for (const { connection } of connections) connection.logout();
}

/**
 * Returns the URL and the token provider of a gateway, as its connection has them.
 * @param {string | URL} [gateway]
 * @returns {Credentials}
 */
export function credentialsOf(gateway) {
  const { url, token } = settingsOf({ gateway });
  const shared = connections.find(({ connection }) => connection.url === url);
  return { url, token: shared === undefined ? token : settingsOf(shared).token, loadTokens };
}

/** Returns the settings of a connection. @param {GatewayOptions} gatewayOptions */
function settingsOf({ gateway = currentSettings().gateway ?? '/ws', token = currentSettings().token }) {
  const url = new URL(gateway, globalThis.document?.baseURI ?? globalThis.location?.href ?? 'http://localhost');
  url.protocol = url.protocol.replace(/^http/, 'ws');
  url.hash = '';
  return { url: url.href, token, maxHz: currentSettings().maxHz };
}
