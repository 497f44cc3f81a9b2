/**
 * The details of one job, beside the list: its bar, its history as a chart and as a
 * table, and every field of its state. The URL contains the job, so that it can
 * be sent to a colleague.
 */

import { calmly } from '../src/ticker.js';
import { describe, duration, rateTextOf } from '../src/view.js';
import { historyChart } from './chart.js';
import { copyOnClick, setText, showFacts } from './dom.js';
import { History, changesOf } from './history.js';
import { t } from './words.js';

/** @import { Connection } from '../src/connection.js' */
/** @import { Watched } from '../src/jobs.js' */
/** @import { State } from '../src/protocol.js' */
/** @import { HistoryEvent } from './history.js' */

/** Rows of the table; older events are only in the chart. */
const ROWS = 50;
/** Milliseconds between two drawings of the chart: it has a point for each event. */
const CHART_EVERY = 1_000;

export class Detail {
  #connection;
  #find;
  #dialog;
  #stop = () => {};
  #history = new History();
  /** @type {Watched | null} */
  #watched = null;
  #drawnAt = -Infinity;
  /** The number of events in the chart, and the status of the last one. */
  #drawn = '';
  /** @type {string | null} */
  job = null;

  /**
   * @param {Connection} connection
   * @param {(id: string) => HTMLElement} find
   * @param {() => void} closed  called when the user closes it
   */
  constructor(connection, find, closed) {
    this.#connection = connection;
    this.#find = find;
    this.#dialog = /** @type {HTMLDialogElement} */ (find('detail'));
    this.#dialog.addEventListener('close', () => {
      if (this.job === null) return;
      this.#end();
      closed();
    });
    // A click outside of the content hits the dialog itself.
    this.#dialog.addEventListener('click', ({ target }) => target === this.#dialog && this.#dialog.close());
    copyOnClick(find('detail-error-copy'), () => this.#watched?.state?.error ?? '');
    find('detail-close').addEventListener('click', () => this.#dialog.close());
  }

  /** @param {string | null} job  null: close it */
  show(job) {
    if (job === this.job) return;
    this.#end();
    if (job === null) return this.#dialog.close();
    this.job = job;
    const aborted = new AbortController();
    const history = (this.#history = new History());
    const paint = () => calmly(this.#paint);
    let asked = false;
    const unwatch = this.#connection.watch(job, (watched) => {
      this.#watched = watched;
      history.take(watched);
      paint();
      if (asked || watched.state === null) return;
      asked = true;
      // without the history the chart begins now
      history.load(job, aborted.signal).then(paint, () => {});
    });
    this.#stop = () => {
      unwatch();
      aborted.abort();
    };
    const bar = document.createElement('job-progress');
    bar.setAttribute('job', job);
    bar.setAttribute('actions', '');
    this.#find('detail-bar').replaceChildren(bar);
    this.#find('detail-title').textContent = job;
    this.#paint();
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#dialog.scrollTop = 0;
    this.#showEndOfError();
  }

  /** Update its times; called once a second. */
  tick() {
    if (this.job !== null) this.#paint();
  }

  #end() {
    this.#stop();
    this.#stop = () => {};
    this.#watched = null;
    this.job = null;
  }

  /** Scroll to it, because the reason is usually there. */
  #showEndOfError() {
    const text = this.#find('detail-error-text');
    text.scrollTop = text.scrollHeight;
  }

  #paint = () => {
    const { job } = this;
    if (job === null) return;
    const now = this.#connection.now();
    const state = this.#watched?.state ?? null;
    const { events, whole } = this.#history;
    const view = describe(this.#watched, now);
    const figure = this.#find('detail-chart');
    figure.hidden = !events.some(({ percent }) => percent !== null);
    if (!figure.hidden && this.#isChartDue(job)) {
      const span = duration((events.at(-1)?.at ?? now) - (events[0]?.at ?? now));
      const said = t('Progress of {job} over {time}: {text}', { job, time: span, text: view.valueText });
      this.#find('detail-plot').replaceChildren(historyChart(events, now, said));
      const since = new Date((events[0]?.at ?? now) * 1000).toLocaleTimeString(document.documentElement.lang);
      this.#find('detail-since').textContent = t(whole ? 'Since its start at {time}' : 'Since {time}', { time: since });
    }
    this.#showFacts(state, now);
    this.#showEvents();
    this.#find('detail-error').hidden = !state?.error;
    if (setText(this.#find('detail-error-text'), state?.error ?? '')) this.#showEndOfError();
    const data = state?.data === undefined ? '' : JSON.stringify(state.data, null, 2);
    setText(this.#find('detail-data'), data);
    this.#find('detail-more').hidden = data === '';
  };

  /** Whether to draw the chart again: once a second, and at once when its status changes. @param {string} job */
  #isChartDue(job) {
    const { events, whole } = this.#history;
    const now = performance.now();
    const drawn = [job, whole, events[0]?.seq, events.at(-1)?.status].join(' ');
    if (drawn === this.#drawn && now - this.#drawnAt < CHART_EVERY) return false;
    this.#drawn = drawn;
    this.#drawnAt = now;
    return true;
  }

  /** @param {State | null} state @param {number} now */
  #showFacts(state, now) {
    const facts = state === null ? [] : factsOf(this.job ?? '', state, now);
    if (this.#watched?.state) facts.push(['Position', t('{seq} of epoch {epoch}', { seq: this.#watched.seq, epoch: this.#watched.epoch ?? '' })]);
    showFacts(this.#find('detail-facts'), facts, (term, value) => (term === 'Part of' ? linkTo(value) : value));
  }

  /** The newest first. Existing rows stay, so that a selection of their text stays. */
  #showEvents() {
    const { events } = this.#history;
    const body = this.#find('detail-events');
    /** @type {Map<string, Node>} */
    const rows = new Map(Array.from(body.children, (row) => [/** @type {HTMLElement} */ (row).dataset['key'] ?? '', row]));
    /** @type {Array<[key: string, event: HistoryEvent, before: HistoryEvent | undefined]>} */
    const shown = events.slice(-ROWS).map((event, i, { length }) => {
      const before = events[events.length - length + i - 1];
      return [[this.job, event.at, before?.seq, event.seq].join(' '), event, before];
    });
    const keys = new Set(shown.map(([key]) => key));
    for (const [key, row] of rows) if (!keys.has(key)) body.removeChild(row);
    let next = body.firstChild;
    for (const [key, event, before] of shown.reverse()) {
      if (rows.has(key)) next = next?.nextSibling ?? null;
      else body.insertBefore(rowOf(key, event, before), next);
    }
  }
}

/** @param {string} key @param {HistoryEvent} event @param {HistoryEvent | undefined} before */
function rowOf(key, { seq, at, state }, before) {
  const row = document.createElement('tr');
  row.dataset['key'] = key;
  for (const text of [String(seq), new Date(at * 1000).toLocaleTimeString(document.documentElement.lang)]) row.insertCell().textContent = text;
  row.insertCell().append(...changesOf(before?.state, state).flatMap((text, i) => [i === 0 ? '' : ', ', isolated(text)]));
  return row;
}

/**
 * A text that may run from right to left, and must not reorder the text beside it. @param {string}
 * text
 */
function isolated(text) {
  const node = document.createElement('bdi');
  node.textContent = text;
  return node;
}

/** @param {string} job */
function linkTo(job) {
  const link = document.createElement('a');
  link.href = `?job=${encodeURIComponent(job)}`;
  link.dataset['job'] = job;
  link.textContent = job;
  return link;
}

/** @param {string} job @param {State} state @param {number} now @returns {Array<[string, string]>} */
function factsOf(job, state, now) {
  const { status, health, attempt = 1, started_at, finished_at, updated_at } = state;
  const when = (/** @type {number | undefined} */ time) => (time === undefined ? '' : new Date(time * 1000).toLocaleString(document.documentElement.lang));
  const silent = status === 'running' && updated_at !== undefined ? duration(now - updated_at) : '';
  /** @type {Array<[string, string]>} */
  const facts = [
    ['Status', health === undefined || health === 'ok' || status !== 'running' ? t(status) : `${t(status)}, ${t(health)}`],
    ['Attempt', String(attempt)],
    ['Rate', rateTextOf(state, now)],
    ['Part of', job.slice(0, Math.max(job.lastIndexOf('/'), 0))],
    ['Created', when(state.created_at)],
    ['Started', when(started_at)],
    ['Last update', silent ? t('{time} ago', { time: silent }) : when(updated_at)],
    ['Ended', when(finished_at)],
    ['Duration', started_at !== undefined && finished_at !== undefined ? duration(finished_at - started_at) : ''],
    ['Stalled after', state.lease === undefined ? '' : duration(state.lease)],
  ];
  return facts.filter(([, value]) => value !== '');
}
