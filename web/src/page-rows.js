/**
 * The rows of one list of the page: made once for each job, moved only when the
 * order changes, and then seen to move, so that the eye can follow.
 */

import { ago, passed } from './view.js';

/** @import { Known } from './page-jobs.js' */

/** @typedef {{ item: HTMLLIElement, time: HTMLTimeElement }} Row */

export class Rows {
  /** @type {Map<string, Row>} */
  #rows = new Map();
  #calm = matchMedia('(prefers-reduced-motion: reduce)');

  /**
   * Show these jobs, in this order, spread over these lists.
   * @param {Array<[list: Element, jobs: Known[]]>} lists
   */
  show(lists) {
    const wanted = new Set(lists.flatMap(([, jobs]) => jobs.map(({ seen }) => seen.job)));
    if (lists.every(([list, jobs]) => inOrder(list, jobs))) return;
    const first = this.#rows.size === 0;
    const before = first ? new Map() : this.#tops();
    for (const [job, { item }] of this.#rows) {
      if (wanted.has(job)) continue;
      item.remove();
      this.#rows.delete(job);
    }
    for (const [list, jobs] of lists) {
      jobs.forEach(({ seen }, index) => {
        const { item } = this.#row(seen.job);
        if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
      });
    }
    if (!first && !this.#calm.matches) this.#move(before);
  }

  /**
   * How long a job has been running, or how long ago it ended.
   * @param {Known[]} jobs
   * @param {number} now
   */
  tell(jobs, now) {
    for (const { seen, state, overSince } of jobs) {
      const time = this.#rows.get(seen.job)?.time;
      if (time === undefined) continue;
      const end = state.finished_at ?? state.updated_at ?? now;
      const since = state.started_at ?? state.created_at ?? now;
      const text = overSince === null ? passed(now - since) : ago(now - end);
      if (time.textContent === text) continue;
      time.textContent = text;
      const moment = new Date((overSince === null ? since : end) * 1000);
      time.dateTime = moment.toISOString();
      time.title = `${overSince === null ? 'since' : 'ended'} ${moment.toLocaleString()}`;
    }
  }

  /** @param {string} job */
  #row(job) {
    let row = this.#rows.get(job);
    if (row === undefined) {
      const item = document.createElement('li');
      item.className = 'row';
      item.dataset['job'] = job;
      const bar = document.createElement('job-progress');
      bar.setAttribute('job', job);
      const time = document.createElement('time');
      time.slot = 'aside';
      bar.append(time);
      item.append(bar);
      row = { item, time };
      this.#rows.set(job, row);
    }
    return row;
  }

  /** @returns {Map<string, number>} */
  #tops() {
    return new Map(Array.from(this.#rows, ([job, { item }]) => [job, item.getBoundingClientRect().top]));
  }

  /** @param {Map<string, number>} before */
  #move(before) {
    for (const [job, top] of this.#tops()) {
      const item = this.#rows.get(job)?.item;
      const from = before.get(job);
      if (from === undefined) {
        item?.animate({ opacity: [0, 1] }, { duration: 240, easing: 'ease-out' });
      } else if (from !== top && Math.abs(from - top) < 2 * innerHeight) {
        const transform = [`translateY(${from - top}px)`, 'none'];
        item?.animate({ transform }, { duration: 260, easing: 'cubic-bezier(.2, .8, .2, 1)' });
      }
    }
  }
}

/** @param {Element} list @param {Known[]} jobs */
function inOrder(list, jobs) {
  return (
    list.children.length === jobs.length &&
    jobs.every(({ seen }, i) => /** @type {HTMLElement} */ (list.children[i]).dataset['job'] === seen.job)
  );
}
