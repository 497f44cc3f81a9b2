/**
 * The texts about a job, in English, German and Chinese, and the number formats of each locale.
 * `configure({ locale, words })` chooses the language, and replaces some of its texts.
 */

import { currentSettings } from './settings.js';

const ENGLISH = {
  loading: 'Loading', unknown: 'Not known yet', queued: 'Queued', running: 'Running', stalled: 'Stalled', lost: 'Lost',
  succeeded: 'Succeeded', failed: 'Failed', cancelled: 'Cancelled', denied: 'Not available',
  unreported: 'There is no report on this job yet.',
  invalid_job: 'This is not a job id.',
  too_many_jobs: 'This page watches more jobs than the gateway allows.',
  node_full: 'The gateway is at its limit of jobs.',
  share_full: 'Your network or account watches too many jobs.',
  attempt: 'attempt {n}', someFailed: '{n} failed', someCancelled: '{n} cancelled',
  at: '{word} at {percent}',
  left: '{time} left', almostDone: 'almost done', took: 'took {time}', after: 'after {time}', silent: 'no update for {time}',
  justNow: 'just now', ago: '{time} ago', rate: '{amount} a second', underASecond: 'less than 1 s',
  seconds: '{n} s', minutes: '{n} min', hours: '{n} h', days: '{n} d',
  cancel: 'Stop', pause: 'Pause', resume: 'Resume', cancelling: 'stopping…', pausing: 'pausing…', resuming: 'resuming…', asking: '{verb}: requested…',
  unanswered: 'The worker does not answer.', refused: 'Refused: {reason}', forbidden: 'You are not allowed to do this.', final: 'The job has ended already.',
  not_accepted: 'The job does not accept this.', stale_attempt: 'The job has begun another attempt.', unreachable: 'The gateway does not answer.', unavailable: 'Not possible at the moment. Try again.',
  connecting: 'connecting…', reconnecting: 'reconnecting…', notConnected: 'not connected', outOfDate: 'may be out of date',
  more: '{n} more', too_many_sets: 'This page watches more lists than the gateway allows.',
};

/** @typedef {typeof ENGLISH} Words */

/** @type {Words} */
const GERMAN = {
  loading: 'Lädt', unknown: 'Noch unbekannt', queued: 'Wartet', running: 'Läuft', stalled: 'Stockt', lost: 'Verloren',
  succeeded: 'Erledigt', failed: 'Fehlgeschlagen', cancelled: 'Abgebrochen', denied: 'Nicht verfügbar',
  unreported: 'Zu diesem Auftrag gibt es noch keine Meldung.',
  invalid_job: 'Das ist keine gültige Auftragskennung.',
  too_many_jobs: 'Diese Seite beobachtet mehr Aufträge, als das Gateway erlaubt.',
  node_full: 'Das Gateway hat seine Höchstzahl an Aufträgen erreicht.',
  share_full: 'Ihr Netzwerk oder Ihr Konto beobachtet zu viele Aufträge.',
  attempt: '{n}. Versuch', someFailed: '{n} fehlgeschlagen', someCancelled: '{n} abgebrochen',
  at: '{word} bei {percent}',
  left: 'noch {time}', almostDone: 'fast fertig', took: 'dauerte {time}', after: 'nach {time}', silent: 'seit {time} keine Meldung',
  justNow: 'gerade eben', ago: 'vor {time}', rate: '{amount} pro Sekunde', underASecond: 'weniger als 1 s',
  seconds: '{n} s', minutes: '{n} Min.', hours: '{n} Std.', days: '{n} Tg.',
  cancel: 'Stoppen', pause: 'Anhalten', resume: 'Fortsetzen', cancelling: 'wird gestoppt …', pausing: 'wird angehalten …', resuming: 'wird fortgesetzt …', asking: '{verb}: angefragt …',
  unanswered: 'Der Worker antwortet nicht.', refused: 'Abgelehnt: {reason}', forbidden: 'Das ist Ihnen nicht erlaubt.', final: 'Der Auftrag ist schon beendet.',
  not_accepted: 'Der Auftrag nimmt das nicht an.', stale_attempt: 'Der Auftrag hat einen neuen Versuch begonnen.', unreachable: 'Das Gateway antwortet nicht.', unavailable: 'Im Moment nicht möglich. Versuchen Sie es noch einmal.',
  connecting: 'verbindet …', reconnecting: 'verbindet neu …', notConnected: 'nicht verbunden', outOfDate: 'möglicherweise veraltet',
  more: '{n} weitere', too_many_sets: 'Diese Seite beobachtet mehr Listen, als das Gateway erlaubt.',
};

