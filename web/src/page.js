/**
 * The page at `/`: which jobs there are, by asking the API every two seconds
 * (`page-list.js`); how those in sight stand, by watching them over the one
 * connection. What is filtered and looked at is in the address, so that a
 * refresh, or a colleague, sees the same.
 */

import { connect } from './client.js';
import { ABNORMAL } from './line.js';
import { Detail } from './page-detail.js';
import { KnownJobs, MOST } from './page-jobs.js';
import { JobList } from './page-list.js';
import { showConnection } from './page-panel.js';
import { Rows } from './page-rows.js';
import { TokenNeeded, askOnce, storedToken } from './page-token.js';
import { everySecond, soon } from './ticker.js';

/** @import { Seen } from './jobs.js' */
/** @import { Filter } from './page-jobs.js' */

const POLL_EVERY = 2_000;
/** One question for a word typed, not one for each letter. */
const TYPING = 250;
/** What may be in a job id, and so be asked for as the beginning of one. */
const ID_PART = /^[\w.:/@-]{1,200}$/;

const connection = connect(undefined, { token: storedToken });
const known = new KnownJobs();
const list = new JobList(MOST);
const rows = new Rows(follow);
const detail = new Detail(connection, find, () => go({ job: null }));

/** @type {Filter} */
let filter = { search: '', prefix: '', status: '' };
/** Whether the gateway has answered so far. */
let answered = false;
/** @type {string | null} */
let trouble = null;
/** Whether the gateway asks for a token, or for another one. */
let locked = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let pollTimer;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let searchTimer;

/** @param {string} id */
function find(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

const tools = /** @type {HTMLFormElement} */ (find('tools'));
const searchInput = /** @type {HTMLInputElement} */ (find('search'));
const prefixInput = /** @type {HTMLSelectElement} */ (find('prefix'));

// -- which jobs there are ----------------------------------------------------

/** @param {Seen[]} jobs @returns {boolean} whether anything was new */
function take(jobs) {
  const now = connection.now();
  let news = false;
  for (const seen of jobs) {
    if (known.learn(seen, now) === 'old') continue;
    connection.learn(seen);
    news = true;
  }
  known.prune();
  answered = true;
  trouble = null;
  locked = false;
  soon(paint);
  return news;
}

async function poll() {
  clearTimeout(pollTimer);
  try {
    const listed = await list.poll(take);
    if (listed !== null && known.forgetUnlisted(listed)) soon(paint);
    // It answers: if the line was just lost, and not refused, why wait for the next dial?
    if (connection.status().ending?.code === ABNORMAL) connection.retry();
  } catch (error) {
    locked = error instanceof TokenNeeded;
    trouble = error instanceof Error ? error.message : String(error);
    soon(paint);
  }
  if (document.visibilityState === 'visible') pollTimer = setTimeout(poll, POLL_EVERY);
}

/** A job that is in sight: the connection says how it stands. @param {string} job */
function follow(job) {
  const leave = connection.watch(job, (watched) => {
    // Before its snapshot a refused job says nothing; the list's word stands.
    if (watched.denied !== null || watched.state === null) return;
    if (known.learn(watched, connection.now()) === 'moved') soon(paint);
  });
  const seen = known.get(job)?.seen;
  if (seen !== undefined) connection.learn(seen);
  soon(paint); // its time
  return leave;
}

// -- what is shown -----------------------------------------------------------

function paint() {
  const now = connection.now();
  const { active, earlier } = known.arrange(filter, now);
  rows.show([
    [/** @type {Element} */ (find('active').querySelector('.list')), active],
    [/** @type {Element} */ (find('earlier').querySelector('.list')), earlier],
  ]);
  rows.tell(now);
  detail.tick();

  const filtered = filter.search !== '' || filter.prefix !== '' || filter.status !== '';
  const empty = active.length + earlier.length === 0;
  find('active').hidden = active.length === 0;
  find('earlier').hidden = earlier.length === 0;
  find('truncated').hidden = !(list.truncated && answered);
  find('none').hidden = !(empty && answered && !filtered);
  find('unmatched').hidden = !(empty && answered && filtered);
  find('locked').hidden = !locked;
  find('locked-wrong').hidden = storedToken() === null;
  find('unreachable').hidden = !(trouble !== null && !answered && !locked);
  find('trouble').textContent = `The list of jobs cannot be had: ${trouble} Trying again every two seconds.`;
  paintCounts(active.length + earlier.length, filtered);
  paintPrefixes();
}

/** @param {number} shown @param {boolean} filtered */
function paintCounts(shown, filtered) {
  const counts = known.counts(filter);
  /** @param {...import('./view.js').Look} looks */
  const count = (...looks) => looks.reduce((sum, look) => sum + (counts.get(look) ?? 0), 0);
  for (const chip of tools.querySelectorAll('.chips input')) {
    const look = /** @type {import('./view.js').Look} */ (/** @type {HTMLInputElement} */ (chip).value);
    const matching = look === 'stalled' ? count('stalled', 'lost') : count(look);
    const figure = chip.parentElement?.querySelector('b');
    const text = matching > 0 ? String(matching) : '';
    if (figure && figure.textContent !== text) figure.textContent = text;
    chip.nextElementSibling?.classList.toggle('some', matching > 0);
  }
  const said = /** @type {const} */ (['running', 'stalled', 'lost', 'queued'])
    .filter((look) => count(look) > 0)
    .map((look) => `${count(look)} ${look}`)
    .join(' · ');
  write('summary', said);
  write('found', filtered && answered ? `${shown} ${shown === 1 ? 'job matches' : 'jobs match'}` : '');
  const running = count('running');
  const title = `${running > 0 ? `${running} running` : 'Jobs'} · progress-gateway`;
  if (document.title !== title) document.title = title;
}

/** @param {string} id @param {string} text */
function write(id, text) {
  const node = find(id);
  if (node.textContent !== text) node.textContent = text;
}

let prefixesShown = '';

/** The choice of prefixes; left alone while it is open, or the same. */
function paintPrefixes() {
  const prefixes = known.prefixes().slice(0, 50);
  if (filter.prefix !== '' && !prefixes.some(([prefix]) => prefix === filter.prefix)) prefixes.push([filter.prefix, 0]);
  prefixes.sort(([a], [b]) => (a < b ? -1 : 1));
  const text = JSON.stringify(prefixes);
  if (text === prefixesShown || document.activeElement === prefixInput) return;
  prefixesShown = text;
  prefixInput.replaceChildren(new Option('All jobs', ''), ...prefixes.map(([prefix, n]) => new Option(n > 0 ? `${prefix} (${n})` : prefix, prefix)));
  prefixInput.value = filter.prefix;
}

// -- the address --------------------------------------------------------------

/** @param {{ job: string | null }} where  replaces what is looked at, and keeps the rest */
function go({ job }) {
  const query = new URLSearchParams(location.search);
  if (job === null) query.delete('job');
  else query.set('job', job);
  history.pushState(null, '', query.size > 0 ? `?${query}` : location.pathname);
  detail.show(job);
}

function readAddress() {
  const query = new URLSearchParams(location.search);
  filter = { search: query.get('search') ?? '', prefix: query.get('prefix') ?? '', status: query.get('status') ?? '' };
  searchInput.value = filter.search;
  prefixesShown = '';
  for (const chip of tools.querySelectorAll('.chips input')) {
    const radio = /** @type {HTMLInputElement} */ (chip);
    radio.checked = radio.value === filter.status;
  }
  detail.show(query.get('job'));
  ask();
}

function readFilter() {
  const form = new FormData(tools);
  filter = { search: searchInput.value.trim(), prefix: prefixInput.value, status: String(form.get('status') ?? '') };
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(filter)) {
    if (value === '') query.delete(name);
    else query.set(name, value);
  }
  history.replaceState(null, '', query.size > 0 ? `?${query}` : location.pathname);
  ask();
}

