/**
 * The view of a job: one pure function from the known state and the
 * gateway's time to texts and numbers. Both the element and the page use
 * it, so that a job looks the same everywhere, and tests need no DOM.
 */

import { countsAll, isFinal, lookOf, percentOf, rateOf, timeLeft } from './state.js';
import { MOST_BYTES, fill, currentLanguage } from './words.js';

/** @import { Watched } from './jobs.js' */
/** @import { State } from './protocol.js' */
/** @import { Look } from './state.js' */

/**
 * @typedef {object} View
 * @property {Look} look
 * @property {boolean} final
 * @property {string} word             the look in a word
 * @property {number | null} percent   what the bar shows; null: it cannot say
 * @property {string} figure           beside the name: `37%`, or the word
 * @property {string} attempt          `attempt 2`, or nothing
 * @property {string} phase
 * @property {string} message
 * @property {string} error
 * @property {string} amount           `444 / 1,200 frames`; of a group, `412 / 1,000 · 3 failed`
 * @property {string} time             `2 min left`, `took 34 s`, `no update for 1 min`
 * @property {string} valueText        all of it, for a screen reader
 */

/**
 * @param {Watched | null} watched  null: nothing is known yet
 * @param {number} now              the gateway's time, Unix seconds
 * @param {number} [floor]          the percentage that this attempt has reached already
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
    // Before the gateway has answered, not even "not known" is known.
    figure: watched === null ? '' : figureOf(look, word, rounded),
    attempt: (state?.attempt ?? 1) > 1 ? fill(words.attempt, { n: String(state?.attempt) }) : '',
    phase: final ? '' : (state?.phase ?? ''),
    message: messageOf(watched, look),
    error: look === 'failed' ? endOf(state?.error ?? '') : '',
    amount: state === null ? '' : amountOf(state),
    time: state === null ? '' : timeOf(state, look, now, percent),
  };
  const spoken = [watched === null ? words.loading : word, view.attempt, look === 'succeeded' ? '' : rounded, view.phase, view.error || view.message, view.amount, view.time];
  return { ...view, valueText: spoken.filter(Boolean).join(', ') };
}

/** @param {Look} look @param {string} word @param {string} rounded */
function figureOf(look, word, rounded) {
  if (look === 'running') return rounded || word;
  if (look === 'stalled' || look === 'lost') return rounded ? fill(currentLanguage().words.at, { word, percent: rounded }) : word;
  return word;
}

/** @param {Watched | null} watched @param {Look} look */
function messageOf(watched, look) {
  const { words } = currentLanguage();
  if (look === 'denied') {
    const code = watched?.denied ?? '';
    return code === 'invalid_job' || code === 'too_many_jobs' || code === 'node_full' || code === 'share_full' ? words[code] : code;
  }
  if (look === 'unknown') return watched === null ? '' : words.unreported;
  // Of a failed job show the error; its last message is older.
  return look === 'failed' && watched?.state?.error ? '' : (watched?.state?.message ?? '');
}

/** Characters of an error that are shown. */
const MOST_OF_AN_ERROR = 300;

/** The end of a long error, such as a traceback, because the reason is at the end. @param {string} error */
function endOf(error) {
  const text = error.trimEnd();
  const lines = text.split('\n');
  const end = lines.slice(-3).join('\n').slice(-MOST_OF_AN_ERROR);
  return end.length < text.length ? `…${end}` : text;
}

/** Of a group, how many of its children have ended, and how: `412 / 1,000 · 3 failed`. @param {import('./protocol.js').Children} children */
function childrenOf({ expected, succeeded, failed, cancelled }) {
  const { words, number } = currentLanguage();
  const ended = succeeded + failed + cancelled;
  const parts = [expected === null || expected === ended ? number(ended) : `${number(ended)} / ${number(expected)}`];
  if (failed > 0) parts.push(fill(words.someFailed, { n: number(failed) }));
  if (cancelled > 0) parts.push(fill(words.someCancelled, { n: number(cancelled) }));
  return parts.join(' · ');
}

/** @param {State} state */
function amountOf({ done, total, unit, children }) {
  if (children !== undefined) return childrenOf(children);
  if (done === undefined && total === undefined) return '';
  if (unit === 'bytes' || unit === 'B') return bytesOf(done, total);
  const { number } = currentLanguage();
  if (total === undefined) return withUnit(number(done ?? 0), unit);
  return withUnit(done === undefined || done === total ? number(total) : `${number(done)} / ${number(total)}`, unit);
}

/** Hebrew, Arabic and their neighbours. */
const RIGHT_TO_LEFT = /[\u0590-\u08ff]/;
/** U+200E makes what follows run from left to right. */
const LEFT_TO_RIGHT_MARK = '\u200e';

/**
 * A number with its unit. A unit that runs from right to left must not turn `3 / 10` into `10 / 3`.
 * @param {string} text @param {string | undefined} unit
 */
