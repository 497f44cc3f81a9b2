/**
 * One animation frame and one second for everything on a page: two hundred bars
 * at twenty updates a second are painted at most once a frame, together, and
 * their times count down in step. Nothing runs while nobody is in.
 */

/** @typedef {() => void} Paint */

/** @type {Set<Paint>} */
const due = new Set();
/** @type {Set<Paint>} */
const members = new Set();
/** @type {ReturnType<typeof setInterval> | undefined} */
let clock;

/**
 * Call in the next frame, once, however often it is asked for.
 * @param {Paint} paint
 */
export function soon(paint) {
  if (due.size === 0) {
    // A hidden page has no frames; its title, and what listens to its stores, goes on.
    if (document.visibilityState === 'hidden') setTimeout(callAll, 0);
    else requestAnimationFrame(callAll);
  }
  due.add(paint);
}

function callAll() {
  const now = [...due];
  due.clear();
  for (const paint of now) paint();
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
