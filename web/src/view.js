/**
 * The view of a job: `describe` is a pure function that makes texts and numbers from the known state and the
 * gateway's time. Both the element and the page use it, so that a job looks the same everywhere, and tests need no
 * DOM.
 */

import { IDLE_GROUP_AFTER } from './constants.js';
import { countsWholeJob, isFinal, lookOf, percentOf, rateOf, timeLeft } from './job-state.js';
import { LARGEST_BYTE_POWER, fill, currentLanguage } from './language.js';

/** @import { Look } from './job-state.js' */
/** @import { Watched } from './jobs.js' */
/** @import { State } from './protocol.js' */

/**
 * @typedef {object} View
 * @property {Look} look
 * @property {boolean} final
 * @property {string} word             the look as a word
 * @property {number | null} percent   what the bar shows; null: unknown
 * @property {string} figure           the text beside the name: `37%`, or the word
 * @property {string} attempt          `attempt 2`; '' for the first
 * @property {string} phase
 * @property {string} message
 * @property {string} error
 * @property {string} amount           `444 / 1,200 frames`; of a group, `412 / 1,000 · 3 failed`
 * @property {string} time             `2 min left`, `took 34 s`, `no update for 1 min`
 * @property {string} valueText        all of these texts, for a screen reader
 */

/**
 * Returns the view of a job.
 * @param {Watched | null} watched  null: nothing is known yet
 * @param {number} now              the gateway's time, Unix seconds
 * @param {number} [floor]          the percentage that this attempt has already reached
 * @returns {View}
 */
export function describe(watched, now, floor = 0) {
  const { words, percent: percentText } = currentLanguage();
  const state = watched?.state ?? null;
  const look = watched?.denied ? 'denied' : lookOf(state);
  const final = isFinal(state);
  const percent = percentOf(state, floor);
  const word = words[look];
  const rounded = percent === null ? '' : percentText(Math.floor(percent));
  const view = {
    look,
    final,
    word,
    percent,
    // Before the first answer it is unknown whether the job exists.
    figure: watched === null ? '' : figureText(look, word, rounded),
    attempt: (state?.attempt ?? 1) > 1 ? fill(words.attempt, { n: String(state?.attempt) }) : '',
    phase: final ? '' : (state?.phase ?? ''),
    message: messageText(watched, look),
    error: look === 'failed' ? errorTail(state?.error ?? '') : '',
    amount: state === null ? '' : amountText(state),
    time: state === null ? '' : timeText(state, look, now, percent),
  };
  const parts = [watched === null ? words.loading : word, view.attempt, look === 'succeeded' ? '' : rounded, view.phase, view.error || view.message, view.amount, view.time];
  return { ...view, valueText: parts.filter(Boolean).join(', ') };
}

/** Returns the text beside the name. @param {Look} look @param {string} word @param {string} rounded */
function figureText(look, word, rounded) {
  if (look === 'running') return rounded || word;
  if (look === 'stalled' || look === 'lost') return rounded ? fill(currentLanguage().words.at, { word, percent: rounded }) : word;
  return word;
}

/** Returns the message, or why there is none. @param {Watched | null} watched @param {Look} look */
function messageText(watched, look) {
  const { words } = currentLanguage();
  if (look === 'denied') {
    const code = watched?.denied ?? '';
    return code === 'invalid_job' || code === 'too_many_jobs' || code === 'node_full' || code === 'share_full' ? words[code] : code;
  }
  if (look === 'unknown') return watched === null ? '' : words.unreported;
  // A failed job shows its error instead; its last message is older.
  return look === 'failed' && watched?.state?.error ? '' : (watched?.state?.message ?? '');
}

/** The maximum number of characters of an error that are shown. */
const MAX_ERROR_LENGTH = 300;

/** Returns the last lines of a long error, such as a traceback, because these have the reason. @param {string} error */
function errorTail(error) {
  const text = error.trimEnd();
  const lines = text.split('\n');
  const tail = lines.slice(-3).join('\n').slice(-MAX_ERROR_LENGTH);
  return tail.length < text.length ? `…${tail}` : text;
}

/** Returns how many children of a group have ended, and how: `412 / 1,000 · 3 failed`. @param {import('./protocol.js').Children} children */
function childrenText({ expected, succeeded, failed, cancelled }) {
  const { words, number } = currentLanguage();
  const ended = succeeded + failed + cancelled;
  let text = expected === null || expected === ended ? number(ended) : `${number(ended)} / ${number(expected)}`;
  if (failed > 0) text = fill('{text} · {failed}', { text, failed: fill(words.someFailed, { n: number(failed) }) });
  if (cancelled > 0) text = fill('{text} · {cancelled}', { text, cancelled: fill(words.someCancelled, { n: number(cancelled) }) });
  return text;
}

/** Returns the count of a job with its unit, or of a group's children. @param {State} state */
function amountText({ done, total, unit, children }) {
  if (children !== undefined) return childrenText(children);
  if (done === undefined && total === undefined) return '';
  if (unit === 'bytes' || unit === 'B') return bytesText(done, total);
  const { number } = currentLanguage();
  if (total === undefined) return withUnit(number(done ?? 0), unit);
  return withUnit(done === undefined || done === total ? number(total) : `${number(done)} / ${number(total)}`, unit);
}

/** Returns a number with its unit. @param {string} number @param {string | undefined} unit */
function withUnit(number, unit) {
  return unit ? fill('{number} {unit}', { number, unit }) : number;
}

