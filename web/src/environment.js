/**
 * What the client takes from the world: sockets, requests, timers, the clock,
 * chance, and whether somebody is looking. One object, so that a test can hand in
 * another world; nothing else in the client touches these globals.
 */

/**
 * The part of a WebSocket that the client uses.
 * @typedef {object} SocketLike
 * @property {((event: any) => any) | null} onopen
 * @property {((event: any) => any) | null} onmessage
 * @property {((event: any) => any) | null} onclose
 * @property {((event: any) => any) | null} onerror
 * @property {(text: string) => void} send
 * @property {(code?: number, reason?: string) => void} close
 */

/**
 * @typedef {object} Environment
 * @property {new (url: string, protocols: string[]) => SocketLike} WebSocket
 * @property {typeof globalThis.fetch} fetch
 * @property {(callback: () => void, ms: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {(callback: () => void) => void} queueMicrotask
 * @property {() => number} now       milliseconds since 1970
 * @property {() => number} random    0 ≤ x < 1
 * @property {() => boolean} hidden   whether nobody can see the page
 * @property {(callback: () => void) => () => void} onWake
 *   calls back when the page is shown or hidden, comes out of the back/forward
 *   cache, or the network comes or goes; answers how to stop
 */

/** @returns {Environment} */
export function browserEnvironment() {
  return {
    WebSocket: globalThis.WebSocket,
    fetch: (...request) => globalThis.fetch(...request),
    setTimeout: (callback, ms) => globalThis.setTimeout(callback, ms),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
    queueMicrotask: (callback) => globalThis.queueMicrotask(callback),
    now: () => Date.now(),
    random: () => Math.random(),
    hidden: () => globalThis.document?.visibilityState === 'hidden',
    onWake,
  };
}

/** @param {() => void} callback */
function onWake(callback) {
  const gone = new AbortController();
  const { signal } = gone;
  globalThis.document?.addEventListener('visibilitychange', callback, { signal });
  for (const name of ['pageshow', 'online', 'offline']) globalThis.addEventListener?.(name, callback, { signal });
  return () => gone.abort();
}