/** @type {Words} */
const CHINESE = {
  loading: '正在加载', unknown: '尚无信息', queued: '排队中', running: '进行中', stalled: '停滞', lost: '失联',
  succeeded: '已完成', failed: '失败', cancelled: '已取消', denied: '不可用',
  unreported: '尚未收到此任务的任何报告。',
  invalid_job: '任务编号无效。',
  too_many_jobs: '此页面关注的任务数超过了网关的上限。',
  node_full: '网关的任务数已达上限。',
  share_full: '您的网络或账户关注的任务数过多。',
  attempt: '第 {n} 次尝试', someFailed: '{n} 个失败', someCancelled: '{n} 个已取消',
  at: '{word}于 {percent}',
  left: '剩余 {time}', almostDone: '即将完成', took: '用时 {time}', after: '{time}后', silent: '已 {time}没有更新',
  justNow: '刚刚', ago: '{time}前', rate: '每秒 {amount}', underASecond: '不到 1 秒',
  seconds: '{n} 秒', minutes: '{n} 分钟', hours: '{n} 小时', days: '{n} 天',
  cancel: '停止', pause: '暂停', resume: '继续', cancelling: '正在停止…', pausing: '正在暂停…', resuming: '正在继续…', asking: '已请求 {verb}…',
  unanswered: '执行程序没有响应。', refused: '已拒绝：{reason}', forbidden: '您无权执行此操作。', final: '任务已经结束。',
  not_accepted: '任务不接受此请求。', stale_attempt: '任务已开始新的尝试。', unreachable: '网关没有响应。', unavailable: '暂时无法执行，请重试。',
  connecting: '正在连接…', reconnecting: '正在重新连接…', notConnected: '未连接', outOfDate: '可能已过时',
  more: '还有 {n} 个', too_many_sets: '此页面关注的列表数超过了网关的上限。',
};

/** @type {Record<string, Words>} */
const LANGUAGES = { en: ENGLISH, de: GERMAN, zh: CHINESE };

/**
 * @typedef {object} Language
 * @property {string} tag    the BCP 47 tag, for the attribute `lang`
 * @property {Words} words
 * @property {(value: number) => string} number     formats with at most two decimals
 * @property {(value: number) => string} precise    formats with three significant digits
 * @property {(value: number) => string} percent    formats a whole number from 0 to 100
 * @property {(value: number, power: number) => string} bytes  formats bytes in the unit with this power of 1000
 * @property {(power: number) => string} byteUnit  returns that unit, such as `MB`
 */

/** @type {Language | undefined} */
let language;
/** The settings from which `language` was made. @type {import('./settings.js').Settings | undefined} */
let languageFor;

/** Returns the configured language. @returns {Language} */
export function currentLanguage() {
  const settings = currentSettings();
  if (language === undefined || languageFor !== settings) {
    languageFor = settings;
    language = languageOf(settings.locale ?? 'en', settings.words);
  }
  return language;
}

const BYTE_UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte', 'petabyte'];

/** Returns the texts and number formats of a locale. @param {string} locale @param {Partial<Words>} [words] @returns {Language} */
function languageOf(locale, words) {
  const builtIn = LANGUAGES[locale.toLowerCase().split('-')[0] ?? 'en'];
  /** @param {Intl.NumberFormatOptions} options */
  const format = (options) => new Intl.NumberFormat(locale, options);
  const [number, precise, percent] = [format({ maximumFractionDigits: 2 }), format({ maximumSignificantDigits: 3 }), format({ style: 'percent' })];
  const [integers, oneDecimal] = [format({ maximumFractionDigits: 0 }), format({ minimumFractionDigits: 1, maximumFractionDigits: 1 })];
  return {
    // For a language without a translation the words are English; the numbers are those of the locale.
    tag: builtIn === undefined ? 'en' : locale,
    words: { ...(builtIn ?? ENGLISH), ...words },
    number: memoizeIntegers((value) => number.format(value)),
    precise: (value) => precise.format(value),
    percent: memoizeIntegers((value) => percent.format(value / 100)),
    bytes: (value, power) => (power === 0 ? integers : oneDecimal).format(value / 1000 ** power),
    byteUnit: (power) =>
      format({ style: 'unit', unit: BYTE_UNITS[power] ?? 'byte', unitDisplay: 'narrow' }).formatToParts(1).find(({ type }) => type === 'unit')?.value ?? 'B',
  };
}

/**
 * Returns a function that formats each small integer once. Formatting takes microseconds, and two hundred bars
 * show the same small numbers again and again.
 * @param {(value: number) => string} format
 */
function memoizeIntegers(format) {
  /** @type {string[]} */
  const cache = [];
  return (/** @type {number} */ value) => (value >= 0 && value < 1000 && Number.isInteger(value) ? (cache[value] ??= format(value)) : format(value));
}

/** The largest power of 1000 that has a unit. */
export const LARGEST_BYTE_POWER = BYTE_UNITS.length - 1;

/** Matches the letters of right-to-left scripts: Hebrew, Arabic, Syriac and others. */
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe]/;

/**
 * Returns a text with its placeholders replaced: `fill('{time} left', { time: '2 min' })`. If a part of
 * it is right-to-left, each value is isolated, so that `19 s` does not become `s 19`.
 * @param {string} text @param {Record<string, string>} values
 */
export function fill(text, values) {
  const isMixed = RIGHT_TO_LEFT.test(text) || Object.values(values).some((value) => RIGHT_TO_LEFT.test(value));
  return text.replace(/\{(\w+)\}/g, (placeholder, name) => {
    const value = values[name] ?? placeholder;
    return isMixed ? `\u2068${value}\u2069` : value; // first strong isolate, pop directional isolate
  });
}
