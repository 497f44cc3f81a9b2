/**
 * One job in full, beside the list: its bar, its history as a chart and as a
 * table, and every field of its state. The address names the job, so that it can
 * be sent to a colleague.
 */

import { historyChart } from './page-chart.js';
import { History, changeOf } from './page-history.js';
import { soon } from './ticker.js';
import { describe, duration, paceOf } from './view.js';

/** @import { Connection } from './connection.js' */
/** @import { Watched } from './jobs.js' */
/** @import { State } from './protocol.js' */

/** Rows of the table: what is older is in the chart. */
const ROWS = 50;

export class Detail {
  #connection;
  #find;
  #dialog;
  #leave = () => {};
  #history = new History();
  /** @type {Watched | null} */
  #watched = null;
  /** @type {string | null} */
  job = null;

  /**
   * @param {Connection} connection
   * @param {(id: string) => HTMLElement} find
   * @param {() => void} closed  by the person who looked
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
    // A click beside it: on the dialog itself, and so on none of its content.
    this.#dialog.addEventListener('click', ({ target }) => target === this.#dialog && this.#dialog.close());
    find('detail-close').addEventListener('click', () => this.#dialog.close());
  }

  /** @param {string | null} job  null: close it */
  show(job) {
    if (job === this.job) return;
    this.#end();
    if (job === null) return this.#dialog.close();
    this.job = job;
    const gone = new AbortController();
    const history = (this.#history = new History());
    const paint = () => soon(this.#paint);
    let asked = false;
    const unwatch = this.#connection.watch(job, (watched) => {
      this.#watched = watched;
      history.take(watched);
      paint();
      if (asked || watched.state === null) return;
      asked = true;
      history.load(job, gone.signal).then(paint, () => {}); // without it the chart begins now
    });
    this.#leave = () => {
      unwatch();
      gone.abort();
    };
    const bar = document.createElement('job-progress');
    bar.setAttribute('job', job);
    this.#find('detail-bar').replaceChildren(bar);
    this.#find('detail-title').textContent = job;
    this.#paint();
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#dialog.scrollTop = 0;
  }

  /** Its times go on; called once a second. */
  tick() {
    if (this.job !== null) this.#paint();
  }

  #end() {
    this.#leave();
    this.#leave = () => {};
    this.#watched = null;
    this.job = null;
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
    if (!figure.hidden) {
      const span = duration((events.at(-1)?.at ?? now) - (events[0]?.at ?? now));
      const said = `Progress of ${job} over ${span}: ${view.valueText}`;
      this.#find('detail-plot').replaceChildren(historyChart(events, now, said));
      const since = new Date((events[0]?.at ?? now) * 1000).toLocaleTimeString();
      this.#find('detail-since').textContent = whole ? `Since its start at ${since}` : `Since ${since}`;
    }
    this.#showFacts(state, now);
    this.#showEvents();
    const data = state?.data === undefined ? '' : JSON.stringify(state.data, null, 2);
    this.#find('detail-data').textContent = data;
    this.#find('detail-more').hidden = data === '';
  };

  /** @param {State | null} state @param {number} now */
  #showFacts(state, now) {
    const facts = state === null ? [] : factsOf(state, now);
    if (this.#watched?.state) facts.push(['Position', `${this.#watched.seq} of epoch ${this.#watched.epoch}`]);
    const list = this.#find('detail-facts');
    const nodes = facts.map(([term, value]) => {
      const dt = document.createElement('dt');
      const dd = document.createElement('dd');
      dt.textContent = term;
      if (term === 'Part of') dd.append(linkTo(value));
      else dd.textContent = value;
      return [dt, dd];
    });
    // Left alone while it says the same, so that its text can be selected.
    const text = facts.flat().join('\n');
    if (list.dataset['text'] === text) return;
    list.dataset['text'] = text;
    list.replaceChildren(...nodes.flat());
  }

  #showEvents() {
    const { events } = this.#history;
    const body = this.#find('detail-events');
    const state = `${this.job} ${events.length} ${events.at(-1)?.seq}`;
    if (body.dataset['state'] === state) return;
    body.dataset['state'] = state;
    const rows = events.map(({ seq, at, state }, i) => {
      const row = document.createElement('tr');
      for (const text of [String(seq), new Date(at * 1000).toLocaleTimeString(), changeOf(events[i - 1]?.state, state)]) {
        row.insertCell().textContent = text;
      }
      return row;
    });
    body.replaceChildren(...rows.reverse().slice(0, ROWS));
  }
}

/** @param {string} job */
function linkTo(job) {
  const link = document.createElement('a');
  link.href = `?job=${encodeURIComponent(job)}`;
  link.dataset['job'] = job;
  link.textContent = job;
  return link;
}

/** @param {State} state @param {number} now @returns {Array<[string, string]>} */
function factsOf(state, now) {
  const { status, health, attempt = 1, started_at, finished_at, updated_at } = state;
  const when = (/** @type {number | undefined} */ time) => (time === undefined ? '' : new Date(time * 1000).toLocaleString());
  const silent = status === 'running' && updated_at !== undefined ? duration(now - updated_at) : '';
  /** @type {Array<[string, string]>} */
  const facts = [
    ['Status', health === undefined || health === 'ok' || status !== 'running' ? status : `${status}, ${health}`],
    ['Attempt', String(attempt)],
    ['Pace', paceOf(state)],
    ['Part of', state.parent ?? ''],
    ['Created', when(state.created_at)],
    ['Started', when(started_at)],
    ['Last update', silent ? `${silent} ago` : when(updated_at)],
    ['Ended', when(finished_at)],
    ['Took', started_at !== undefined && finished_at !== undefined ? duration(finished_at - started_at) : ''],
    ['May be silent for', state.lease === undefined ? '' : duration(state.lease)],
  ];
  return facts.filter(([, value]) => value !== '');
}
