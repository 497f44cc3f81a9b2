/**
 * A group's row: how many children it has in which status, and a button that opens it to them:
 * active ones first, then those that failed, then the others that ended last.
 */

import '../src/job-list.js';
import { t } from './words.js';

/** @import { State } from '../src/protocol.js' */

/** The parts of the list of children, and the maximum number of rows in each. */
const LISTS = /** @type {const} */ ([
  ['queued,running', 50],
  ['failed', 50],
  ['succeeded,cancelled', 10],
]);
const COUNTED = /** @type {const} */ (['running', 'queued', 'failed', 'cancelled', 'succeeded']);

/** The groups that the user has opened. They stay open while they are out of sight. @type {Set<string>} */
const opened = new Set();

/**
 * Update the row of a group. Does nothing for a job that is not a group.
 * @param {HTMLElement} item @param {string} job @param {State} state
 */
export function drawGroup(item, job, { children }) {
  if (children === undefined) return;
  let button = /** @type {HTMLButtonElement | null} */ (item.querySelector(':scope > .toggle'));
  if (button === null) {
    button = document.createElement('button');
    button.type = 'button';
    button.className = 'toggle';
    button.addEventListener('click', () => {
      if (!opened.delete(job)) opened.add(job);
      open(item, job);
    });
    item.append(button);
    open(item, job);
  }
  const counts = COUNTED.filter((status) => children[status] > 0).map((status) => t(`{n} ${status}`, { n: children[status] }));
  const text = counts.join(' · ') || t('No children yet');
  if (button.textContent === text) return;
  button.textContent = text;
  button.setAttribute('aria-label', t('Children of {job}: {text}', { job, text }));
}

/**
 * Whether a job is below a group that the page shows; then it is shown in the row of the group.
 * @param {string} job @param {(job: string) => State | undefined} stateOf
 */
export function isBelowGroup(job, stateOf) {
  for (let at = job.lastIndexOf('/'); at > 0; at = job.lastIndexOf('/', at - 1)) {
    if (stateOf(job.slice(0, at))?.children !== undefined) return true;
  }
  return false;
}

/** @param {HTMLElement} item @param {string} job */
function open(item, job) {
  const wanted = opened.has(job);
  item.querySelector(':scope > .toggle')?.setAttribute('aria-expanded', String(wanted));
  const shown = item.querySelector(':scope > .children');
  if (!wanted) return shown?.remove();
  if (shown !== null) return;
  const box = document.createElement('div');
  box.className = 'children';
  box.setAttribute('role', 'group');
  box.setAttribute('aria-label', t('Children of {job}', { job }));
  for (const [statuses, limit] of LISTS) {
    const list = document.createElement('job-list');
    list.setAttribute('prefix', `${job}/`);
    list.setAttribute('statuses', statuses);
    list.setAttribute('limit', String(limit));
    list.setAttribute('actions', '');
    box.append(list);
  }
  item.append(box);
}
