/**
 * One animation frame and one second for everything on a page: two hundred bars
 * at twenty updates a second are painted at most once a frame, together, and
 * their times count down in step. No timer runs without a callback.
 */

import { callAll } from './listeners.js';

/** @typedef {() => void} Paint */

/** Milliseconds. Digits that change more often cannot be read. */
const READABLE = 200;

/** For the next frame. @type {Set<Paint>} */
let due = new Set();
/** The other of the two sets that take turns, so that a frame makes no garbage. @type {Set<Paint>} */
let spare = new Set();
/** For the first frame in which the last one has stood long enough. @type {Set<Paint>} */
const calm = new Set();
/** @type {WeakMap<Paint, number>} */
const calmAt = new WeakMap();
let scheduled = false;

/** Called every second. @type {Set<Paint>} */
const members = new Set();
/** @type {ReturnType<typeof setInterval> | undefined} */
let clock;

/**
 * Call in the next frame, once, however often it is asked for.
 * @param {Paint} paint
 */
export function soon(paint) {
  due.add(paint);
  schedule();
}

/**
 * Like `soon`, but not more often than can be read.
 * @param {Paint} paint
 */
export function calmly(paint) {
  calm.add(paint);
  schedule();
}

function schedule() {
  if (scheduled) return;
  scheduled = true;
  // A hidden page has no frames; its title, and what listens to its stores, goes on.
  // Neither has what only looks like a browser, such as jsdom.
  const hasFrames = globalThis.document?.visibilityState !== 'hidden' && globalThis.requestAnimationFrame !== undefined;
  if (hasFrames) requestAnimationFrame(frame);
  else setTimeout(frame, 0);
}

function frame() {
  scheduled = false;
  const now = performance.now();
  for (const paint of calm) {
    if (now - (calmAt.get(paint) ?? -Infinity) < READABLE) continue;
    calm.delete(paint);
    calmAt.set(paint, now);
    due.add(paint);
  }
  const paints = due;
  due = spare;
  spare = paints;
  callAll(paints, undefined);
  paints.clear();
  if (calm.size > 0) schedule();
}

/**
 * Call about once a second, in a frame, until the answer is called.
 * @param {Paint} paint
 */
export function everySecond(paint) {
  members.add(paint);
  clock ??= setInterval(() => members.forEach(soon), 1000);
  return () => {
    members.delete(paint);
    if (members.size === 0) {
      clearInterval(clock);
      clock = undefined;
    }
  };
}
