/**
 * The page at `/`. It reads the list of jobs once from the API (`list.js`). From then on sets report
 * which jobs begin and end (`live.js`), and nothing is polled. It watches the visible jobs over the
 * shared connection. The URL contains the filter and the open job, so that a reload, or a colleague,
 * shows the same.
 */

import { connect } from '../client.js';
import { ABNORMAL } from '../src/constants.js';
import { Detail } from './detail.js';
import { setText } from './dom.js';
import { KnownJobs, MOST } from './known-jobs.js';
import { isBelowGroup } from './group-row.js';
import { JobList } from './list.js';
import { LiveJobs } from './live.js';
import { showConnection } from './panel.js';
import { Rows } from './rows.js';
import { TokenNeeded, onTokenEntered, wellFormedToken, prefixesIn, storedToken } from './token.js';
import { everySecond, soon } from '../src/ticker.js';
import { t, translatePage } from './words.js';

/** @import { Seen } from '../src/jobs.js' */
/** @import { Filter } from './known-jobs.js' */

/** Milliseconds between two attempts while the gateway is unavailable. */
const RETRY_EVERY = 2_000;
/** One request for each typed word, not one for each letter. */
const TYPING = 250;
/** Texts that a job id can begin with, so that the gateway can search for them. */
const ID_PART = /^[\w.:/@-]{0,200}$/;

translatePage();
const connection = connect(undefined, { token: wellFormedToken });
const known = new KnownJobs();
const list = new JobList(MOST);
const live = new LiveJobs(connection, onState);
const rows = new Rows(follow);
const detail = new Detail(connection, byId, () => openJob({ job: null }));

/** @type {Filter} */
let filter = { search: '', prefix: '', status: '' };
/** Whether the gateway has answered so far. */
let answered = false;
/** @type {string | null} */
let listError = null;
/** Whether the gateway requires a token, or another one. */
let locked = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let retryTimer;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let searchTimer;

/** @param {string} id */
function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

const tools = /** @type {HTMLFormElement} */ (byId('tools'));
const searchInput = /** @type {HTMLInputElement} */ (byId('search'));
const prefixInput = /** @type {HTMLSelectElement} */ (byId('prefix'));

// -- which jobs there are ----------------------------------------------------

/** @param {Seen[]} jobs */
function addJobs(jobs) {
  for (const seen of jobs) known.update(seen);
  known.prune();
  answered = true;
  listError = null;
  locked = false;
  soon(paint);
}

/** Read the list; repeat it only after a failure. */
async function readList() {
  clearTimeout(retryTimer);
  try {
    const listed = await list.read(addJobs);
    if (listed !== null) known.forgetUnlisted(listed);
    soon(paint);
    // The gateway answers, so if the connection was lost, and not refused, reconnect immediately.
    if (connection.status().ending?.code === ABNORMAL) connection.retry();
  } catch (error) {
    locked = error instanceof TokenNeeded;
    listError = error instanceof Error ? error.message : String(error);
    soon(paint);
    retryLater();
  }
}

/** Try again while the gateway is unavailable and the page is visible. */
function retryLater() {
  clearTimeout(retryTimer);
  if (document.visibilityState === 'visible') retryTimer = setTimeout(readList, RETRY_EVERY);
}

/**
 * Handle a state that the connection has received. @param {import('../src/jobs.js').Watched}
 * watched
 */
function onState(watched) {
  // A denied job has no state yet; keep that of the list.
  if (watched.denied !== null) return;
  const before = known.has(watched.job);
  if (watched.state === null && !before) return;
  if (known.update(watched) === 'moved' || !before) soon(paint);
}

/** Watch a visible job over the connection. @param {string} job */
function follow(job) {
  const leave = connection.watch(job, onState);
  soon(paint); // its time
  return leave;
}

/** Watch the sets of all jobs that this page may see, and that of the chosen prefix. */
function watchSets() {
  live.watch(filter.prefix === '' ? prefixesIn(storedToken()) : [...prefixesIn(storedToken()), filter.prefix]);
}

let wasLive = false;
connection.observe(({ state, stopped }) => {
  const isLive = state === 'live';
  // After an interruption the list may have changed.
  if (isLive && !wasLive && answered) void readList();
  if (state === 'offline' && !stopped) retryLater();
  wasLive = isLive;
});

// -- what is shown -----------------------------------------------------------

function paint() {
  const now = connection.now();
  const filtered = filter.search !== '' || filter.prefix !== '' || filter.status !== '';
  const arranged = known.arrange(filter);
  // Children are shown in the row of their group, or as results of a search.
  const [active = [], earlier = []] = [arranged.active, arranged.earlier].map((jobs) => (filtered ? jobs : jobs.filter(({ seen }) => !isBelowGroup(seen.job, stateOf))));
  rows.show([
    [/** @type {Element} */ (byId('active').querySelector('.list')), active],
    [/** @type {Element} */ (byId('earlier').querySelector('.list')), earlier],
  ]);
  rows.showTimes(now);
  detail.tick();

  const empty = active.length + earlier.length === 0;
  byId('active').hidden = active.length === 0;
  byId('earlier').hidden = earlier.length === 0;
  byId('truncated').hidden = !(list.truncated && answered);
  byId('none').hidden = !(empty && answered && !filtered);
  byId('unmatched').hidden = !(empty && answered && filtered);
  byId('locked').hidden = !locked;
  byId('locked-wrong').hidden = storedToken() === null;
  byId('unreachable').hidden = !(listError !== null && !answered && !locked);
  setText(byId('trouble'), t('The list of jobs cannot be read: {why} Trying again every two seconds.', { why: listError ?? '' }));
  paintCounts(active.length + earlier.length, filtered);
  paintPrefixes();
}

