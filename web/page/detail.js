/**
 * The dialog with the details of one job: its bar, its history as a chart and as a table, and every field of its
 * state. The URL of the page contains the job, so that the user can send it to a colleague.
 */

import { inLaterFrame } from '../src/ticker.js';
import { describe, duration, rateText } from '../src/view.js';
import { historyChart } from './chart.js';
import { copyOnClick, setText, showFacts } from './dom.js';
import { History, changesOf } from './history.js';
import { t } from './translations.js';

/** @import { Connection } from '../src/connection.js' */
/** @import { Watched } from '../src/jobs.js' */
/** @import { State } from '../src/protocol.js' */
/** @import { HistoryEvent } from './history.js' */

/** The maximum number of rows of the table; older events are only in the chart. */
const MAX_ROWS = 50;
/** Milliseconds between two drawings of the chart, which has a point for each event. */
const CHART_INTERVAL = 1_000;

export class DetailDialog {
  #connection;
  #element;
  #dialog;
  #stop = () => {};
  #history = new History();
  /** @type {Watched | null} */
  #watched = null;
  #drawnAt = -Infinity;
  /** What the chart was drawn for last: the job, its first event and its last status. */
  #drawnKey = '';
  /** @type {string | null} */
  job = null;

  /**
   * @param {Connection} connection
   * @param {(id: string) => HTMLElement} byId
   * @param {() => void} onClose  called when the user closes the dialog
   */
  constructor(connection, byId, onClose) {
    this.#connection = connection;
    this.#element = byId;
    this.#dialog = /** @type {HTMLDialogElement} */ (byId('detail'));
    this.#dialog.addEventListener('close', () => {
      if (this.job === null) return;
      this.#reset();
      onClose();
    });
    // A click outside of the content hits the dialog itself.
    this.#dialog.addEventListener('click', ({ target }) => target === this.#dialog && this.#dialog.close());
    copyOnClick(byId('detail-error-copy'), () => this.#watched?.state?.error ?? '');
    byId('detail-close').addEventListener('click', () => this.#dialog.close());
  }

  /** Shows the details of a job. @param {string | null} job  null: close the dialog */
  show(job) {
    if (job === this.job) return;
    this.#reset();
    if (job === null) return this.#dialog.close();
    this.job = job;
    const controller = new AbortController();
    const history = (this.#history = new History());
    const paint = () => inLaterFrame(this.#paint);
    let historyRequested = false;
    const unwatch = this.#connection.watch(job, (watched) => {
      this.#watched = watched;
      history.add(watched);
      paint();
      if (historyRequested || watched.state === null) return;
      historyRequested = true;
      // Without the stored events the chart begins now.
      history.load(job, controller.signal).then(paint, () => {});
    });
    this.#stop = () => {
      unwatch();
      controller.abort();
    };
    const bar = document.createElement('job-progress');
    bar.setAttribute('job', job);
    bar.setAttribute('actions', '');
    this.#element('detail-bar').replaceChildren(bar);
    this.#element('detail-title').textContent = job;
    this.#paint();
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#dialog.scrollTop = 0;
    this.#showEndOfError();
  }

  /** Updates the times; called once a second. */
  updateTimes() {
    if (this.job !== null) this.#paint();
  }

  /** Stops watching the job. */
  #reset() {
    this.#stop();
    this.#stop = () => {};
    this.#watched = null;
    this.job = null;
    this.#element('detail-bar').replaceChildren(); // the bar in it watches the job too
  }

  /** Scrolls to the end of the error, because the reason is usually there. */
  #showEndOfError() {
    const text = this.#element('detail-error-text');
    text.scrollTop = text.scrollHeight;
  }

  #paint = () => {
    const { job } = this;
    if (job === null) return;
    const now = this.#connection.now();
    const state = this.#watched?.state ?? null;
    const { events, complete } = this.#history;
    const view = describe(this.#watched, now);
    const chart = this.#element('detail-chart');
    chart.hidden = !events.some(({ percent }) => percent !== null);
    if (!chart.hidden && this.#isChartDue(job)) {
      const timeSpan = duration((events.at(-1)?.at ?? now) - (events[0]?.at ?? now));
      const label = t('Progress of {job} over {time}: {text}', { job, time: timeSpan, text: view.valueText });
      this.#element('detail-plot').replaceChildren(historyChart(events, now, label));
      const startTime = new Date((events[0]?.at ?? now) * 1000).toLocaleTimeString(document.documentElement.lang);
      this.#element('detail-since').textContent = t(complete ? 'Since its start at {time}' : 'Since {time}', { time: startTime });
    }
    this.#showFacts(state, now);
    this.#showEvents();
    this.#element('detail-error').hidden = !state?.error;
    if (setText(this.#element('detail-error-text'), state?.error ?? '')) this.#showEndOfError();
    const data = state?.data === undefined ? '' : JSON.stringify(state.data, null, 2);
    setText(this.#element('detail-data'), data);
    this.#element('detail-more').hidden = data === '';
  };

  /** Returns whether to draw the chart again: once a second, and at once when the status changes. @param {string} job */
  #isChartDue(job) {
    const { events, complete } = this.#history;
    const now = performance.now();
    const key = [job, complete, events[0]?.seq, events.at(-1)?.status].join(' ');
    if (key === this.#drawnKey && now - this.#drawnAt < CHART_INTERVAL) return false;
    this.#drawnKey = key;
    this.#drawnAt = now;
    return true;
  }

  /** Shows the fields of the state as a table. @param {State | null} state @param {number} now */
  #showFacts(state, now) {
    const facts = state === null ? [] : factsOf(this.job ?? '', state, now);
    if (this.#watched?.state) facts.push(['Position', t('{seq} of epoch {epoch}', { seq: this.#watched.seq, epoch: this.#watched.epoch ?? '' })]);
    showFacts(this.#element('detail-facts'), facts, (term, value) => (term === 'Part of' ? linkTo(value) : value));
  }

  /** Shows the events as a table, the newest first. Existing rows stay, so that the user's selection stays. */
  #showEvents() {
    const { events } = this.#history;
    const body = this.#element('detail-events');
    /** @type {Map<string, Node>} */
    const rows = new Map(Array.from(body.children, (row) => [/** @type {HTMLElement} */ (row).dataset['key'] ?? '', row]));
    /** @type {Array<[key: string, event: HistoryEvent, before: HistoryEvent | undefined]>} */
    const visibleEvents = events.slice(-MAX_ROWS).map((event, i, { length }) => {
      const before = events[events.length - length + i - 1];
      return [[this.job, event.at, before?.seq, event.seq].join(' '), event, before];
    });
    const keys = new Set(visibleEvents.map(([key]) => key));
    for (const [key, row] of rows) if (!keys.has(key)) body.removeChild(row);
    let next = body.firstChild;
    for (const [key, event, before] of visibleEvents.reverse()) {
      if (rows.has(key)) next = next?.nextSibling ?? null;
      else body.insertBefore(eventRow(key, event, before), next);
    }
  }
}

/** Returns the row of an event. @param {string} key @param {HistoryEvent} event @param {HistoryEvent | undefined} before */
function eventRow(key, { seq, at, state }, before) {
  const row = document.createElement('tr');
  row.dataset['key'] = key;
  for (const text of [String(seq), new Date(at * 1000).toLocaleTimeString(document.documentElement.lang)]) row.insertCell().textContent = text;
  row.insertCell().append(...changesOf(before?.state, state).flatMap((text, i) => [i === 0 ? '' : ', ', bidiIsolated(text)]));
  return row;
}

/** Returns a node for a text that may be right-to-left; `bdi` keeps it from reordering the text beside it. @param {string} text */
function bidiIsolated(text) {
  const node = document.createElement('bdi');
  node.textContent = text;
  return node;
}

/** Returns a link to the details of a job. @param {string} job */
function linkTo(job) {
  const link = document.createElement('a');
  link.href = `?job=${encodeURIComponent(job)}`;
  link.dataset['job'] = job;
  link.textContent = job;
  return link;
}

/** Returns the rows of the table of fields. @param {string} job @param {State} state @param {number} now @returns {Array<[string, string]>} */
function factsOf(job, state, now) {
  const { status, health, attempt = 1, started_at, finished_at, updated_at } = state;
  const formatTime = (/** @type {number | undefined} */ time) => (time === undefined ? '' : new Date(time * 1000).toLocaleString(document.documentElement.lang));
  const silence = status === 'running' && updated_at !== undefined ? duration(now - updated_at) : '';
  /** @type {Array<[string, string]>} */
  const facts = [
    ['Status', health === undefined || health === 'ok' || status !== 'running' ? t(status) : `${t(status)}, ${t(health)}`],
    ['Attempt', String(attempt)],
    ['Rate', rateText(state, now)],
    ['Part of', job.slice(0, Math.max(job.lastIndexOf('/'), 0))],
    ['Created', formatTime(state.created_at)],
    ['Started', formatTime(started_at)],
    ['Last update', silence ? t('{time} ago', { time: silence }) : formatTime(updated_at)],
    ['Ended', formatTime(finished_at)],
    ['Duration', started_at !== undefined && finished_at !== undefined ? duration(finished_at - started_at) : ''],
    ['Stalled after', state.lease === undefined ? '' : duration(state.lease)],
  ];
  return facts.filter(([, value]) => value !== '');
}
