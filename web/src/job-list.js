/**
 * `<job-list prefix="user:7:">`: a bar for each job whose id has this prefix, including jobs that
 * start later. Active jobs come first, then ended jobs, newest first.
 *
 *     <job-list prefix="user:7:" statuses="queued,running" limit="20">No jobs at present.</job-list>
 *
 * The bars are `<job-progress>` elements in its shadow tree. `part="bar"` styles them, and
 * `part="more"` the line with the number of jobs that are not shown. The content of the element is shown while there
 * are no jobs. A `job-end` event is dispatched when a job that was shown ends.
 */

import { applyStyle } from './element-style.js';
import { JobProgressElement } from './element.js';
import { fill, currentLanguage } from './language.js';
import { setStore } from './sets.js';
import { connect } from './settings.js';
import { inNextFrame } from './ticker.js';

/** @import { Status } from './constants.js' */
/** @import { End } from './end-listener.js' */

/** The import must also work without a DOM (server-side rendering, a test). */
const ElementBase = globalThis.HTMLElement ?? class {};

const CSS = `
  :host { display: block; }
  :host([hidden]) { display: none; }
  ul { display: grid; gap: 0.75rem; list-style: none; margin: 0; padding: 0; }
  p { color: color-mix(in srgb, currentColor 65%, transparent); font-size: 0.875em; margin: 0.75rem 0 0; }
  [hidden] { display: none; }
`;

export class JobListElement extends ElementBase {
  static observedAttributes = ['prefix', 'statuses', 'limit', 'gateway', 'actions'];

  #list = document.createElement('ul');
  #more = document.createElement('p');
  #moreText = document.createElement('bdi'); // the page may have the other direction
  #slot = document.createElement('slot');
  #mounted = false;
  /** @type {(() => void) | null} */
  #unsubscribe = null;
  /** The row of each job. @type {Map<string, HTMLLIElement>} */
  #rows = new Map();
  /** @type {ReturnType<typeof setStore> | null} */
  #store = null;
  #draw = () => this.#paint();

  constructor() {
    super();
    this.#list.setAttribute('role', 'list'); // Safari drops this role if there are no bullets
    this.#list.setAttribute('part', 'list');
    this.#more.setAttribute('part', 'more');
    this.#more.hidden = this.#slot.hidden = true;
    this.#more.append(this.#moreText);
    const root = this.attachShadow({ mode: 'open' });
    applyStyle(root, CSS);
    root.append(this.#list, this.#more, this.#slot);
  }

  connectedCallback() {
    this.#mounted = true;
    this.#watch();
  }

  disconnectedCallback() {
    this.#mounted = false;
    this.#unwatch();
  }

  /** @param {string} _name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(_name, before, after) {
    if (!this.#mounted || before === after) return;
    this.#unwatch();
    this.#watch();
  }

  /** Watches the set of the attributes. */
  #watch() {
    const prefix = this.getAttribute('prefix');
    if (prefix === null) return;
    const statuses = /** @type {Status[]} */ (this.getAttribute('statuses')?.split(/[\s,]+/).filter(Boolean) ?? []);
    const limit = Number(this.getAttribute('limit') ?? NaN);
    const query = { prefix, ...(statuses.length > 0 && { statuses }), ...(Number.isInteger(limit) && { limit }) };
    this.#store = setStore(query, connect(this.getAttribute('gateway') ?? undefined));
    this.#unsubscribe = this.#store.subscribe(
      () => inNextFrame(this.#draw),
      (/** @type {End} */ detail) => this.dispatchEvent(new CustomEvent('job-end', { detail, bubbles: true, composed: true })),
    );
    this.#paint();
  }

  /** Stops watching, and removes the rows. */
  #unwatch() {
    this.#unsubscribe?.();
    this.#unsubscribe = this.#store = null;
    this.#rows.clear();
    this.#list.replaceChildren();
  }

  /** Updates the rows. */
  #paint() {
    if (this.#store === null) return;
    const { jobs, total, more, loading, denied } = this.#store.get();
    const inSet = new Set(jobs);
    for (const [job, row] of this.#rows) {
      if (inSet.has(job)) continue;
      row.remove();
      this.#rows.delete(job);
    }
    let next = this.#list.firstElementChild;
    for (const job of jobs) {
      const row = this.#row(job);
      if (row === next) next = next.nextElementSibling;
      else this.#list.insertBefore(row, next);
    }
    this.#slot.hidden = loading || jobs.length > 0;
    const { words, tag, number } = currentLanguage();
    const hiddenCount = total - jobs.length;
    this.#more.lang = tag;
    this.#moreText.textContent = denied !== null ? (words[/** @type {'node_full'} */ (denied)] ?? denied) : hiddenCount > 0 ? fill(words.more, { n: `${number(hiddenCount)}${more ? '+' : ''}` }) : '';
    this.#more.hidden = this.#moreText.textContent === '';
  }

  /** Returns the row of a job. @param {string} job */
  #row(job) {
    let row = this.#rows.get(job);
    if (row !== undefined) return row;
    row = document.createElement('li');
    const bar = document.createElement('job-progress');
    bar.setAttribute('job', job);
    bar.setAttribute('part', 'bar');
    for (const name of ['gateway', 'actions']) {
      const value = this.getAttribute(name);
      if (value !== null) bar.setAttribute(name, value);
    }
    // The list dispatches each end once, also for jobs that are no longer shown.
    bar.addEventListener('job-end', (event) => event.stopPropagation());
    row.append(bar);
    this.#rows.set(job, row);
    return row;
  }
}

// `<job-progress>` must be defined before the first row is created.
void JobProgressElement;
globalThis.customElements?.get('job-list') ?? globalThis.customElements?.define('job-list', JobListElement);
