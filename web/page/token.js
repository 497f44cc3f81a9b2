/**
 * The user's token, if the gateway requires one. The user enters it once. It is
 * kept while the tab is open, and sent in a header or a frame, never in a URL.
 */

const KEY = 'progress-gateway:token';

export function storedToken() {
  return globalThis.sessionStorage?.getItem(KEY) ?? null;
}

/** For the connection, which does not send malformed tokens. Reading the list reports the error. */
export function wellFormedToken() {
  const token = storedToken();
  return token !== null && token.split('.').length === 3 ? token : null;
}

/** @returns {Record<string, string>} */
export function authorization() {
  const token = storedToken();
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/** Handle the response that a token is required, or that this one is not valid. */
export class TokenNeeded extends Error {}

/**
 * The form in which the user enters it.
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
 * The prefixes of the jobs that a token allows to watch; without a token, all jobs.
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
    return ['']; // not a JSON Web Token: the gateway reports the error
  }
}
