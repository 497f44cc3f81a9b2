/**
 * `<job-progress job="video:42">`: a live bar for one job. It has no state of
 * its own: it draws the result of `view.js` for the state that the connection has. The bar
 * moves with each frame. Its texts change as often as a person can read them, and
 * immediately when the status changes. Texts of a worker are never parsed as HTML.
 *
 * Attributes: `job`; `label` (shown instead of the job id); `gateway` (URL of
 * another gateway's `/ws`); `actions` (with a button for each request that the job accepts, see
 * `element-actions.js`). It reflects `look` (see `view.js`) and `stale` for
 * style sheets. Content with `slot="aside"` stands at the end of the first line, content
 * with `slot="actions"` below the bar.
 *
 * Events: `job-end`, once for each attempt that ends, with `{ job, state, attempt,
 * alreadyOver }` as its `detail` (see `ends.js`). It bubbles.
 */

import { build, set, write } from './element-nodes.js';
import { endListener } from './ends.js';
import { drawIcon } from './icons.js';
import { load } from './load.js';
import { continues } from './progress.js';
import { connect } from './settings.js';
import { isOver, lookOf, percentOf } from './state.js';
import { calmly, everySecond, soon } from './ticker.js';
import { describe } from './view.js';
import { currentLanguage } from './words.js';

/** @import { Connection } from './connection.js' */
/** @import { Watched } from './jobs.js' */
/** @import { View } from './view.js' */

/** Without a DOM (server-side rendering, a test) the import must still work. */
const Base = globalThis.HTMLElement ?? class {};

/** Milliseconds between two updates below which a bar needs no transition. */
const BRISK = 200;
/** Milliseconds without an update after which the transition is used again. */
const AT_REST = 1_000;

/** Below these widths the last line breaks, and then again. */
const NARROW = 420;
const SLIM = 260;

/**
 * Fits all elements of a page to their widths. By a ruler of no height, as a bar
 * that becomes higher must not be measured again; and not by a container query,
 * for which a browser styles and lays out each bar by itself, one after the other.
 */
const ruler =
  globalThis.ResizeObserver &&
  new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const { classList } = /** @type {Element} */ (target.nextElementSibling);
      classList.toggle('narrow', contentRect.width <= NARROW);
      classList.toggle('slim', contentRect.width <= SLIM);
    }
  });

/** Milliseconds between two texts for a screen reader. */
const VALUE_TEXT_EVERY = 1_000;

const LINES = /** @type {const} */ (['attempt', 'figure', 'phase', 'message', 'error', 'amount', 'time']);

export class JobProgressElement extends Base {
  static observedAttributes = ['job', 'label', 'gateway', 'actions'];

  #nodes = build(this.attachShadow({ mode: 'open' }));
  #mounted = false;
  /** @type {Connection | null} */
  #connection = null;
  /** The known state. @type {Watched | null} */
  #watched = null;
  /** The percentage that this attempt has reached. The bar never falls below it. */
  #reached = 0;
  /** Where the bar stands; null: it has no place yet. @type {Watched | null} */
  #shown = null;
  #movedAt = -Infinity;
  /** The view whose texts are shown; null: none of this job yet. @type {View | null} */
  #view = null;
  #valueTextAt = -Infinity;
  /** @type {Array<() => void>} */
  #stops = [];
  #drawBarSoon = () => this.#drawBar();
  #drawTextsSoon = () => this.#drawTexts();

