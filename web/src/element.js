/**
 * `<job-progress job="video:42">`: a live bar for one job. It draws the result of `view.js` for the known state of
 * the connection. The bar moves with each frame. Its texts change at most five times a second, and immediately when
 * the status changes. Texts of a worker are never parsed as HTML.
 *
 * Attributes: `job`; `label` (shown instead of the job id); `gateway` (URL of
 * another gateway's `/ws`); `actions` (with a button for each request that the job accepts, see
 * `element-actions.js`). The element sets `look` (see `view.js`) and `stale` for
 * style sheets. Content with `slot="aside"` is shown at the end of the first line, content with `slot="actions"` below
 * the bar.
 *
 * Events: `job-end`, once for each attempt that ends, with `{ job, state, attempt,
 * alreadyOver }` as its `detail` (see `end-listener.js`). It bubbles.
 */

import { buildNodes, setAttribute, setText } from './element-nodes.js';
import { endListener } from './end-listener.js';
import { drawIcon } from './icons.js';
import { isOver, lookOf, percentOf } from './job-state.js';
import { currentLanguage } from './language.js';
import { load } from './load.js';
import { isSameAttempt } from './progress.js';
import { connect } from './settings.js';
import { inLaterFrame, everySecond, inNextFrame } from './ticker.js';
import { describe } from './view.js';

/** @import { Connection } from './connection.js' */
/** @import { Watched } from './jobs.js' */
/** @import { View } from './view.js' */

/** The import must also work without a DOM (server-side rendering, a test). */
const ElementBase = globalThis.HTMLElement ?? class {};

/** Milliseconds between two updates below which a bar needs no transition. */
const FAST_UPDATE = 200;
/** Milliseconds after an update from which the bar uses the transition again. */
const SLOW_UPDATE = 1_000;

/** The widths in pixels below which the last line is broken, and broken again. */
const NARROW_WIDTH = 420;
const SLIM_WIDTH = 260;

/**
 * Adapts all elements of a page to their widths. It observes a node without height in each element, because a bar
 * that becomes higher must not be measured again. With container queries the browser would style and lay out each bar
 * separately.
 */
const ruler =
  globalThis.ResizeObserver &&
  new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const { classList } = /** @type {Element} */ (target.nextElementSibling);
      classList.toggle('narrow', contentRect.width <= NARROW_WIDTH);
      classList.toggle('slim', contentRect.width <= SLIM_WIDTH);
    }
  });

/** Minimum milliseconds between two texts for a screen reader. */
const VALUE_TEXT_INTERVAL = 1_000;

/** The parts whose texts are fields of the view. */
const TEXT_PARTS = /** @type {const} */ (['attempt', 'figure', 'phase', 'message', 'error', 'amount', 'time']);

export class JobProgressElement extends ElementBase {
  static observedAttributes = ['job', 'label', 'gateway', 'actions'];

  #nodes = buildNodes(this.attachShadow({ mode: 'open' }));
  #mounted = false;
  /** @type {Connection | null} */
  #connection = null;
  /** The known state. @type {Watched | null} */
  #watched = null;
  /** The percentage that this attempt has reached. The bar never falls below it. */
  #reached = 0;
  /** The state that the bar shows; null: none yet. @type {Watched | null} */
  #drawn = null;
  #movedAt = -Infinity;
  /** The view whose texts are shown; null: none yet. @type {View | null} */
  #view = null;
  #valueTextAt = -Infinity;
  /** @type {Array<() => void>} */
  #stops = [];
  #drawBarSoon = () => this.#drawBar();
  #drawTextsSoon = () => this.#drawTexts();

