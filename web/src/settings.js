/**
 * The gateway's URL and the token, for the whole page; and one connection per gateway, which all
 * components share.
 *
 * Settings may come at any time: in `configure`, or without any script in the HTML, as
 * `<meta name="progress-gateway" content="https://progress.example/ws" data-token-url="/token">`
 * or `<script src="…/client.js" data-token-url="/token">`.
 */

import { createConnection } from './connection.js';

/** @import { Connection } from './connection.js' */
/** @import { TokenProvider } from './tokens.js' */

/**
 * @typedef {object} Settings
 * @property {string | URL | undefined} [gateway]  URL of its `/ws`; http(s) is read as ws(s); by default
 *   `/ws` of the page's own origin, or beside the `client.js` that a page loaded
 * @property {TokenProvider | undefined} [token]   the token, or how to get one
 * @property {number | undefined} [maxHz]  how often, at most, the gateway sends a job's changes
 * @property {string | undefined} [locale]  of words and numbers: `de`, `zh-Hans`; by default English
 * @property {Partial<import('./words.js').Words> | undefined} [words]  instead of the locale's own
 */

/** @typedef {{ gateway?: string | URL | undefined, token?: TokenProvider | undefined }} GatewayOptions */

/** @type {Array<GatewayOptions & { connection: Connection }>} */
const connections = [];

/** @type {Settings | undefined} */
let settings;

/** The settings in the page's HTML; read at the first use. @returns {Settings} */
function settingsInHtml() {
  const node = /** @type {HTMLMetaElement | undefined} */ (
    globalThis.document?.querySelector?.('meta[name="progress-gateway"], script[data-token-url]')
  );
  const tokenUrl = node?.dataset['tokenUrl'];
  return { ...(node?.content && { gateway: node.content }), ...(tokenUrl && { token: tokenFrom(tokenUrl) }) };
}

/**
 * A token provider that asks an address of the application's own backend: it answers with
 * the token as text, or as JSON with `token`.
 * @param {string | URL} url
 * @returns {() => Promise<string>}
 */
export const tokenFrom = (url) => async () => (await import('./tokens.js')).fetchToken(url);

/** The settings of this page. */
export const currentSettings = () => (settings ??= settingsInHtml());

/**
 * Set the gateway's URL and the token. Open connections use them immediately: a new token is sent;
 * the token of another user, or another gateway, drops all known states.
 * @param {Settings} changes  what is left out stays as it was
 */
export function configure(changes) {
  settings = { ...currentSettings(), ...changes };
  for (const { connection, ...own } of connections) connection.use(settingsOf(own));
}

/**
 * The connection to a gateway. On a server, where there is no page, it never connects.
 * @param {string | URL} [gateway]
 * @param {Pick<Settings, 'token'>} [options]
 * @returns {Connection}
 */
export function connect(gateway, { token } = {}) {
  const own = { gateway, token };
  const { url, ...options } = settingsOf(own);
  if (ON_SERVER) return createConnection(url, { ready: () => {} });
  const shared = connections.find(({ connection }) => connection.url === url);
  if (shared !== undefined) return shared.connection;
  const connection = createConnection(url, options);
  connections.push({ ...own, connection });
  return connection;
}

/** Neither a page nor a worker of one. */
export const ON_SERVER = typeof window === 'undefined' && !('WorkerGlobalScope' in globalThis);

/** Request new tokens and send them: after a login, or to see more jobs than before. */
export async function renew() {
  await Promise.all(connections.map(({ connection }) => connection.renew()));
}

/** Drop the token and all known states, and disconnect. `renew`, or `configure` with a token, connects again. */
export function logout() {
  if (typeof currentSettings().token === 'string') configure({ token: undefined });
  for (const { connection } of connections) connection.logout();
}

/**
 * The address and the token provider of a gateway, as its connection has them.
 * @param {string | URL} [gateway]
 */
export function credentialsOf(gateway) {
  const { url, token } = settingsOf({ gateway });
  const shared = connections.find(({ connection }) => connection.url === url);
  return { url, token: shared === undefined ? token : settingsOf(shared).token };
}

/** @param {GatewayOptions} own */
function settingsOf({ gateway = currentSettings().gateway ?? '/ws', token = currentSettings().token }) {
  const url = new URL(gateway, globalThis.document?.baseURI ?? globalThis.location?.href ?? 'http://localhost');
  url.protocol = url.protocol.replace(/^http/, 'ws');
  url.hash = '';
  return { url: url.href, token, maxHz: currentSettings().maxHz };
}
