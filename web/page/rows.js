/**
 * The rows of the page: one for each job. A row moves only when the order changes, with an animation. Only
 * visible rows have a bar, and watch their jobs; the others have only a name and the same height.
 */

import { isOver } from '../src/job-state.js';
import { ago, roundedElapsed } from '../src/view.js';
import { drawGroup } from './group-row.js';
import { t } from './translations.js';

/** @import { KnownJob } from './known-jobs.js' */

/**
 * @typedef {object} Row
 * @property {HTMLLIElement} item
 * @property {HTMLAnchorElement} link
 * @property {HTMLTimeElement | null} time  null: the row is not visible
 * @property {KnownJob} knownJob
 */

/** Pixels above and below the window in which a row counts as visible. */
const VISIBLE_MARGIN = 600;

export class Rows {
  /** @type {Map<string, Row>} */
  #rows = new Map();
  /** @type {Set<Row>} */
  #visible = new Set();
  /** @type {WeakMap<Element, Row>} */
  #rowOf = new WeakMap();
  #reducedMotion = matchMedia('(prefers-reduced-motion: reduce)');
  #visibility = new IntersectionObserver((entries) => this.#onIntersection(entries), { rootMargin: `${VISIBLE_MARGIN}px` });
  /** The functions that stop watching the jobs of visible rows. @type {WeakMap<Row, () => void>} */
  #stops = new WeakMap();
  #watch;

  /**
   * @param {(job: string) => () => void} watch  watches a job whose row is visible; returns a function to stop
   */
  constructor(watch) {
    this.#watch = watch;
  }

  /**
   * Shows these jobs, in this order, in these lists.
   * @param {Array<[list: Element, jobs: KnownJob[]]>} lists
   */
  show(lists) {
    for (const [, jobs] of lists) {
      for (const knownJob of jobs) {
        const row = this.#rows.get(knownJob.jobState.job);
        if (row !== undefined) row.knownJob = knownJob;
      }
    }
    if (lists.every(([list, jobs]) => this.#inOrder(list, jobs))) return;
    const isFirstDraw = this.#rows.size === 0;
    const positions = this.#positions();
    const listedJobs = new Set(lists.flatMap(([, jobs]) => jobs.map(({ jobState }) => jobState.job)));
    for (const [job, row] of this.#rows) if (!listedJobs.has(job)) this.#remove(job, row);
    for (const [list, jobs] of lists) {
      let next = list.firstElementChild;
      for (const knownJob of jobs) {
        const { item } = this.#row(knownJob);
        if (item === next) next = next.nextElementSibling;
        else list.insertBefore(item, next);
      }
    }
    if (!isFirstDraw && !this.#reducedMotion.matches) this.#animateMoves(positions);
  }

  /**
   * Updates the times: how long a job has been running, or how long ago it ended.
   * @param {number} now  Unix seconds
   */
  showTimes(now) {
    for (const { item, knownJob, time } of this.#visible) {
      if (time === null) continue;
      drawGroup(item, knownJob.jobState.job, knownJob.state);
      const { state } = knownJob;
      const isEnded = isOver(knownJob.look);
      const end = state.finished_at ?? state.updated_at ?? now;
      const since = state.started_at ?? state.created_at ?? now;
      // In the first second there would be "less than 1 s", which is wider and moves the buttons beside it.
      const text = isEnded ? ago(now - end) : roundedElapsed(Math.max(1, now - since));
      if (time.textContent === text) continue;
      time.textContent = text;
      const moment = new Date((isEnded ? end : since) * 1000);
      time.dateTime = moment.toISOString();
      time.title = t(isEnded ? 'ended {time}' : 'since {time}', { time: moment.toLocaleString(document.documentElement.lang) });
    }
  }

  /** Returns the row of a job, which is created the first time. @param {KnownJob} knownJob */
  #row(knownJob) {
    const { job } = knownJob.jobState;
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
      row = { item, link, time: null, knownJob };
      this.#rows.set(job, row);
      this.#rowOf.set(item, row);
      this.#visibility.observe(item);
    }
    return row;
  }

  /** Removes the row of a job. @param {string} job @param {Row} row */
  #remove(job, row) {
    this.#visibility.unobserve(row.item);
    this.#hide(row);
    row.item.remove();
    this.#rows.delete(job);
  }

  /** Handles rows that have become visible or not visible. @param {IntersectionObserverEntry[]} entries */
  #onIntersection(entries) {
    for (const { target, isIntersecting, boundingClientRect } of entries) {
      const row = this.#rowOf.get(target);
      if (row === undefined || !row.item.isConnected) continue;
      if (isIntersecting) this.#reveal(row);
      else if (row.time !== null && !isNear(row.item)) {
        row.item.style.height = `${boundingClientRect.height}px`;
        this.#hide(row);
      }
    }
  }

  /** Adds the bar of a row that has become visible. @param {Row} row */
  #reveal(row) {
    if (row.time !== null) return;
    const { job } = row.knownJob.jobState;
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
    // Before the bar is created, so that it has the state of the list.
    this.#stops.set(row, this.#watch(job));
    row.item.append(bar);
  }

  /** Removes the bar of a row that is no longer visible. @param {Row} row */
  #hide(row) {
    if (row.time === null) return;
    row.time = null;
    this.#visible.delete(row);
    row.item.classList.remove('near');
    this.#stops.get(row)?.();
    row.link.textContent = row.knownJob.jobState.job;
    row.link.removeAttribute('aria-label');
    row.item.replaceChildren(row.link);
  }

  /** Returns whether a list has these jobs in this order. @param {Element} list @param {KnownJob[]} jobs */
  #inOrder(list, jobs) {
    let next = list.firstElementChild;
    for (const { jobState } of jobs) {
      if (next === null || this.#rows.get(jobState.job)?.item !== next) return false;
      next = next.nextElementSibling;
    }
    return next === null;
  }

  /** Returns the positions of the visible rows. @returns {Map<Row, number>} */
  #positions() {
    return new Map(Array.from(this.#visible, (row) => [row, row.item.getBoundingClientRect().top]));
  }

  /** Animates the visible rows from their earlier positions. @param {Map<Row, number>} positions */
  #animateMoves(positions) {
    for (const [row, top] of this.#positions()) {
      const previousTop = positions.get(row);
      if (previousTop !== undefined && previousTop !== top && Math.abs(previousTop - top) < 2 * innerHeight) {
        const transform = [`translateY(${previousTop - top}px)`, 'none'];
        row.item.animate({ transform }, { duration: 260, easing: 'cubic-bezier(.2, .8, .2, 1)' });
      }
    }
  }
}

/** Returns whether a row is visible. For one frame the observer reports a moved row as not visible, wherever it is. @param {Element} item */
function isNear(item) {
  const { top, bottom } = item.getBoundingClientRect();
  return bottom > -VISIBLE_MARGIN && top < innerHeight + VISIBLE_MARGIN;
}
