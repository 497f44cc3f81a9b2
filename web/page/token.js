/**
 * The user's token, if the gateway requires one. The user enters it once. The page keeps it while the tab is
 * open, and sends it in a header or a frame, never in a URL.
 */

const STORAGE_KEY = 'progress-gateway:token';

/** Returns the token that the user has entered in this tab. */
export function storedToken() {
  return globalThis.sessionStorage?.getItem(STORAGE_KEY) ?? null;
}

/**
 * Returns the token if it has the form of one. Another text is not sent by the connection, but with the request for
 * the list, whose response tells the user what is wrong.
 */
export function wellFormedToken() {
  const token = storedToken();
  return token !== null && token.split('.').length === 3 ? token : null;
}

/** Returns the header of a request that sends the token. @returns {Record<string, string>} */
export function authorization() {
  const token = storedToken();
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/** The gateway requires a token, or rejects the stored one. */
export class TokenRequired extends Error {}

/**
 * Stores the token that the user enters in the form, and calls back.
 * @param {(id: string) => HTMLElement} find
 * @param {() => void} callback
 */
export function onTokenEntered(find, callback) {
  const form = /** @type {HTMLFormElement} */ (find('token-form'));
  const input = /** @type {HTMLInputElement} */ (find('token-input'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    sessionStorage.setItem(STORAGE_KEY, input.value.trim());
    input.value = '';
    callback();
  });
}

/**
 * Returns the prefixes of the jobs that a token allows to watch; without a token, that of all jobs.
 * @param {string | null} token
 */
export function allowedPrefixes(token) {
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
