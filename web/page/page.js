/**
 * The page at `/`. It reads the list of jobs once from the API (`list.js`). From then on `job-watcher.js` detects which
 * jobs begin and end, and nothing is polled. The page watches the visible jobs over the shared connection. Its URL
 * contains the filter and the open job, so that the page is the same after a reload, and for a colleague who opens the
 * URL.
 */

import { connect } from '../client.js';
import { ABNORMAL } from '../src/constants.js';
import { everySecond, inNextFrame } from '../src/ticker.js';
import { DetailDialog } from './detail.js';
import { setText } from './dom.js';
import { isBelowGroup } from './group-row.js';
import { JobWatcher } from './job-watcher.js';
import { KnownJobs, MAX_JOBS } from './known-jobs.js';
import { JobList } from './list.js';
import { showConnection } from './panel.js';
import { Rows } from './rows.js';
import { TokenRequired, onTokenEntered, wellFormedToken, allowedPrefixes, storedToken } from './token.js';
import { t, translatePage } from './translations.js';

/** @import { JobState } from '../src/jobs.js' */
/** @import { Filter } from './known-jobs.js' */

/** Milliseconds between two attempts while the gateway is unavailable. */
const RETRY_PAUSE = 2_000;
/** Milliseconds without a keystroke before a search, so that there is one request per word, not per letter. */
const TYPING_PAUSE = 250;
/** Matches texts that a job id can begin with. The gateway can search for no others. */
const ID_PREFIX = /^[\w.:/@-]{0,200}$/;

translatePage();
const connection = connect(undefined, { token: wellFormedToken });
const knownJobs = new KnownJobs();
const jobList = new JobList(MAX_JOBS);
const jobWatcher = new JobWatcher(connection, onState);
const rows = new Rows(watchVisible);
const detail = new DetailDialog(connection, byId, () => openJob(null));

/** @type {Filter} */
let filter = { search: '', prefix: '', status: '' };
/** Whether the gateway has answered so far. */
let hasAnswer = false;
/** Why the list could not be read. @type {string | null} */
let listError = null;
/** Whether the gateway requires a token, or rejects the stored one. */
let tokenRequired = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let retryTimer;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let searchTimer;

/** Returns the element with this id. @param {string} id */
function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

const filterForm = /** @type {HTMLFormElement} */ (byId('tools'));
const searchInput = /** @type {HTMLInputElement} */ (byId('search'));
const prefixSelect = /** @type {HTMLSelectElement} */ (byId('prefix'));

// -- which jobs there are ----------------------------------------------------

/** Adds jobs that the gateway has listed. @param {JobState[]} jobs */
function addJobs(jobs) {
  for (const jobState of jobs) knownJobs.update(jobState);
  knownJobs.removeExcess();
  hasAnswer = true;
  listError = null;
  tokenRequired = false;
  inNextFrame(paint);
}

/** Reads the list once; after a failure, again later. */
async function readList() {
  clearTimeout(retryTimer);
  try {
    const listed = await jobList.read(addJobs);
    if (listed !== null) knownJobs.removeUnlisted(listed);
    inNextFrame(paint);
    // The gateway answers, so if the connection was lost, and not refused, reconnect immediately.
    if (connection.status().ending?.code === ABNORMAL) connection.retry();
  } catch (error) {
    tokenRequired = error instanceof TokenRequired;
    listError = error instanceof Error ? error.message : String(error);
    inNextFrame(paint);
    retryLater();
  }
}

/** Reads the list again after a pause, if the page is visible. */
function retryLater() {
  clearTimeout(retryTimer);
  if (document.visibilityState === 'visible') retryTimer = setTimeout(readList, RETRY_PAUSE);
}

/** Handles a state that the connection has received. @param {import('../src/jobs.js').Watched} watched */
function onState(watched) {
  // A denied job has no state; keep that of the list.
  if (watched.denied !== null) return;
  const wasKnown = knownJobs.has(watched.job);
  if (watched.state === null && !wasKnown) return;
  if (knownJobs.update(watched) === 'moved' || !wasKnown) inNextFrame(paint);
}

/** Watches a visible job over the connection. @param {string} job */
function watchVisible(job) {
  const stop = connection.watch(job, onState);
  inNextFrame(paint); // to show its time
  return stop;
}

/** Watches the sets of all jobs that this page may see, and that of the chosen prefix. */
function watchSets() {
  jobWatcher.watch(filter.prefix === '' ? allowedPrefixes(storedToken()) : [...allowedPrefixes(storedToken()), filter.prefix]);
}