function withUnit(text, unit) {
  if (!unit) return text;
  return `${RIGHT_TO_LEFT.test(unit) ? LEFT_TO_RIGHT_MARK : ''}${text} ${unit}`;
}

/**
 * How fast it goes; '' if that is not known: it comes from the estimate, and counts as long.
 * @param {State} state
 * @param {number} now  the gateway's time, Unix seconds
 */
export function rateTextOf(state, now) {
  const rate = timeLeft(state, now, percentOf(state, 0)) === null ? null : rateOf(state);
  if (rate === null) return '';
  const { precise, words } = currentLanguage();
  const { unit } = state;
  let amount = withUnit(precise(rate), unit);
  if (!countsAll(state)) amount = `${precise(rate)} %`;
  else if (unit === 'bytes' || unit === 'B') amount = bytesOf(undefined, rate);
  return fill(words.rate, { amount });
}

/**
 * Both numbers in the unit of the larger, so that they can be compared.
 * @param {number | undefined} done @param {number | undefined} total
 */
function bytesOf(done, total) {
  const { bytes, byteUnit } = currentLanguage();
  const largest = Math.max(done ?? 0, total ?? 0, 1);
  const power = Math.min(Math.floor(Math.log10(largest) / 3), MOST_BYTES);
  const parts = [done, total].filter((value) => value !== undefined).map((value) => bytes(value, power));
  if (done === total) parts.pop();
  return `${parts.join(' / ')} ${byteUnit(power)}`;
}

/** Seconds after which a group without active children is said to be without updates. */
const IDLE = 60;

/**
 * Whether nothing reports on a group: it has no lease, so its health does not say so.
 * @param {State} state
 */
function isIdle({ children }) {
  return children !== undefined && children.queued === 0 && children.running === 0;
}

/** @param {State} state @param {Look} look @param {number} now @param {number | null} percent */
function timeOf(state, look, now, percent) {
  const { words } = currentLanguage();
  const since = now - (state.updated_at ?? now);
  switch (look) {
    case 'running':
      return isIdle(state) && since >= IDLE ? fill(words.silent, { time: passed(since) }) : etaOf(timeLeft(state, now, percent));
    case 'stalled':
    case 'lost':
      return fill(words.silent, { time: passed(since) });
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

/** @param {number | null} left  seconds */
function etaOf(left) {
  if (left === null) return '';
  const { words } = currentLanguage();
  return left >= 1 ? fill(words.left, { time: roughly(left) }) : words.almostDone;
}

/** @typedef {'seconds' | 'minutes' | 'hours' | 'days'} Unit */

/** @param {number} value @param {Unit} unit */
function time(value, unit) {
  const { words, number } = currentLanguage();
  return fill(words[unit], { n: number(value) });
}

/** @param {number} large @param {Unit} unit @param {number} small @param {Unit} subunit */
function join(large, unit, small, subunit) {
  return small === 0 ? time(large, unit) : `${time(large, unit)} ${time(small, subunit)}`;
}

/**
 * As exact as a person needs: `8 s`, `1 min 20 s`, `14 min`, `2 h 5 min`, `3 d 4 h`.
 * @param {number} seconds
 */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 1) return currentLanguage().words.underASecond;
  if (s < 60) return time(s, 'seconds');
  if (s < 600) return join(Math.floor(s / 60), 'minutes', s % 60, 'seconds');
  const minutes = Math.round(s / 60);
  if (minutes < 60) return time(minutes, 'minutes');
  if (minutes < 48 * 60) return join(Math.floor(minutes / 60), 'hours', minutes % 60, 'minutes');
  const hours = Math.round(minutes / 60);
  return join(Math.floor(hours / 24), 'days', hours % 24, 'hours');
}

/**
 * For a time that goes on while you look: past two minutes in minutes, so that a
 * page full of them is quiet, and an estimate claims no more than it knows.
 * @param {number} seconds
 */
export function roughly(seconds) {
  return duration(seconds < 120 ? seconds : Math.round(seconds / 60) * 60);
}

/**
 * A time that has passed: as calm, and the same minutes as in `ago`.
 * @param {number} seconds
 */
export function passed(seconds) {
  return duration(seconds < 120 ? seconds : Math.floor(seconds / 60) * 60);
}

/**
 * How long ago, for a list: `just now`, `12 s ago`, `4 min ago`, `3 h ago`, `2 d ago`.
 * @param {number} seconds
 */
export function ago(seconds) {
  const { words } = currentLanguage();
  if (seconds < 5) return words.justNow;
  /** @type {[number, Unit]} */
  const [size, unit] = seconds < 60 ? [1, 'seconds'] : seconds < 3600 ? [60, 'minutes'] : seconds < 48 * 3600 ? [3600, 'hours'] : [86_400, 'days'];
  return fill(words.ago, { time: time(Math.floor(seconds / size), unit) });
}
