/**
 * Loads a module on demand. After a failure Firefox does not request the URL of a module again, so the second attempt
 * has another query. The bundler chooses the URL, which is at the end of the browser's error message. Modules that the
 * loaded module imports are not requested again, so it should import only modules that are already loaded.
 *
 * @template T
 * @param {() => Promise<T>} importModule  `() => import('./http-transports.js')`
 * @returns {Promise<T>}
 */
export const load = (importModule) =>
  importModule().catch(({ message }) => import(/* @vite-ignore */ /* webpackIgnore: true */ message.replace(/.*?http/, 'http') + '?' + Date.now()));

/** Loads the module for tokens. */
export const loadTokens = () => load(() => import('./tokens.js'));
