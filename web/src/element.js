/**
 * `<job-progress job="video:42">`: a live bar for one job. It holds no truth of
 * its own: it draws what `view.js` says of what the connection last heard. The bar
 * moves with each frame; its words change as often as a person can read them, and
 * at once where the job takes a turn. What a worker says is text, never HTML.
 *
 * Attributes: `job`; `label` (shown instead of the job id); `gateway` (URL of
 * another gateway's `/ws`). It reflects `look` (see `view.js`) and `stale` for
 * style sheets. Content with `slot="aside"` stands at the end of the first line.
 */

import { build, set, write } from './element-nodes.js';
import { drawIcon } from './icons.js';
import { continues, isStale, percentOf } from './progress.js';
import { connect } from './shared.js';
import { calmly, everySecond, soon } from './ticker.js';
import { describe, lookOf } from './view.js';

/** @import { Connection } from './connection.js' */
/** @import { Watched } from './jobs.js' */
/** @import { View } from './view.js' */

/** Where there is no DOM (a server that renders, a test), importing must still work. */
const Base = globalThis.HTMLElement ?? class {};

/** Milliseconds: of a bar that is moved more often than this, the steps themselves are the movement. */
const BRISK = 200;
/** Milliseconds after which such a bar has come to a stand. */
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

const LINES = /** @type {const} */ (['attempt', 'figure', 'phase', 'message', 'error', 'amount', 'time']);

export class JobProgressElement extends Base {
  static observedAttributes = ['job', 'label', 'gateway'];

  #nodes = build(this.attachShadow({ mode: 'open' }));
  /** @type {Connection | null} */
  #connection = null;
  /** What was heard last. @type {Watched | null} */
  #watched = null;
  /** The percentage that this attempt has reached: a bar never goes back, whatever arrives. */
  #reached = 0;
  /** Where the bar stands; null: it has no place yet. @type {Watched | null} */
  #shown = null;
  #movedAt = -Infinity;
  /** What the words say; null: nothing yet of this job. @type {View | null} */
  #said = null;
  /** @type {Array<() => void>} */
  #leave = [];
  #move = () => this.#drawBar();
  #tell = () => this.#drawWords();

  connectedCallback() {
    ruler.observe(this.#nodes.rule);
    this.#enter();
  }

  disconnectedCallback() {
    ruler.unobserve(this.#nodes.rule);
    this.#exit();
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (!this.isConnected || before === after) return;
    if (name === 'label') return soon(this.#tell);
    this.#exit();
    this.#enter();
  }

  #enter() {
    const job = this.getAttribute('job');
    if (job === null || job === '') return;
    const connection = connect(this.getAttribute('gateway') ?? undefined);
    this.#connection = connection;
    this.#leave = [
      connection.watch(job, (watched) => this.#take(watched)),
      connection.observe(this.#tellOfTurns()),
      everySecond(this.#tell),
    ];
    // What is known already is painted now: a bar must not appear empty and fill later.
    this.#drawBar();
    this.#drawWords();
  }

  #exit() {
    for (const leave of this.#leave) leave();
    this.#leave = [];
    this.#connection = null;
    this.#watched = this.#shown = this.#said = null;
    this.#reached = 0;
  }

  /** @param {Watched} watched */
  #take(watched) {
    const before = this.#watched;
    const step = continues(before, watched);
    this.#watched = watched;
    this.#reached = Math.max(step ? this.#reached : 0, watched.state?.percent ?? 0);
    soon(this.#move);
    if (step && lookOf(watched.state) === lookOf(before?.state ?? null)) calmly(this.#tell);
    else soon(this.#tell);
  }

  /** Only a change between live and not live shows; pings and counters don't. */
  #tellOfTurns() {
    let was = '';
    return (/** @type {import('./status.js').ConnectionStatus} */ { state }) => {
      if (state !== was) soon(this.#tell);
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
      // No transition into the first value: it is a fact, not a movement.
      bar.classList.toggle('smooth', !brisk && !wander && continues(this.#shown, watched));
      frame.classList.toggle('brisk', brisk);
      bar.style.width = width;
      this.#movedAt = now;
    }
    this.#shown = watched;
  }

  #drawWords() {
    const connection = this.#connection;
    if (connection === null) return;
    const watched = this.#watched;
    const before = this.#said;
    const view = describe(watched, connection.now(), this.#reached);
    const stale = isOld(connection, view);
    const { frame, name, icon, track, live } = this.#nodes;

    set(this, 'look', view.look);
    this.toggleAttribute('stale', stale);
    if (performance.now() - this.#movedAt > AT_REST) frame.classList.remove('brisk');
    frame.classList.toggle('quiet', watched === null);
    frame.classList.toggle('silent', view.phase === '' && view.message === '' && view.error === '');
    if (icon.dataset['look'] !== view.look) {
      icon.dataset['look'] = view.look;
      icon.replaceChildren(...drawIcon(view.look));
    }
    if (stale) {
      const { state, stopped } = connection.status();
      view.time = stopped ? 'not connected' : state === 'stale' ? 'may be out of date' : 'reconnecting…';
      view.valueText += `, ${view.time}`;
    }
    for (const line of LINES) write(this.#nodes[line], view[line]);
    const job = this.getAttribute('job') ?? '';
    const label = this.getAttribute('label') ?? job;
    write(name, label);
    set(name, 'title', job);
    set(track, 'aria-label', label);
    set(track, 'aria-valuetext', view.valueText);
    if (view.percent === null) track.removeAttribute('aria-valuenow');
    else set(track, 'aria-valuenow', String(Math.floor(view.percent)));
    // Said once, when it happens; what is no longer true must not stay there to be read.
    if (before === null || !isOver(view)) write(live, '');
    else if (!isOver(before)) write(live, `${label}: ${view.valueText}`);
    this.#said = watched === null ? null : view;
  }
}

/** @param {View} view */
function isOver({ final, look }) {
  return final || look === 'lost';
}

/**
 * What has ended is true for ever; what was moving is only true while we hear of it.
 * @param {Connection} connection @param {View} view
 */
function isOld(connection, { look }) {
  return (look === 'running' || look === 'queued' || look === 'stalled') && isStale(connection.status(), Date.now());
}

globalThis.customElements?.get('job-progress') ??
  globalThis.customElements?.define('job-progress', JobProgressElement);
