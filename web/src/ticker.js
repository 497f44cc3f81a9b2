/**
 * One animation frame and one second for all elements of a page: two hundred
 * bars at twenty updates a second are painted at most once a frame, together,
 * and their times count down in step. Nothing runs while nobody is in.
 */

/** @typedef {() => void} Paint */

/** @type {Set<Paint>} */
const due = new Set();
/** @type {Set<Paint>} */
const members = new Set();
/** @type {ReturnType<typeof setInterval> | undefined} */
let clock;

/**
 * Paint in the next frame, once, however often it is asked for.
 * @param {Paint} paint
 */
export function paintSoon(paint) {
  if (due.size === 0) requestAnimationFrame(paintAll);
  due.add(paint);
}

function paintAll() {
  const now = [...due];
  due.clear();
  for (const paint of now) paint();
}

/**
 * Paint about once a second, until the answer is called.
 * @param {Paint} paint
 */
export function paintEverySecond(paint) {
  members.add(paint);
  clock ??= setInterval(() => members.forEach(paintSoon), 1000);
  return () => {
    members.delete(paint);
    if (members.size === 0) {
      clearInterval(clock);
      clock = undefined;
    }
  };
}