let wasLive = false;
connection.observe(({ state, stopped }) => {
  const isLive = state === 'live';
  // During an interruption the list may have changed.
  if (isLive && !wasLive && hasAnswer) void readList();
  if (state === 'offline' && !stopped) retryLater();
  wasLive = isLive;
});

// -- what is shown -----------------------------------------------------------

/** Shows the jobs that match the filter, and the texts around them. */
function paint() {
  const now = connection.now();
  const filtered = filter.search !== '' || filter.prefix !== '' || filter.status !== '';
  const arranged = knownJobs.arrange(filter);
  // Children are shown in the row of their group, or as results of a search.
  const [active = [], earlier = []] = [arranged.active, arranged.earlier].map((jobs) => (filtered ? jobs : jobs.filter(({ jobState }) => !isBelowGroup(jobState.job, stateOf))));
  rows.show([
    [/** @type {Element} */ (byId('active').querySelector('.list')), active],
    [/** @type {Element} */ (byId('earlier').querySelector('.list')), earlier],
  ]);
  rows.showTimes(now);
  detail.updateTimes();

  const empty = active.length + earlier.length === 0;
  byId('active').hidden = active.length === 0;
  byId('earlier').hidden = earlier.length === 0;
  byId('truncated').hidden = !(jobList.truncated && hasAnswer);
  byId('none').hidden = !(empty && hasAnswer && !filtered);
  byId('unmatched').hidden = !(empty && hasAnswer && filtered);
  byId('token-required').hidden = !tokenRequired;
  byId('token-rejected').hidden = storedToken() === null;
  byId('unreachable').hidden = !(listError !== null && !hasAnswer && !tokenRequired);
  setText(byId('list-error'), t('The list of jobs cannot be read: {reason} Trying again every two seconds.', { reason: listError ?? '' }));
  paintCounts(active.length + earlier.length, filtered);
  paintPrefixes();
}

/** Returns the known state of a job. @param {string} job */
function stateOf(job) {
  return knownJobs.get(job)?.state;
}

/** Shows the numbers of jobs. @param {number} shownCount @param {boolean} filtered */
function paintCounts(shownCount, filtered) {
  const counts = knownJobs.counts(filter);
  // If the list was not read to its end, only the jobs that were read are counted.
  const withPlus = (/** @type {number} */ n) => `${n}${jobList.truncated ? '+' : ''}`;
  /** @param {...import('../src/job-state.js').Look} looks */
  const count = (...looks) => looks.reduce((sum, look) => sum + (counts.get(look) ?? 0), 0);
  for (const option of filterForm.querySelectorAll('.chips input')) {
    const look = /** @type {import('../src/job-state.js').Look} */ (/** @type {HTMLInputElement} */ (option).value);
    const matching = look === 'stalled' ? count('stalled', 'lost') : count(look);
    const counter = option.parentElement?.querySelector('b');
    if (counter) setText(counter, matching > 0 ? withPlus(matching) : '');
    option.nextElementSibling?.classList.toggle('nonzero', matching > 0);
  }
  const summary = /** @type {const} */ (['running', 'stalled', 'lost', 'queued'])
    .filter((look) => count(look) > 0)
    .map((look) => t(`{n} ${look}`, { n: withPlus(count(look)) }))
    .join(' · ');
  setText(byId('summary'), summary);
  setText(byId('match-count'), filtered && hasAnswer ? t(shownCount === 1 ? '{n} job matches' : '{n} jobs match', { n: withPlus(shownCount) }) : '');
  const running = count('running');
  const title = `${running > 0 ? t('{n} running', { n: withPlus(running) }) : t('Jobs')} · progress-gateway`;
  if (document.title !== title) document.title = title;
}

let prefixesShown = '';

/** Updates the choice of prefixes, unless it is open or unchanged. */
function paintPrefixes() {
  const prefixes = knownJobs.prefixes().slice(0, 50);
  if (filter.prefix !== '' && !prefixes.some(([prefix]) => prefix === filter.prefix)) prefixes.push([filter.prefix, 0]);
  prefixes.sort(([a], [b]) => (a < b ? -1 : 1));
  const text = JSON.stringify(prefixes);
  if (text === prefixesShown || document.activeElement === prefixSelect) return;
  prefixesShown = text;
  prefixSelect.replaceChildren(new Option(t('All jobs'), ''), ...prefixes.map(([prefix, n]) => new Option(n > 0 ? `${prefix} (${n})` : prefix, prefix)));
  prefixSelect.value = filter.prefix;
}