/** @param {string} job */
function stateOf(job) {
  return known.get(job)?.state;
}

/** @param {number} shown @param {boolean} filtered */
function paintCounts(shown, filtered) {
  const counts = known.counts(filter);
  // If the list was not read to its end, only the jobs that were read are counted.
  const counted = (/** @type {number} */ n) => `${n}${list.truncated ? '+' : ''}`;
  /** @param {...import('../src/state.js').Look} looks */
  const count = (...looks) => looks.reduce((sum, look) => sum + (counts.get(look) ?? 0), 0);
  for (const chip of tools.querySelectorAll('.chips input')) {
    const look = /** @type {import('../src/state.js').Look} */ (/** @type {HTMLInputElement} */ (chip).value);
    const matching = look === 'stalled' ? count('stalled', 'lost') : count(look);
    const figure = chip.parentElement?.querySelector('b');
    if (figure) setText(figure, matching > 0 ? counted(matching) : '');
    chip.nextElementSibling?.classList.toggle('some', matching > 0);
  }
  const said = /** @type {const} */ (['running', 'stalled', 'lost', 'queued'])
    .filter((look) => count(look) > 0)
    .map((look) => t(`{n} ${look}`, { n: counted(count(look)) }))
    .join(' · ');
  setText(byId('summary'), said);
  setText(byId('found'), filtered && answered ? t(shown === 1 ? '{n} job matches' : '{n} jobs match', { n: counted(shown) }) : '');
  const running = count('running');
  const title = `${running > 0 ? t('{n} running', { n: counted(running) }) : t('Jobs')} · progress-gateway`;
  if (document.title !== title) document.title = title;
}

let prefixesShown = '';

/** Update the choice of prefixes, unless it is open or unchanged. */
function paintPrefixes() {
  const prefixes = known.prefixes().slice(0, 50);
  if (filter.prefix !== '' && !prefixes.some(([prefix]) => prefix === filter.prefix)) prefixes.push([filter.prefix, 0]);
  prefixes.sort(([a], [b]) => (a < b ? -1 : 1));
  const text = JSON.stringify(prefixes);
  if (text === prefixesShown || document.activeElement === prefixInput) return;
  prefixesShown = text;
  prefixInput.replaceChildren(new Option(t('All jobs'), ''), ...prefixes.map(([prefix, n]) => new Option(n > 0 ? `${prefix} (${n})` : prefix, prefix)));
  prefixInput.value = filter.prefix;
}

// -- the address --------------------------------------------------------------

/** @param {{ job: string | null }} where  replaces the open job, and keeps the rest */
function openJob({ job }) {
  const query = new URLSearchParams(location.search);
  if (job === null) {
    // After the details were closed, the back button must not open them again.
    if (history.state?.opened) return history.back();
    query.delete('job');
    history.replaceState(null, '', query.size > 0 ? `?${query}` : location.pathname);
  } else {
    query.set('job', job);
    history.pushState({ opened: true }, '', `?${query}`);
  }
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
  startSearch();
}

function readFilter() {
  const form = new FormData(tools);
  filter = { search: searchInput.value.trim(), prefix: prefixInput.value, status: String(form.get('status') ?? '') };
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(filter)) {
    if (value === '') query.delete(name);
    else query.set(name, value);
  }
  history.replaceState(history.state, '', query.size > 0 ? `?${query}` : location.pathname);
  startSearch();
}

/** Search the gateway, by prefix and status, for jobs that this page has not read. */
function startSearch() {
  soon(paint);
  clearTimeout(searchTimer);
  known.beginSearch();
  watchSets();
  const asked = filter;
  const beginning = asked.search === '' ? asked.prefix : asked.search;
  const status = asked.status === 'stalled' ? 'running' : asked.status;
  if (!list.truncated || !ID_PART.test(beginning) || beginning + status === '') return;
  const found = (/** @type {Seen[]} */ jobs) => {
    known.keepFound(jobs);
    addJobs(jobs);
  };
  searchTimer = setTimeout(() => {
    list.find({ prefix: beginning, status }, found, () => filter === asked).catch(() => {}); // `readList` reports errors
  }, TYPING);
}

tools.addEventListener('input', readFilter);
tools.addEventListener('submit', (event) => event.preventDefault());
byId('reset').addEventListener('click', () => {
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
  openJob({ job: /** @type {HTMLElement} */ (link).dataset['job'] ?? null });
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
    // Arrow keys move from the search into the list, and from row to row; elsewhere they scroll.
    const next = at >= 0 ? links[at + (event.key === 'ArrowDown' ? 1 : -1)] : target === searchInput ? links[0] : undefined;
    if (next === undefined) return;
    event.preventDefault();
    next.focus();
  }
});

document.addEventListener('visibilitychange', () => {
  // The connection delivers missed changes; read the list again if that has failed.
  if (document.visibilityState === 'visible' && (!answered || listError !== null)) void readList();
});

byId('origin').textContent = location.origin;
showConnection(connection, byId);
onTokenEntered(byId, () => {
  connection.close();
  connection.retry();
  watchSets();
  void readList();
});
everySecond(paint);
readAddress();
void readList();
