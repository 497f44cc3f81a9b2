/**
 * What a person is shown of a job: one pure function from what is known, and the
 * gateway's time, to words and numbers. Both the element and the page draw from
 * it, so that a job looks the same everywhere and tests need no DOM.
 */

import { countsAll, percentOf, rateOf } from './progress.js';
import { FINAL } from './protocol.js';

/** @import { Watched } from './jobs.js' */
/** @import { State } from './protocol.js' */

/**
 * How a job looks: its status, its health where that is worse, or that there is
 * nothing to show.
 * @typedef {'unknown' | 'queued' | 'running' | 'stalled' | 'lost' | 'succeeded'
 *   | 'failed' | 'cancelled' | 'denied'} Look
 */

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
 * @property {string} amount           `444 / 1,200 frames`
 * @property {string} time             `2 min left`, `took 34 s`, `no update for 1 min`
 * @property {string} valueText        all of it, for a screen reader
 */

const WORDS = Object.freeze({
  unknown: 'Not known yet',
  queued: 'Queued',
  running: 'Running',
  stalled: 'Stalled',
  lost: 'Lost',
  succeeded: 'Succeeded',
  failed: 'Failed',
  cancelled: 'Cancelled',
  denied: 'Not available',
});

const DENIALS = Object.freeze({
  invalid_job: 'This is not a job id.',
  too_many_jobs: 'This page watches more jobs than the gateway allows.',
});

/**
 * @param {State | null} state
 * @returns {Look}
 */
export function lookOf(state) {
  if (state === null) return 'unknown';
  if (FINAL.has(state.status)) return state.status;
  return state.health === 'stalled' || state.health === 'lost' ? state.health : state.status;
}

/**
 * @param {Watched | null} watched  null: nothing was heard yet
 * @param {number} now              the gateway's time, Unix seconds
 * @param {number} [floor]          the percentage that this attempt has reached already
 * @returns {View}
 */
export function describe(watched, now, floor = 0) {
  const state = watched?.state ?? null;
  const look = watched?.denied ? 'denied' : lookOf(state);
  const final = state !== null && FINAL.has(state.status);
  const percent = percentOf(state, floor);
  const word = WORDS[look];
  const rounded = percent === null ? '' : `${Math.floor(percent)}%`;
  const view = {
    look,
    final,
    word,
    percent,
    // Before the gateway has answered, not even "not known" is known.
    figure: watched === null ? '' : figureOf(look, word, rounded),
    attempt: (state?.attempt ?? 1) > 1 ? `attempt ${state?.attempt}` : '',
    phase: final ? '' : (state?.phase ?? ''),
    message: messageOf(watched, look),
    error: look === 'failed' ? (state?.error ?? '') : '',
    amount: state === null ? '' : amountOf(state),
    time: state === null ? '' : timeOf(state, look, now),
  };
  const spoken = [watched === null ? 'Loading' : word, view.attempt, look === 'succeeded' ? '' : rounded, view.phase, view.error || view.message, view.amount, view.time];
  return { ...view, valueText: spoken.filter(Boolean).join(', ') };
}

/** @param {Look} look @param {string} word @param {string} rounded */
function figureOf(look, word, rounded) {
  if (look === 'running') return rounded || word;
  if (look === 'stalled' || look === 'lost') return rounded ? `${word} at ${rounded}` : word;
  return word;
}

/** @param {Watched | null} watched @param {Look} look */
function messageOf(watched, look) {
  if (look === 'denied') {
    const code = watched?.denied ?? '';
    return code in DENIALS ? DENIALS[/** @type {keyof DENIALS} */ (code)] : code;
  }
  if (look === 'unknown') return watched === null ? '' : 'Nobody has reported on this job so far.';
  // The last message of a failed job is what it did before; the error says why.
  return look === 'failed' && watched?.state?.error ? '' : (watched?.state?.message ?? '');
}

/** @param {State} state */
function amountOf({ done, total, unit }) {
  if (done === undefined && total === undefined) return '';
  if (unit === 'bytes' || unit === 'B') return bytesOf(done, total);
  const noun = unit ? ` ${unit}` : '';
  if (total === undefined) return `${number(done ?? 0)}${noun}`;
  if (done === undefined) return `${number(total)}${noun}`;
  return done === total ? `${number(total)}${noun}` : `${number(done)} / ${number(total)}${noun}`;
}

const precise = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

/**
 * How fast it goes; '' if that is not known.
 * @param {State} state
 */
export function paceOf(state) {
  const rate = state.status === 'running' ? rateOf(state) : null;
  if (rate === null) return '';
  if (!countsAll(state)) return `${precise.format(rate)} % a second`;
  const { unit } = state;
  if (unit === 'bytes' || unit === 'B') return `${bytesOf(undefined, rate)} a second`;
  return `${precise.format(rate)}${unit ? ` ${unit}` : ''} a second`;
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/**
 * Both numbers in the unit of the larger, so that they can be compared.
 * @param {number | undefined} done @param {number | undefined} total
 */
function bytesOf(done, total) {
  const largest = Math.max(done ?? 0, total ?? 0, 1);
  const power = Math.min(Math.floor(Math.log10(largest) / 3), UNITS.length - 1);
  const digits = power === 0 ? 0 : 1;
  /** @param {number} value */
  const short = (value) => (value / 1000 ** power).toFixed(digits);
  const parts = [done, total].filter((value) => value !== undefined).map(short);
  if (done === total) parts.pop();
  return `${parts.join(' / ')} ${UNITS[power]}`;
}

/** @param {State} state @param {Look} look @param {number} now */
function timeOf(state, look, now) {
  const since = now - (state.updated_at ?? now);
  switch (look) {
    case 'running':
      return etaOf(state, since);
    case 'stalled':
    case 'lost':
      return `no update for ${passed(since)}`;
    case 'succeeded':
    case 'failed':
    case 'cancelled': {
      if (state.started_at === undefined || state.finished_at === undefined) return '';
      const took = duration(state.finished_at - state.started_at);
      return look === 'succeeded' ? `took ${took}` : `after ${took}`;
    }
    default:
      return '';
  }
}

/** @param {State} state @param {number} since */
function etaOf({ eta }, since) {
  if (eta === undefined) return '';
  const left = eta - since;
  if (left >= 1) return `${roughly(left)} left`;
  // An estimate that ran out was wrong, and says nothing any more.
  return left > -5 ? 'almost done' : '';
}

/**
 * As exact as a person cares: `8 s`, `1 min 20 s`, `14 min`, `2 h 5 min`, `3 d 4 h`.
 * @param {number} seconds
 */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 1) return 'under 1 s';
  if (s < 60) return `${s} s`;
  if (s < 600) return join(Math.floor(s / 60), 'min', s % 60, 's');
  const minutes = Math.round(s / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return join(Math.floor(minutes / 60), 'h', minutes % 60, 'min');
  const hours = Math.round(minutes / 60);
  return join(Math.floor(hours / 24), 'd', hours % 24, 'h');
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

/** @param {number} large @param {string} unit @param {number} small @param {string} subunit */
function join(large, unit, small, subunit) {
  return small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${subunit}`;
}

/**
 * How long ago, for a list: `now`, `12 s ago`, `4 min ago`, `3 h ago`, `2 d ago`.
 * @param {number} seconds
 */
export function ago(seconds) {
  if (seconds < 5) return 'just now';
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

// The words are English, so the digits are grouped as English does.
const format = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });

/** @param {number} value */
function number(value) {
  return format.format(value);
}
