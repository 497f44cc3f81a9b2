/**
 * Loads a module that is not part of the first download. Firefox does not request a URL again from
 * which it could not load a module, so the second attempt has another query. A bundler chooses the
 * URL, so it is known only from the browser's error message, at whose end it stands. A module that it
 * imports is not requested again, so it should import only modules that are loaded already.
 *
 * @template T
 * @param {() => Promise<T>} importModule  `() => import('./fallback.js')`
 * @returns {Promise<T>}
 */
export const load = (importModule) =>
  importModule().catch(({ message }) => import(/* @vite-ignore */ /* webpackIgnore: true */ message.replace(/.*?http/, 'http') + '?' + Date.now()));

export const loadTokens = () => load(() => import('./tokens.js'));
