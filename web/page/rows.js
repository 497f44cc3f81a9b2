/**
 * The rows of the page: one for each job. A row moves only when the order changes, with an
 * animation. Only visible rows have a bar, and watch their job; the others only have a name and the
 * same height.
 */

import { isOver } from '../src/state.js';
import { ago, passed } from '../src/view.js';
import { drawGroup } from './group-row.js';
import { t } from './words.js';

/** @import { Known } from './known-jobs.js' */

/**
 * @typedef {object} Row
 * @property {HTMLLIElement} item
 * @property {HTMLAnchorElement} link
 * @property {HTMLTimeElement | null} time  null: not visible
 * @property {Known} known
 */

/** The distance from the visible area within which rows are prepared. */
const MARGIN = 600;

export class Rows {
  /** @type {Map<string, Row>} */
  #rows = new Map();
  /** @type {Set<Row>} */
  #visible = new Set();
  /** @type {WeakMap<Element, Row>} */
  #rowOf = new WeakMap();
  #calm = matchMedia('(prefers-reduced-motion: reduce)');
  #sight = new IntersectionObserver((entries) => this.#onIntersection(entries), { rootMargin: `${MARGIN}px` });
  #watch;

  /**
   * @param {(job: string) => () => void} watch  watches a job whose row is visible; returns a function to stop
   */
  constructor(watch) {
    this.#watch = watch;
  }

  /**
   * Show these jobs, in this order, in these lists.
   * @param {Array<[list: Element, jobs: Known[]]>} lists
   */
  show(lists) {
    for (const [, jobs] of lists) {
      for (const known of jobs) {
        const row = this.#rows.get(known.seen.job);
        if (row !== undefined) row.known = known;
      }
    }
    if (lists.every(([list, jobs]) => this.#inOrder(list, jobs))) return;
    const first = this.#rows.size === 0;
    const before = this.#positions();
    const wanted = new Set(lists.flatMap(([, jobs]) => jobs.map(({ seen }) => seen.job)));
    for (const [job, row] of this.#rows) if (!wanted.has(job)) this.#drop(job, row);
    for (const [list, jobs] of lists) {
      let at = list.firstElementChild;
      for (const known of jobs) {
        const { item } = this.#row(known);
        if (item === at) at = at.nextElementSibling;
        else list.insertBefore(item, at);
      }
    }
    if (!first && !this.#calm.matches) this.#move(before);
  }

  /**
   * How long a job has been running, or how long ago it ended.
   * @param {number} now
   */
  showTimes(now) {
    for (const { item, known, time } of this.#visible) {
      if (time === null) continue;
      drawGroup(item, known.seen.job, known.state);
      const { state } = known;
      const isEnded = isOver(known.look);
      const end = state.finished_at ?? state.updated_at ?? now;
      const since = state.started_at ?? state.created_at ?? now;
      const text = isEnded ? ago(now - end) : passed(now - since);
      if (time.textContent === text) continue;
      time.textContent = text;
      const moment = new Date((isEnded ? end : since) * 1000);
      time.dateTime = moment.toISOString();
      time.title = t(isEnded ? 'ended {time}' : 'since {time}', { time: moment.toLocaleString(document.documentElement.lang) });
    }
  }

  /** @param {Known} known */
  #row(known) {
    const { job } = known.seen;
    let row = this.#rows.get(job);
    if (row === undefined) {
      const item = document.createElement('li');
      const link = document.createElement('a');
      item.className = 'row';
      link.className = 'open';
      link.href = `?job=${encodeURIComponent(job)}`;
      link.dataset['job'] = job;
      link.textContent = job;
      item.append(link);
      row = { item, link, time: null, known };
      this.#rows.set(job, row);
      this.#rowOf.set(item, row);
      this.#sight.observe(item);
    }
    return row;
  }

  /** @param {string} job @param {Row} row */
  #drop(job, row) {
    this.#sight.unobserve(row.item);
    this.#leave(row);
    row.item.remove();
    this.#rows.delete(job);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #onIntersection(entries) {
    for (const { target, isIntersecting, boundingClientRect } of entries) {
      const row = this.#rowOf.get(target);
      if (row === undefined || !row.item.isConnected) continue;
      if (isIntersecting) this.#enter(row);
      else if (row.time !== null && !isNear(row.item)) {
        row.item.style.height = `${boundingClientRect.height}px`;
        this.#leave(row);
      }
    }
  }

  /** @param {Row} row */
  #enter(row) {
    if (row.time !== null) return;
    const { job } = row.known.seen;
    const bar = document.createElement('job-progress');
    const time = document.createElement('time');
    bar.setAttribute('job', job);
    bar.setAttribute('actions', '');
    time.slot = 'aside';
    bar.append(time);
    row.time = time;
    row.item.style.height = '';
    row.item.classList.add('near');
    row.link.textContent = '';
    row.link.setAttribute('aria-label', t('Details of {job}', { job }));
    this.#visible.add(row);
    // before the bar is created, so that it has the state of the list
    this.#leaves.set(row, this.#watch(job));
    row.item.append(bar);
  }

  /** @param {Row} row */
  #leave(row) {
    if (row.time === null) return;
    row.time = null;
    this.#visible.delete(row);
    row.item.classList.remove('near');
    this.#leaves.get(row)?.();
    row.link.textContent = row.known.seen.job;
    row.link.removeAttribute('aria-label');
    row.item.replaceChildren(row.link);
  }

  /** @type {WeakMap<Row, () => void>} */
  #leaves = new WeakMap();

  /** @param {Element} list @param {Known[]} jobs */
  #inOrder(list, jobs) {
    let at = list.firstElementChild;
    for (const { seen } of jobs) {
      if (at === null || this.#rows.get(seen.job)?.item !== at) return false;
      at = at.nextElementSibling;
    }
    return at === null;
  }

  /** The positions of the visible rows. @returns {Map<Row, number>} */
  #positions() {
    return new Map(Array.from(this.#visible, (row) => [row, row.item.getBoundingClientRect().top]));
  }

  /** @param {Map<Row, number>} before */
  #move(before) {
    for (const [row, top] of this.#positions()) {
      const from = before.get(row);
      if (from !== undefined && from !== top && Math.abs(from - top) < 2 * innerHeight) {
        const transform = [`translateY(${from - top}px)`, 'none'];
        row.item.animate({ transform }, { duration: 260, easing: 'cubic-bezier(.2, .8, .2, 1)' });
      }
    }
  }
}

/** For one frame a moved row is reported as not visible, wherever it is. @param {Element} item */
function isNear(item) {
  const { top, bottom } = item.getBoundingClientRect();
  return bottom > -MARGIN && top < innerHeight + MARGIN;
}