/** Jobs that this page has not read are found by the beginning of their ids. */
function ask() {
  soon(paint);
  clearTimeout(searchTimer);
  const { search, prefix } = filter;
  const beginning = search === '' ? prefix : search;
  if (!list.truncated || !ID_PART.test(beginning)) return;
  searchTimer = setTimeout(() => list.find(beginning, take).catch(() => {}), TYPING); // `poll` tells of trouble
}

tools.addEventListener('input', readFilter);
tools.addEventListener('submit', (event) => event.preventDefault());
find('reset').addEventListener('click', () => {
  history.replaceState(null, '', location.pathname);
  readAddress();
  searchInput.focus();
});
addEventListener('popstate', readAddress);

// -- mouse and keyboard ---------------------------------------------------------

document.addEventListener('click', (event) => {
  const link = event.target instanceof Element ? event.target.closest('a[data-job]') : null;
  if (link === null || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go({ job: /** @type {HTMLElement} */ (link).dataset['job'] ?? null });
});

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || detail.job !== null) return;
  const { target } = event;
  if (event.key === '/' && target !== searchInput) {
    event.preventDefault();
    searchInput.focus();
  } else if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
    const links = /** @type {HTMLElement[]} */ ([...document.querySelectorAll('.row .open')]);
    const at = links.indexOf(/** @type {HTMLElement} */ (target));
    // From the search into the list, and from row to row; elsewhere the keys scroll.
    const next = at >= 0 ? links[at + (event.key === 'ArrowDown' ? 1 : -1)] : target === searchInput ? links[0] : undefined;
    if (next === undefined) return;
    event.preventDefault();
    next.focus();
  }
});

document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') void poll();
});

find('origin').textContent = location.origin;
showConnection(connection, find);
askOnce(find, () => {
  connection.close();
  connection.retry();
  void poll();
});
everySecond(paint);
readAddress();
void poll();