/**
 * Returns the rate as text; '' if there is no estimate, from which it is computed.
 * @param {State} state
 * @param {number} now  the gateway's time, Unix seconds
 */
export function rateText(state, now) {
  const rate = timeLeft(state, now, percentOf(state, 0)) === null ? null : rateOf(state);
  if (rate === null) return '';
  const { precise, words } = currentLanguage();
  const { unit } = state;
  let amount = withUnit(precise(rate), unit);
  if (!countsWholeJob(state)) amount = `${precise(rate)} %`;
  else if (unit === 'bytes' || unit === 'B') amount = bytesText(undefined, rate);
  return fill(words.rate, { amount });
}

/**
 * Returns both numbers in the unit of the larger one, so that they can be compared.
 * @param {number | undefined} done @param {number | undefined} total
 */
function bytesText(done, total) {
  const { bytes, byteUnit } = currentLanguage();
  const largest = Math.max(done ?? 0, total ?? 0, 1);
  const power = Math.min(Math.floor(Math.log10(largest) / 3), LARGEST_BYTE_POWER);
  const parts = [done, total].filter((value) => value !== undefined).map((value) => bytes(value, power));
  if (done === total) parts.pop();
  return withUnit(parts.join(' / '), byteUnit(power));
}

/**
 * Returns whether no worker reports on a group. A group has no lease, so its health does not show that.
 * @param {State} state
 */
function isIdleGroup({ children }) {
  return children !== undefined && children.running === 0;
}

/** Returns the remaining time, the duration, or the time without an update. @param {State} state @param {Look} look @param {number} now @param {number | null} percent */
function timeText(state, look, now, percent) {
  const { words } = currentLanguage();
  const silence = now - (state.updated_at ?? now);
  switch (look) {
    case 'running':
      return isIdleGroup(state) && silence >= IDLE_GROUP_AFTER ? fill(words.silent, { time: roundedElapsed(silence) }) : etaText(timeLeft(state, now, percent));
    case 'stalled':
    case 'lost':
      return fill(words.silent, { time: roundedElapsed(silence) });
    case 'succeeded':
    case 'failed':
    case 'cancelled': {
      if (state.started_at === undefined || state.finished_at === undefined) return '';
      const time = duration(state.finished_at - state.started_at);
      return fill(look === 'succeeded' ? words.took : words.after, { time });
    }
    default:
      return '';
  }
}

/** Returns the remaining time as text. @param {number | null} remaining  seconds */
function etaText(remaining) {
  if (remaining === null) return '';
  const { words } = currentLanguage();
  return remaining >= 1 ? fill(words.left, { time: roundedDuration(remaining) }) : words.almostDone;
}

/** @typedef {'seconds' | 'minutes' | 'hours' | 'days'} TimeUnit */

/** Returns `5 min`, for example. @param {number} value @param {TimeUnit} unit */
function formatTime(value, unit) {
  const { words, number } = currentLanguage();
  return fill(words[unit], { n: number(value) });
}

/** Returns `5 min 20 s`, for example; without the second part if it is 0. @param {number} amount @param {TimeUnit} unit @param {number} subAmount @param {TimeUnit} subunit */
function formatTimes(amount, unit, subAmount, subunit) {
  return subAmount === 0 ? formatTime(amount, unit) : fill('{time} {subTime}', { time: formatTime(amount, unit), subTime: formatTime(subAmount, subunit) });
}

/**
 * Returns a duration as text, in at most two units: `8 s`, `1 min 20 s`, `14 min`, `2 h 5 min`, `3 d 4 h`.
 * @param {number} seconds
 */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 1) return currentLanguage().words.underASecond;
  if (whole < 60) return formatTime(whole, 'seconds');
  if (whole < 600) return formatTimes(Math.floor(whole / 60), 'minutes', whole % 60, 'seconds');
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return formatTime(minutes, 'minutes');
  if (minutes < 48 * 60) return formatTimes(Math.floor(minutes / 60), 'hours', minutes % 60, 'minutes');
  const hours = Math.round(minutes / 60);
  return formatTimes(Math.floor(hours / 24), 'days', hours % 24, 'hours');
}

/**
 * Returns a changing duration as text. Above two minutes it is rounded to minutes, so that it changes seldom, and
 * is no more precise than the estimate.
 * @param {number} seconds
 */
export function roundedDuration(seconds) {
  return duration(seconds < 120 ? seconds : Math.round(seconds / 60) * 60);
}

/**
 * Returns an elapsed time as text. It is rounded down, so that it has the same minutes as `ago`.
 * @param {number} seconds
 */
export function roundedElapsed(seconds) {
  return duration(seconds < 120 ? seconds : Math.floor(seconds / 60) * 60);
}

/**
 * Returns how long ago something happened: `just now`, `12 s ago`, `4 min ago`, `3 h ago`, `2 d ago`.
 * @param {number} seconds
 */
export function ago(seconds) {
  const { words } = currentLanguage();
  if (seconds < 5) return words.justNow;
  /** @type {[number, TimeUnit]} */
  const [size, unit] = seconds < 60 ? [1, 'seconds'] : seconds < 3600 ? [60, 'minutes'] : seconds < 48 * 3600 ? [3600, 'hours'] : [86_400, 'days'];
  return fill(words.ago, { time: formatTime(Math.floor(seconds / size), unit) });
}
