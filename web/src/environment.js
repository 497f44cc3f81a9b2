/**
 * The functions of the browser that the client uses: sockets, requests, timers, clocks, randomness, and the visibility
 * of the page. They are in one object, so that a test can replace it. No other module of the core uses these globals.
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
 * @property {() => number} now       milliseconds of a monotonic clock, for durations
 * @property {() => number} wall      milliseconds since 1970 by the machine's clock, which may be set
 * @property {() => number} random    returns 0 ≤ x < 1
 * @property {() => boolean} hidden   whether the page is hidden
 * @property {(callback: () => void) => void} ready
 *   calls back once the page's own modules have run, so that `configure` comes first
 * @property {(callback: () => void) => () => void} onWake
 *   calls back when the page is shown or hidden, comes out of the back/forward
 *   cache, or the network becomes available or unavailable, until the returned function is called
 */

/** Returns the functions of this browser. @returns {Environment} */
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
 * Calls back after the modules of the page have run. An element in the HTML connects when its class is defined, which
 * is before the first statement of the module that imports the class. `DOMContentLoaded` is dispatched after all
 * modules of the HTML; later, a timer runs after the current module.
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

/** Calls back at the events after which the known states may be very old. @param {() => void} callback */
function onWake(callback) {
  const names = ['visibilitychange', 'pageshow', 'online', 'offline'];
  // Events of the document reach the window in the capture phase. An AbortSignal cannot be used, because the windows
  // of jsdom do not accept that of Node.
  for (const name of names) globalThis.addEventListener?.(name, callback, true);
  return () => {
    for (const name of names) globalThis.removeEventListener?.(name, callback, true);
  };
}