  connectedCallback() {
    if (this.#mounted) return; // it was moved
    this.#mounted = true;
    ruler?.observe(this.#nodes.rule);
    this.#enter();
  }

  /** An element that is only moved to another place is there again before the microtask, and keeps what it shows. */
  disconnectedCallback() {
    queueMicrotask(() => {
      if (this.isConnected || !this.#mounted) return;
      this.#mounted = false;
      ruler?.unobserve(this.#nodes.rule);
      this.#exit();
    });
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (!this.#mounted || before === after) return; // an element of the HTML is given its attributes before it is mounted
    if (name === 'label') return soon(this.#drawTextsSoon);
    this.#exit();
    this.#enter();
  }

  #enter() {
    const job = this.getAttribute('job');
    if (job === null || job === '') return;
    const connection = connect(this.getAttribute('gateway') ?? undefined);
    this.#connection = connection;
    this.#stops = [
      connection.watch(job, () => this.#take(connection.peek(job))),
      connection.watch(job, endListener((detail) => this.dispatchEvent(new CustomEvent('job-end', { detail, bubbles: true, composed: true })))),
      connection.observe(this.#onStateChange()),
      everySecond(this.#drawTextsSoon),
    ];
    if (this.hasAttribute('actions')) void this.#offerActions(job);
    // Paint a known state immediately, so that the bar does not appear empty first.
    this.#drawBar();
    this.#drawTexts();
  }

  /** @param {string} job */
  async #offerActions(job) {
    const stops = this.#stops;
    const { mountActions } = await load(() => import('./element-actions.js')).catch(() => ({ mountActions: null }));
    if (stops !== this.#stops) return;
    if (mountActions === null) {
      // The gateway is unavailable; try again until it answers.
      const timer = setTimeout(() => void this.#offerActions(job), 2000);
      stops.push(() => clearTimeout(timer));
      return;
    }
    stops.push(mountActions(this.#nodes, job, this.getAttribute('gateway') ?? undefined));
  }

  #exit() {
    for (const stop of this.#stops) stop();
    this.#stops = [];
    this.#connection = null;
    this.#watched = this.#shown = this.#view = null;
    this.#reached = 0;
  }

  /** @param {Watched | null} watched */
  #take(watched) {
    const before = this.#watched;
    const step = continues(before, watched);
    this.#watched = watched;
    this.#reached = Math.max(step ? this.#reached : 0, percentOf(watched?.state ?? null, 0) ?? 0);
    soon(this.#drawBarSoon);
    if (step && lookOf(watched?.state ?? null) === lookOf(before?.state ?? null)) calmly(this.#drawTextsSoon);
    else soon(this.#drawTextsSoon);
  }

  /** Only a change between live and not live is shown; pings and counters are not. */
  #onStateChange() {
    let was = '';
    return (/** @type {import('./status.js').ConnectionStatus} */ { state }) => {
      if (state !== was) soon(this.#drawTextsSoon);
      was = state;
    };
  }

  #drawBar() {
    if (this.#connection === null) return;
    const { bar, frame, track } = this.#nodes;
    const watched = this.#watched;
    const state = watched?.state ?? null;
    const percent = percentOf(state, this.#reached);
    const wander = percent === null && lookOf(state) === 'running';
    track.classList.toggle('wander', wander);
    const width = wander ? '' : `${percent ?? 0}%`;
    if (bar.style.width !== width) {
      const now = performance.now();
      const brisk = now - this.#movedAt < BRISK;
      // The first value is shown without a transition.
      bar.classList.toggle('smooth', !brisk && !wander && continues(this.#shown, watched));
      frame.classList.toggle('brisk', brisk);
      bar.style.width = width;
      this.#movedAt = now;
    }
    this.#shown = watched;
  }

  #drawTexts() {
    const connection = this.#connection;
    if (connection === null) return;
    const watched = this.#watched;
    const before = this.#view;
    const view = describe(watched, connection.now(), this.#reached);
    const job = this.getAttribute('job') ?? '';
    const stale = !isOver(view.look) && view.look !== 'denied' && connection.isStale(job);
    const { frame, name, icon, track, dot, live } = this.#nodes;

    set(this, 'look', view.look);
    this.toggleAttribute('stale', stale);
    if (performance.now() - this.#movedAt > AT_REST) frame.classList.remove('brisk');
    frame.classList.toggle('quiet', watched === null);
    frame.classList.toggle('silent', view.phase === '' && view.message === '' && view.error === '');
    if (icon.dataset['look'] !== view.look) {
      icon.dataset['look'] = view.look;
      icon.replaceChildren(...drawIcon(view.look));
    }
    const { words, tag } = currentLanguage();
    set(frame, 'lang', tag);
    if (stale) {
      const { state, stopped, reconnects, node } = connection.status();
      const connected = state === 'live' || state === 'stale';
      view.time = stopped ? words.notConnected : connected ? words.outOfDate : node === null && reconnects === 0 ? words.connecting : words.reconnecting;
      view.valueText += `, ${view.time}`;
    }
    for (const line of LINES) write(this.#nodes[line], view[line]);
    const alone = view.phase === '' || view.message === '';
    if (dot.hidden !== alone) dot.hidden = alone;
    const label = this.getAttribute('label') ?? job;
    write(name, label);
    set(name, 'title', job);
    set(track, 'aria-label', label);
    this.#setValueText(view, before);
    // Said once, when it happens; what is no longer true must not stay there to be read.
    if (before === null || !isOver(view.look)) write(live, '');
    else if (!isOver(before.look)) write(live, `${label}: ${view.valueText}`);
    this.#view = watched === null ? null : view;
  }

  /**
   * Of a job that goes on, a screen reader is given no more than a value a second.
   * @param {View} view @param {View | null} before
   */
  #setValueText(view, before) {
    const { track } = this.#nodes;
    const now = performance.now();
    if (before !== null && before.look === view.look && now - this.#valueTextAt < VALUE_TEXT_EVERY) return; // the next second says it
    // Not all bars of a page in the same frame.
    this.#valueTextAt = before === null ? now - Math.random() * VALUE_TEXT_EVERY : now;
    set(track, 'aria-valuetext', view.valueText);
    if (view.percent === null) track.removeAttribute('aria-valuenow');
    else set(track, 'aria-valuenow', String(Math.floor(view.percent)));
  }
}

globalThis.customElements?.get('job-progress') ??
  globalThis.customElements?.define('job-progress', JobProgressElement);
