/**
 * What the client takes from the world: sockets, timers, the clock, chance, and
 * the moments at which a page wakes up. One object, so that a test can hand in
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
 * @property {(callback: () => void, ms: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {(callback: () => void) => void} queueMicrotask
 * @property {() => number} now       milliseconds since 1970
 * @property {() => number} random    0 ≤ x < 1
 * @property {(callback: () => void) => () => void} onWake
 *   calls back when the page becomes visible, comes out of the back/forward
 *   cache, or the network returns; answers how to stop
 */

/** @returns {Environment} */
export function browserEnvironment() {
  return {
    WebSocket: globalThis.WebSocket,
    setTimeout: (callback, ms) => globalThis.setTimeout(callback, ms),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
    queueMicrotask: (callback) => globalThis.queueMicrotask(callback),
    now: () => Date.now(),
    random: () => Math.random(),
    onWake,
  };
}

/** @param {() => void} callback */
function onWake(callback) {
  const gone = new AbortController();
  const { signal } = gone;
  const ifVisible = () => {
    if (document.visibilityState === 'visible') callback();
  };
  document.addEventListener('visibilitychange', ifVisible, { signal });
  globalThis.addEventListener('pageshow', (event) => event.persisted && callback(), { signal });
  globalThis.addEventListener('online', callback, { signal });
  return () => gone.abort();
}
