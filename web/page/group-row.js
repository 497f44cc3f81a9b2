/**
 * Draws the row of a group: the number of its children in each status, and a button that expands the row to
 * lists of its children: active ones first, then those that failed, then the others that ended last.
 */

import '../src/job-list.js';
import { t } from './translations.js';

/** @import { State } from '../src/protocol.js' */

/** The lists of children, by their statuses, and the maximum number of rows in each. */
const CHILD_LISTS = /** @type {const} */ ([
  ['queued,running', 50],
  ['failed', 50],
  ['succeeded,cancelled', 10],
]);
/** The order in which the button shows the counts. */
const COUNT_ORDER = /** @type {const} */ (['running', 'queued', 'failed', 'cancelled', 'succeeded']);

/** The groups that the user has expanded. They stay expanded while their rows are not visible. @type {Set<string>} */
const expandedGroups = new Set();

/**
 * Updates the row of a group. Does nothing for a job that is not a group.
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
      if (!expandedGroups.delete(job)) expandedGroups.add(job);
      drawChildren(item, job);
    });
    item.append(button);
    drawChildren(item, job);
  }
  const counts = COUNT_ORDER.filter((status) => children[status] > 0).map((status) => t(`{n} ${status}`, { n: children[status] }));
  const text = counts.join(' · ') || t('No children yet');
  if (button.textContent === text) return;
  button.textContent = text;
  button.setAttribute('aria-label', t('Children of {job}: {text}', { job, text }));
}

/**
 * Returns whether a job belongs to a group that the page shows. Such a job is shown in the row of its group.
 * @param {string} job @param {(job: string) => State | undefined} stateOf
 */
export function isBelowGroup(job, stateOf) {
  for (let slash = job.lastIndexOf('/'); slash > 0; slash = job.lastIndexOf('/', slash - 1)) {
    if (stateOf(job.slice(0, slash))?.children !== undefined) return true;
  }
  return false;
}

/** Adds or removes the lists of children, as the user has chosen. @param {HTMLElement} item @param {string} job */
function drawChildren(item, job) {
  const expanded = expandedGroups.has(job);
  item.querySelector(':scope > .toggle')?.setAttribute('aria-expanded', String(expanded));
  const existing = item.querySelector(':scope > .children');
  if (!expanded) return existing?.remove();
  if (existing !== null) return;
  const box = document.createElement('div');
  box.className = 'children';
  box.setAttribute('role', 'group');
  box.setAttribute('aria-label', t('Children of {job}', { job }));
  for (const [statuses, limit] of CHILD_LISTS) {
    const list = document.createElement('job-list');
    list.setAttribute('prefix', `${job}/`);
    list.setAttribute('statuses', statuses);
    list.setAttribute('limit', String(limit));
    list.setAttribute('actions', '');
    box.append(list);
  }
  item.append(box);
}
