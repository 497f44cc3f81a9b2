/**
 * The page at `/`: which jobs there are, by asking the API every two seconds;
 * how they stand, by watching each over the one connection. The filter lives in
 * the address, so that a refresh, or a colleague, sees the same.
 */

import { connect } from './client.js';
import { KnownJobs, MOST } from './page-jobs.js';
import { showConnection } from './page-panel.js';
import { Rows } from './page-rows.js';
import { paintEverySecond, paintSoon } from './ticker.js';

/** @import { Filter, Seen } from './page-jobs.js' */

const POLL_EVERY = 2_000;
const POLL_DEADLINE = 10_000;
/** One question for a word typed, not one for each letter. */
const TYPING = 120;
const PAGE = 50;

const connection = connect();
const known = new KnownJobs();
const rows = new Rows();
/** @type {Map<string, () => void>} */
const watching = new Map();

/** @type {Filter} */
let filter = { prefix: '', status: '' };
let limit = PAGE;
/** Where the next page starts; null: there is none; undefined: nobody asked yet. @type {string | null | undefined} */
let next;
/** Counts the filters, so that an answer to an older one is not taken for this one's. */
let question = 0;
/** @type {string | null} */
let trouble = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let pollTimer;

/** @param {string} id */
function find(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

const tools = /** @type {HTMLFormElement} */ (find('tools'));
const prefixInput = /** @type {HTMLInputElement} */ (find('prefix'));

// -- which jobs there are ----------------------------------------------------

/**
 * @param {string | null} after
 * @returns {Promise<{ jobs: Seen[], next: string | null }>}
 */
async function list(after) {
  const url = new URL('api/jobs', import.meta.url);
  // `stalled` is a matter of health: the API filters by status alone.
  const status = filter.status === 'stalled' ? 'running' : filter.status;
  const query = { prefix: filter.prefix, status, limit: String(PAGE), after };
  for (const [name, value] of Object.entries(query)) if (value) url.searchParams.set(name, value);
  const response = await fetch(url, { signal: AbortSignal.timeout(POLL_DEADLINE) });
  if (!response.ok) throw new Error(`It answered ${response.status} ${response.statusText}.`);
  return response.json();
}

/** @param {Seen[]} jobs */
function take(jobs) {
  for (const seen of jobs) known.learn(seen, connection.now());
  for (const job of known.prune()) unwatch(job);
  for (const job of known.jobs()) watch(job);
  paintSoon(paint);
}

async function poll() {
  clearTimeout(pollTimer);
  const asked = question;
  try {
    const answer = await list(null);
    if (asked !== question) return;
    trouble = null;
    // Later pages are older: their end is where "more" goes on.
    if (next === undefined || limit === PAGE) next = answer.next;
    take(answer.jobs);
    if (answer.next === null) forgetUnlisted(new Set(answer.jobs.map(({ job }) => job)));
  } catch (error) {
    if (asked !== question) return;
    trouble = error instanceof Error ? error.message : String(error);
    paintSoon(paint);
  }
  if (document.visibilityState === 'visible') pollSoon(POLL_EVERY);
}

/** @param {number} wait */
function pollSoon(wait) {
  clearTimeout(pollTimer);
  pollTimer = setTimeout(poll, wait);
}

async function more() {
  if (typeof next !== 'string') return;
  const asked = question;
  const button = /** @type {HTMLButtonElement} */ (find('more'));
  button.disabled = true;
  try {
    const answer = await list(next);
    if (asked !== question) return;
    limit += PAGE;
    next = answer.next;
    take(answer.jobs);
  } catch {
    // The button stays, and the connection's state says what is wrong.
  } finally {
    button.disabled = false;
  }
}

/**
 * The whole list is here, and some jobs are not in it: the gateway forgot them,
 * or began anew. The connection knows which.
 * @param {Set<string>} listed
 */
function forgetUnlisted(listed) {
  for (const job of known.jobs()) {
    if (!listed.has(job) && connection.peek(job)?.state === null) {
      known.forget(job);
      unwatch(job);
    }
  }
}

/** @param {string} job */
function watch(job) {
  if (watching.has(job)) return;
  watching.set(job, () => {});
  const leave = connection.watch(job, (watched) => {
    // Before its snapshot a refused job says nothing; the list's word stands.
    if (watched.denied === null && watched.state !== null && known.learn(watched, connection.now())) paintSoon(paint);
  });
  watching.set(job, leave);
}

/** @param {string} job */
function unwatch(job) {
  watching.get(job)?.();
  watching.delete(job);
}

// -- what is shown -----------------------------------------------------------

function paint() {
  const now = connection.now();
  const { active, earlier } = known.arrange(filter, now, limit);
  rows.show([
    [/** @type {Element} */ (find('active').querySelector('.list')), active],
    [/** @type {Element} */ (find('earlier').querySelector('.list')), earlier],
  ]);
  rows.tell([...active, ...earlier], now);

  const filtered = filter.prefix !== '' || filter.status !== '';
  const empty = active.length + earlier.length === 0;
  const asked = next !== undefined;
  find('active').hidden = active.length === 0;
  find('earlier').hidden = earlier.length === 0;
  find('more').hidden = typeof next !== 'string' || limit >= MOST;
  find('none').hidden = !(empty && asked && !filtered);
  find('unmatched').hidden = !(empty && asked && filtered);
  find('unreachable').hidden = !(trouble !== null && !asked);
  find('trouble').textContent = `The list of jobs cannot be had: ${trouble} Trying again every two seconds.`;
  paintCounts();
}

function paintCounts() {
  const counts = known.counts(filter.prefix);
  /** @param {...import('./view.js').Look} looks */
  const count = (...looks) => looks.reduce((sum, look) => sum + (counts.get(look) ?? 0), 0);
  for (const chip of tools.querySelectorAll('.chips input')) {
    const look = /** @type {import('./view.js').Look} */ (/** @type {HTMLInputElement} */ (chip).value);
    const matching = look === 'stalled' ? count('stalled', 'lost') : count(look);
    const figure = chip.parentElement?.querySelector('b');
    if (figure) figure.textContent = matching > 0 ? String(matching) : '';
    chip.nextElementSibling?.classList.toggle('some', matching > 0);
  }
  const running = count('running');
  const said = /** @type {const} */ (['running', 'stalled', 'lost', 'queued'])
    .filter((look) => count(look) > 0)
    .map((look) => `${count(look)} ${look}`)
    .join(' · ');
  find('summary').textContent = said;
  document.title = `${running > 0 ? `${running} running` : 'Jobs'} · progress-gateway`;
}

// -- the filter --------------------------------------------------------------

function readAddress() {
  const query = new URLSearchParams(location.search);
  prefixInput.value = query.get('prefix') ?? '';
  const chosen = query.get('status') ?? '';
  for (const chip of tools.querySelectorAll('.chips input')) {
    const radio = /** @type {HTMLInputElement} */ (chip);
    radio.checked = radio.value === chosen;
  }
}

function readFilter() {
  const form = new FormData(tools);
  filter = { prefix: prefixInput.value.trim(), status: String(form.get('status') ?? '') };
  const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value !== ''));
  history.replaceState(null, '', query.size > 0 ? `?${query}` : location.pathname);
  question += 1;
  limit = PAGE;
  next = undefined;
  paintSoon(paint);
  pollSoon(TYPING);
}

tools.addEventListener('input', readFilter);
tools.addEventListener('submit', (event) => event.preventDefault());
find('more').addEventListener('click', more);
find('reset').addEventListener('click', () => {
  history.replaceState(null, '', location.pathname);
  readAddress();
  readFilter();
  prefixInput.focus();
});
document.addEventListener('keydown', (event) => {
  const typing = event.target instanceof HTMLInputElement && event.target.type === 'search';
  if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    prefixInput.focus();
  }
});
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') void poll();
});

find('origin').textContent = location.origin;
showConnection(connection, find);
paintEverySecond(paint);
readAddress();
readFilter();
void poll();
