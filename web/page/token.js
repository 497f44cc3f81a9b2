/**
 * The user's token, if the gateway requires one. The user enters it once. It is
 * kept while the tab is open, and sent in a header or a frame, never in a URL.
 */

const KEY = 'progress-gateway:token';

export function storedToken() {
  return globalThis.sessionStorage?.getItem(KEY) ?? null;
}

/** For the connection, which sends no malformed token. Reading the list reports that it is wrong. */
export function wellFormedToken() {
  const token = storedToken();
  return token !== null && token.split('.').length === 3 ? token : null;
}

/** @returns {Record<string, string>} */
export function authorization() {
  const token = storedToken();
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/** The gateway answered that a token is needed, or that this one is not good. */
export class TokenNeeded extends Error {}

/**
 * The form that asks for it.
 * @param {(id: string) => HTMLElement} find
 * @param {() => void} callback
 */
export function onTokenEntered(find, callback) {
  const form = /** @type {HTMLFormElement} */ (find('locked-form'));
  const input = /** @type {HTMLInputElement} */ (find('locked-token'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, input.value.trim());
    input.value = '';
    callback();
  });
}

/**
 * What the ids of the jobs begin with that the holder of a token may watch: all without a token.
 * @param {string | null} token
 */
export function prefixesIn(token) {
  if (token === null) return [''];
  try {
    const claims = JSON.parse(atob((token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/')));
    const patterns = /** @type {string[]} */ (claims.watch ?? []).filter((pattern) => pattern.endsWith('*'));
    const prefixes = patterns.map((pattern) => pattern.slice(0, -1));
    return prefixes.filter((prefix) => !prefixes.some((other) => other !== prefix && prefix.startsWith(other)));
  } catch {
    return ['']; // no JSON Web Token: the gateway says what it thinks of it
  }
}
