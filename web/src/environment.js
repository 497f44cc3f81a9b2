/**
 * The browser's functions that the client uses: sockets, requests, timers, clocks,
 * randomness, and the visibility of the page. They are one object, so that a test can replace
 * it; nothing else in the core uses these globals.
 */

/**
 * The part of a WebSocket that the client uses.
 * @typedef {object} SocketLike
 * @property {((event: any) => any) | null} onopen
 * @property {((event: any) => any) | null} onmessage
 * @property {((event: any) => any) | null} onclose
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
 * @property {() => number} now       monotonic milliseconds, for durations: no one sets this clock
 * @property {() => number} wall      milliseconds since 1970 by the machine's clock, which may be set
 * @property {() => number} random    0 ≤ x < 1
 * @property {() => boolean} hidden   whether the page is hidden
 * @property {(callback: () => void) => void} ready
 *   calls back once the page's own modules have run, so that `configure` comes first
 * @property {(callback: () => void) => () => void} onWake
 *   calls back when the page is shown or hidden, comes out of the back/forward
 *   cache, or the network comes or goes; returns how to stop
 */

/** @returns {Environment} */
export function browserEnvironment() {
  return {
    WebSocket: globalThis.WebSocket,
    fetch: (...request) => globalThis.fetch(...request),
    setTimeout: (callback, ms) => globalThis.setTimeout(callback, ms),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
    queueMicrotask: (callback) => globalThis.queueMicrotask(callback),
    now: () => performance.now(),
    wall: () => Date.now(),
    random: () => Math.random(),
    hidden: () => globalThis.document?.visibilityState === 'hidden',
    ready,
    onWake,
  };
}

/**
 * An element in the HTML connects when its class is defined: before the module that
 * imported the class has run a line of its own. DOMContentLoaded comes after all modules of
 * the HTML; later, a timer comes after the module that is running.
 *
 * @param {() => void} callback
 */
function ready(callback) {
  const { document } = globalThis;
  if (document === undefined) return callback();
  const navigation = /** @type {PerformanceNavigationTiming | undefined} */ (performance.getEntriesByType?.('navigation')[0]);
  if (document.readyState === 'complete' || navigation?.domContentLoadedEventStart) setTimeout(callback, 0);
  else document.addEventListener('DOMContentLoaded', callback, { once: true });
}

/** @param {() => void} callback */
function onWake(callback) {
  // Captured, so that the window has the document's event too. Without an AbortSignal: jsdom's windows
  // do not take Node's.
  const names = ['visibilitychange', 'pageshow', 'online', 'offline'];
  for (const name of names) globalThis.addEventListener?.(name, callback, true);
  return () => {
    for (const name of names) globalThis.removeEventListener?.(name, callback, true);
  };
}