  connectedCallback() {
    if (this.#mounted) return; // the element was only moved
    this.#mounted = true;
    ruler?.observe(this.#nodes.ruler);
    this.#watch();
  }

  /** An element that is only moved is connected again before the microtask, and keeps its content. */
  disconnectedCallback() {
    queueMicrotask(() => {
      if (this.isConnected || !this.#mounted) return;
      this.#mounted = false;
      ruler?.unobserve(this.#nodes.ruler);
      this.#unwatch();
    });
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (!this.#mounted || before === after) return; // a new element gets its attributes before it is mounted
    if (name === 'label') return inNextFrame(this.#drawTextsSoon);
    this.#unwatch();
    this.#watch();
  }

  /** Watches the job of the attributes. */
  #watch() {
    const job = this.getAttribute('job');
    if (job === null || job === '') return;
    const connection = connect(this.getAttribute('gateway') ?? undefined);
    this.#connection = connection;
    this.#stops = [
      connection.watch(job, () => this.#onWatched(connection.peek(job))),
      connection.watch(job, endListener((detail) => this.dispatchEvent(new CustomEvent('job-end', { detail, bubbles: true, composed: true })))),
      connection.observe(this.#stateObserver()),
      everySecond(this.#drawTextsSoon),
    ];
    if (this.hasAttribute('actions')) void this.#addActions(job);
    // Paint a known state immediately, so that the bar does not appear empty first.
    this.#drawBar();
    this.#drawTexts();
  }

  /** Loads and adds the buttons. @param {string} job */
  async #addActions(job) {
    const stops = this.#stops;
    const { mountActions } = await load(() => import('./element-actions.js')).catch(() => ({ mountActions: null }));
    if (stops !== this.#stops) return;
    if (mountActions === null) {
      // The gateway is unavailable. Try again until it answers.
      const timer = setTimeout(() => void this.#addActions(job), 2000);
      stops.push(() => clearTimeout(timer));
      return;
    }
    stops.push(mountActions(this.#nodes, job, this.getAttribute('gateway') ?? undefined));
  }

  /** Stops watching, and forgets the state. */
  #unwatch() {
    for (const stop of this.#stops) stop();
    this.#stops = [];
    this.#connection = null;
    this.#watched = this.#drawn = this.#view = null;
    this.#reached = 0;
  }

  /** Handles a new state. @param {Watched | null} watched */
  #onWatched(watched) {
    const before = this.#watched;
    const sameAttempt = isSameAttempt(before, watched);
    this.#watched = watched;
    this.#reached = Math.max(sameAttempt ? this.#reached : 0, percentOf(watched?.state ?? null, 0) ?? 0);
    inNextFrame(this.#drawBarSoon);
    if (sameAttempt && lookOf(watched?.state ?? null) === lookOf(before?.state ?? null)) inLaterFrame(this.#drawTextsSoon);
    else inNextFrame(this.#drawTextsSoon);
  }

  /** Returns an observer of the connection that redraws the texts if the state has changed, but not for each ping. */
  #stateObserver() {
    let previous = '';
    return (/** @type {import('./connection-status.js').ConnectionStatus} */ { state }) => {
      if (state !== previous) inNextFrame(this.#drawTextsSoon);
      previous = state;
    };
  }

  /** Draws the bar, with a transition if that is useful. */
  #drawBar() {
    if (this.#connection === null) return;
    const { bar, frame, track } = this.#nodes;
    const watched = this.#watched;
    const state = watched?.state ?? null;
    const percent = percentOf(state, this.#reached);
    const indeterminate = percent === null && lookOf(state) === 'running';
    track.classList.toggle('indeterminate', indeterminate);
    const width = indeterminate ? '' : `${percent ?? 0}%`;
    if (bar.style.width !== width) {
      const now = performance.now();
      const fast = now - this.#movedAt < FAST_UPDATE;
      // The first value is shown without a transition.
      bar.classList.toggle('smooth', !fast && !indeterminate && isSameAttempt(this.#drawn, watched));
      frame.classList.toggle('fast', fast);
      bar.style.width = width;
      this.#movedAt = now;
    }
    this.#drawn = watched;
  }

  /** Draws everything except the bar. */
  #drawTexts() {
    const connection = this.#connection;
    if (connection === null) return;
    const watched = this.#watched;
    const before = this.#view;
    const view = describe(watched, connection.now(), this.#reached);
    const job = this.getAttribute('job') ?? '';
    const stale = !isOver(view.look) && view.look !== 'denied' && connection.isStale(job);
    const { frame, name, icon, track, dot, announcement } = this.#nodes;

    setAttribute(this, 'look', view.look);
    this.toggleAttribute('stale', stale);
    if (performance.now() - this.#movedAt > SLOW_UPDATE) frame.classList.remove('fast');
    frame.classList.toggle('loading', watched === null);
    frame.classList.toggle('no-text', view.phase === '' && view.message === '' && view.error === '');
    if (icon.dataset['look'] !== view.look) {
      icon.dataset['look'] = view.look;
      icon.replaceChildren(...drawIcon(view.look));
    }
    const { words, tag } = currentLanguage();
    setAttribute(frame, 'lang', tag);
    if (stale) {
      const { state, stopped, reconnects, node } = connection.status();
      const connected = state === 'live' || state === 'stale';
      view.time = stopped ? words.notConnected : connected ? words.outOfDate : node === null && reconnects === 0 ? words.connecting : words.reconnecting;
      view.valueText += `, ${view.time}`;
    }
    for (const part of TEXT_PARTS) setText(this.#nodes[part], view[part]);
    const single = view.phase === '' || view.message === '';
    if (dot.hidden !== single) dot.hidden = single;
    const label = this.getAttribute('label') ?? job;
    setText(name, label);
    setAttribute(name, 'title', job);
    setAttribute(track, 'aria-label', label);
    this.#setValueText(view, before);
    // A screen reader announces the end once. The text is cleared when another attempt begins.
    if (before === null || !isOver(view.look)) setText(announcement, '');
    else if (!isOver(before.look)) setText(announcement, `${label}: ${view.valueText}`);
    this.#view = watched === null ? null : view;
  }

  /**
   * Sets the text for a screen reader. While a job is active, the text changes at most once a second.
   * @param {View} view @param {View | null} before
   */
  #setValueText(view, before) {
    const { track } = this.#nodes;
    const now = performance.now();
    if (before !== null && before.look === view.look && now - this.#valueTextAt < VALUE_TEXT_INTERVAL) return; // `everySecond` calls this again
    // A random offset, so that not all bars of a page change in the same frame.
    this.#valueTextAt = before === null ? now - Math.random() * VALUE_TEXT_INTERVAL : now;
    setAttribute(track, 'aria-valuetext', view.valueText);
    if (view.percent === null) track.removeAttribute('aria-valuenow');
    else setAttribute(track, 'aria-valuenow', String(Math.floor(view.percent)));
  }
}

globalThis.customElements?.get('job-progress') ??
  globalThis.customElements?.define('job-progress', JobProgressElement);
