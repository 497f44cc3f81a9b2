/**
 * The token of the person who looks, where the gateway asks for one: typed once,
 * kept for as long as the tab is open, sent in a header or a frame and never in
 * an address.
 */

const KEY = 'progress-gateway:token';

export function storedToken() {
  return globalThis.sessionStorage?.getItem(KEY) ?? null;
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
 * @param {() => void} given
 */
export function askOnce(find, given) {
  const form = /** @type {HTMLFormElement} */ (find('locked-form'));
  const input = /** @type {HTMLInputElement} */ (find('locked-token'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, input.value.trim());
    input.value = '';
    given();
  });
}