// -- the URL and the filter --------------------------------------------------------------

/** Shows the details of a job; the filter in the URL stays. @param {string | null} job  null: close the details */
function openJob(job) {
  const query = new URLSearchParams(location.search);
  if (job === null) {
    // After the details were closed, the back button must not open them again.
    if (history.state?.opened) return history.go(-history.state.opened);
    query.delete('job');
    history.replaceState(null, '', query.size > 0 ? `?${query}` : location.pathname);
  } else {
    query.set('job', job);
    // `opened`: the number of entries to go back when the details are closed. None if they were open from the beginning.
    const opened = history.state?.opened ?? 0;
    if (detail.job !== null && opened === 0) history.replaceState(null, '', `?${query}`);
    else history.pushState({ opened: opened + 1 }, '', `?${query}`);
  }
  detail.show(job);
}

/** Shows the job and the filter that the URL contains. */
function readUrl() {
  const query = new URLSearchParams(location.search);
  filter = { search: query.get('search') ?? '', prefix: query.get('prefix') ?? '', status: query.get('status') ?? '' };
  searchInput.value = filter.search;
  prefixesShown = '';
  for (const option of filterForm.querySelectorAll('.chips input')) {
    const radio = /** @type {HTMLInputElement} */ (option);
    radio.checked = radio.value === filter.status;
  }
  detail.show(query.get('job'));
  startSearch();
}

/** Applies the filter that the user has entered, and stores it in the URL. */
function readFilter() {
  const form = new FormData(filterForm);
  filter = { search: searchInput.value.trim(), prefix: prefixSelect.value, status: String(form.get('status') ?? '') };
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(filter)) {
    if (value === '') query.delete(name);
    else query.set(name, value);
  }
  history.replaceState(history.state, '', query.size > 0 ? `?${query}` : location.pathname);
  startSearch();
}

/** Searches the gateway, by prefix and status, for jobs that this page has not read. */
function startSearch() {
  inNextFrame(paint);
  clearTimeout(searchTimer);
  knownJobs.clearSearchResults();
  watchSets();
  const searched = filter;
  const searchPrefix = searched.search === '' ? searched.prefix : searched.search;
  const status = searched.status === 'stalled' ? 'running' : searched.status;
  if (!jobList.truncated || !ID_PREFIX.test(searchPrefix) || searchPrefix + status === '') return;
  const onResults = (/** @type {JobState[]} */ jobs) => {
    knownJobs.addSearchResults(jobs);
    addJobs(jobs);
  };
  searchTimer = setTimeout(() => {
    jobList.search({ prefix: searchPrefix, status }, onResults, () => filter === searched).catch(() => {}); // `readList` reports errors
  }, TYPING_PAUSE);
}

filterForm.addEventListener('input', readFilter);
filterForm.addEventListener('submit', (event) => event.preventDefault());
byId('reset').addEventListener('click', () => {
  history.replaceState(null, '', location.pathname);
  readUrl();
  searchInput.focus();
});
addEventListener('popstate', readUrl);

// -- mouse and keyboard ---------------------------------------------------------

document.addEventListener('click', (event) => {
  const link = event.target instanceof Element ? event.target.closest('a[data-job]') : null;
  if (link === null || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  openJob(/** @type {HTMLElement} */ (link).dataset['job'] ?? null);
});

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || detail.job !== null) return;
  const { target } = event;
  if (event.key === '/' && target !== searchInput) {
    event.preventDefault();
    searchInput.focus();
  } else if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
    const links = /** @type {HTMLElement[]} */ ([...document.querySelectorAll('.row .open')]);
    const index = links.indexOf(/** @type {HTMLElement} */ (target));
    // Arrow keys move from the search into the list, and from row to row; elsewhere they scroll.
    const next = index >= 0 ? links[index + (event.key === 'ArrowDown' ? 1 : -1)] : target === searchInput ? links[0] : undefined;
    if (next === undefined) return;
    event.preventDefault();
    next.focus();
  }
});

document.addEventListener('visibilitychange', () => {
  // The connection delivers missed changes. Read the list again only if that has failed.
  if (document.visibilityState === 'visible' && (!hasAnswer || listError !== null)) void readList();
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
readUrl();
void readList();
