/**
 * One animation frame and one interval for all bars of a page. So two hundred bars with twenty updates a second
 * are painted together, at most once a frame, and their times count down at the same moment. No timer runs without
 * a callback.
 */

import { callAll } from './listeners.js';

/** @typedef {() => void} Paint */

/** Minimum milliseconds between two calls of a throttled callback. Digits that change more often cannot be read. */
const MIN_INTERVAL = 200;

/** The callbacks of the next frame. @type {Set<Paint>} */
let nextFrame = new Set();
/** The other of two sets that are used alternately, so that a frame allocates none. @type {Set<Paint>} */
let recycled = new Set();
/** The callbacks that wait until `MIN_INTERVAL` has passed since their last call. @type {Set<Paint>} */
const throttled = new Set();
/** When each throttled callback was called last. @type {WeakMap<Paint, number>} */
const paintedAt = new WeakMap();
let scheduled = false;

/** The callbacks of `everySecond`. @type {Set<Paint>} */
const everySecondCallbacks = new Set();
/** @type {ReturnType<typeof setInterval> | undefined} */
let interval;

/**
 * Calls `paint` once in the next frame, even if this is requested several times.
 * @param {Paint} paint
 */
export function inNextFrame(paint) {
  nextFrame.add(paint);
  schedule();
}

/**
 * Calls `paint` once in a later frame, at least `MIN_INTERVAL` after its last such call.
 * @param {Paint} paint
 */
export function inLaterFrame(paint) {
  throttled.add(paint);
  schedule();
}

/** Requests the next frame, unless it is already requested. */
function schedule() {
  if (scheduled) return;
  scheduled = true;
  // A hidden page has no animation frames, but its title and its stores are still updated. Environments such as
  // jsdom have none either.
  const hasFrames = globalThis.document?.visibilityState !== 'hidden' && globalThis.requestAnimationFrame !== undefined;
  if (hasFrames) requestAnimationFrame(runCallbacks);
  else setTimeout(runCallbacks, 0);
}

/** Calls the callbacks that are due. */
function runCallbacks() {
  scheduled = false;
  const now = performance.now();
  for (const paint of throttled) {
    if (now - (paintedAt.get(paint) ?? -Infinity) < MIN_INTERVAL) continue;
    throttled.delete(paint);
    paintedAt.set(paint, now);
    nextFrame.add(paint);
  }
  const paints = nextFrame;
  nextFrame = recycled;
  recycled = paints;
  callAll(paints, undefined);
  paints.clear();
  if (throttled.size > 0) schedule();
}

/**
 * Calls `paint` about once a second, in a frame, until the returned function is called.
 * @param {Paint} paint
 */
export function everySecond(paint) {
  everySecondCallbacks.add(paint);
  interval ??= setInterval(() => everySecondCallbacks.forEach(inNextFrame), 1000);
  return () => {
    everySecondCallbacks.delete(paint);
    if (everySecondCallbacks.size === 0) {
      clearInterval(interval);
      interval = undefined;
    }
  };
}
