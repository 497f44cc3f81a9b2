/**
 * `<job-progress job="video:42">`: a live bar for one job. It holds no truth of
 * its own: it draws what `view.js` says of what the connection last heard, at
 * most once a frame. Whatever comes from a worker is set as text, never as HTML.
 *
 * Attributes: `job`; `label` (shown instead of the job id); `gateway` (URL of
 * another gateway's `/ws`). It reflects `look` (see `view.js`) and `stale` for
 * style sheets. Content with `slot="aside"` stands at the end of the first line.
 */

import { elementStyle } from './element-style.js';
import { drawIcon, iconFrame } from './icons.js';
import { continues, isStale } from './progress.js';
import { connect } from './shared.js';
import { everySecond, soon } from './ticker.js';
import { describe } from './view.js';

/** @import { Connection } from './connection.js' */
/** @import { Watched } from './jobs.js' */
/** @import { View } from './view.js' */

/** Where there is no DOM (a server that renders, a test), importing must still work. */
const Base = globalThis.HTMLElement ?? class {};

/** Milliseconds: of a bar that is moved more often than this, the steps themselves are the movement. */
const HURRIED = 200;

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

const LINES = /** @type {const} */ ([
  'name', 'attempt', 'figure', 'phase', 'message', 'error', 'amount', 'time',
]);

export class JobProgressElement extends Base {
  static observedAttributes = ['job', 'label', 'gateway'];

  #nodes = build(this.attachShadow({ mode: 'open' }));
  /** @type {Connection | null} */
  #connection = null;
  /** @type {Watched | null} */
  #watched = null;
  /** What was painted last; null: nothing yet of this job. @type {{ view: View, watched: Watched } | null} */
  #painted = null;
  #movedAt = -Infinity;
  /** @type {Array<() => void>} */
  #leave = [];
  #paint = () => this.#draw();

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
    if (name === 'label') return soon(this.#paint);
    this.#exit();
    this.#enter();
  }

  #enter() {
    const job = this.getAttribute('job');
    if (job === null || job === '') return;
    const connection = connect(this.getAttribute('gateway') ?? undefined);
    this.#connection = connection;
    this.#leave = [
      connection.watch(job, (watched) => {
        this.#watched = watched;
        soon(this.#paint);
      }),
      connection.observe(this.#paintOnChange()),
      everySecond(this.#paint),
    ];
    // What is known already is painted now: a bar must not appear empty and fill later.
    this.#draw();
  }

  #exit() {
    for (const leave of this.#leave) leave();
    this.#leave = [];
    this.#connection = null;
    this.#watched = null;
    this.#painted = null;
  }

  /** Only a change between live and not live shows; pings and counters don't. */
  #paintOnChange() {
    let was = '';
    return (/** @type {import('./connection.js').ConnectionStatus} */ { state }) => {
      if (state !== was) soon(this.#paint);
      was = state;
    };
  }

  #draw() {
    const connection = this.#connection;
    if (connection === null) return;
    const watched = this.#watched;
    const before = this.#painted;
    const step = before !== null && continues(watched, before.watched);
    // Within an attempt a bar never goes back, whatever arrives.
    const view = describe(watched, connection.now(), step ? (before.view.percent ?? 0) : 0);
    const stale = isOld(connection, view);
    const { frame, name, time, icon } = this.#nodes;

    set(this, 'look', view.look);
    this.toggleAttribute('stale', stale);
    frame.classList.toggle('quiet', watched === null);
    if (icon.dataset['look'] !== view.look) {
      icon.dataset['look'] = view.look;
      icon.replaceChildren(...drawIcon(view.look));
    }
    for (const line of LINES) {
      if (line !== 'name') write(this.#nodes[line], view[line]);
    }
    write(name, this.getAttribute('label') ?? this.getAttribute('job') ?? '');
    name.title = this.getAttribute('job') ?? '';
    if (stale) {
      const { state, stopped } = connection.status();
      const why = stopped ? 'not connected' : state === 'stale' ? 'may be out of date' : 'reconnecting…';
      write(time, why);
      view.valueText += `, ${why}`;
    }

    frame.classList.toggle('silent', view.phase === '' && view.message === '' && view.error === '');
    this.#drawBar(view, step);
    // Said once, when it happens; what is no longer true must not stay there to be read.
    if (before === null || !isOver(view)) write(this.#nodes.live, '');
    else if (!isOver(before.view)) write(this.#nodes.live, `${name.textContent}: ${view.valueText}`);
    this.#painted = watched === null ? null : { view, watched };
  }

  /** @param {View} view @param {boolean} step whether it continues what was painted before */
  #drawBar(view, step) {
    const { track, bar, name } = this.#nodes;
    const wander = view.look === 'running' && view.percent === null;
    bar.classList.toggle('wander', wander);
    const place = wander ? '' : `translateX(${(view.percent ?? 0) - 100}%)`;
    if (bar.style.transform !== place) {
      const now = performance.now();
      // No transition into the first value: it is a fact, not a movement.
      bar.classList.toggle('smooth', step && !wander && now - this.#movedAt > HURRIED);
      bar.style.transform = place;
      this.#movedAt = now;
    }
    set(track, 'aria-label', name.textContent ?? '');
    set(track, 'aria-valuetext', view.valueText);
    if (view.percent === null) track.removeAttribute('aria-valuenow');
    else set(track, 'aria-valuenow', String(Math.floor(view.percent)));
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

/** @param {ShadowRoot} root */
function build(root) {
  root.adoptedStyleSheets = [elementStyle()];
  const icon = iconFrame();
  icon.setAttribute('class', 'icon');
  icon.setAttribute('part', 'icon');
  const part = (/** @type {string} */ name) => make('span', name);
  const nodes = {
    rule: box('rule'),
    frame: box('box'),
    icon,
    name: part('name'),
    attempt: part('attempt'),
    figure: part('figure'),
    track: make('div', 'track'),
    bar: make('div', 'bar'),
    phase: part('phase'),
    message: part('message'),
    error: part('error'),
    amount: part('amount'),
    time: part('time'),
    live: make('span', 'hidden'),
  };
  set(nodes.track, 'role', 'progressbar');
  set(nodes.track, 'aria-valuemin', '0');
  set(nodes.track, 'aria-valuemax', '100');
  set(nodes.live, 'role', 'status');
  nodes.track.append(nodes.bar);
  const aside = document.createElement('slot');
  aside.name = 'aside';
  const main = make('div', 'main');
  main.append(
    box('head', nodes.name, nodes.attempt, nodes.figure, aside),
    nodes.track,
    box('foot', box('story', nodes.phase, nodes.message, nodes.error), box('facts', nodes.amount, nodes.time)),
  );
  nodes.frame.append(icon, main);
  root.append(nodes.rule, nodes.frame, nodes.live);
  return nodes;
}

/** @param {string} tag @param {string} name */
function make(tag, name) {
  const node = document.createElement(tag);
  node.className = name;
  node.setAttribute('part', name);
  return node;
}

/** @param {string} name @param {...Node} children */
function box(name, ...children) {
  const node = document.createElement('div');
  node.className = name;
  node.append(...children);
  return node;
}

/** @param {HTMLElement} node @param {string} text */
function write(node, text) {
  const { firstChild } = node;
  // The text of a node that is there already: no style depends on it.
  if (firstChild === null) node.textContent = text;
  else if (firstChild.nodeValue !== text) firstChild.nodeValue = text;
}

/** @param {Element} node @param {string} name @param {string} value */
function set(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

globalThis.customElements?.get('job-progress') ??
  globalThis.customElements?.define('job-progress', JobProgressElement);
