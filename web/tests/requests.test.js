/** Requests: the status of the newest one, and what is sent. The test replaces the gateway. */

import './window.js';
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { configure, requestJob } from '../src/core.js';
import { isOpen, phaseOf, requestStore } from '../src/requests.js';
import { tick } from './world.js';

const running = (fields) => ({ status: 'running', attempt: 1, health: 'ok', accepts: ['cancel', 'pause'], ...fields });
const requested = (fields) => running({ request: { id: 'r', verb: 'cancel', at: 1, ...fields } });

test('a cancel is open until the job has ended', () => {
  assert.equal(phaseOf(null), 'none');
  assert.equal(phaseOf(running()), 'none');
  assert.equal(phaseOf(requested()), 'open');
  assert.equal(phaseOf(requested({ seen_at: 2 })), 'open');
  for (const status of ['cancelled', 'succeeded', 'failed']) assert.equal(phaseOf({ ...requested({ seen_at: 2 }), status }), 'none');
});

test('another request is open until the worker acknowledges it', () => {
  assert.equal(phaseOf(requested({ verb: 'pause' })), 'open');
  assert.equal(phaseOf(requested({ verb: 'pause', seen_at: 2 })), 'seen');
});

test('a refusal is shown, also if the worker is silent since then', () => {
  assert.equal(phaseOf({ ...requested({ seen_at: 2, refused: 'no' }), health: 'stalled' }), 'refused');
});

test('a request to a silent worker is unanswered', () => {
  for (const health of ['stalled', 'lost']) assert.equal(phaseOf({ ...requested(), health }), 'unanswered');
});

test('nothing replaces a cancel; a cancel replaces everything else', () => {
  const status = (phase, verb) => ({ phase, verb, accepts: [], reason: null, error: null });
  assert.equal(isOpen(status('open', 'cancel'), 'pause'), true);
  assert.equal(isOpen(status('unanswered', 'pause'), 'cancel'), false);
  assert.equal(isOpen(status('open', 'pause'), 'pause'), true);
  assert.equal(isOpen(status('refused', 'cancel'), 'cancel'), false);
  assert.equal(isOpen(status('sending', 'pause'), 'cancel'), true);
});

// -- over HTTP ---------------------------------------------------------------

const calls = [];
let answer;
globalThis.fetch = async (url, { method, headers, body }) => {
  calls.push({ url: String(url), method, headers, body: JSON.parse(body) });
  return answer();
};
const json = (status, body, headers = { 'progress-gateway': 'n1' }) => () => new Response(JSON.stringify(body), { status, headers });
const ACCEPTED = { id: 'r', epoch: 7, seq: 3, attempt: 1, applied: true };

beforeEach(() => {
  calls.length = 0;
  answer = json(202, ACCEPTED);
  configure({ gateway: 'wss://progress.example/below/ws', token: undefined });
});

test('each request is sent to the configured gateway, with its own id', async () => {
  assert.deepEqual(await requestJob('video:42', 'cancel', { args: { soft: true }, attempt: 2 }), ACCEPTED);
  await requestJob('video:42', 'cancel');
  const [first, second] = calls;
  assert.equal(first.url, 'https://progress.example/below/api/jobs/video:42/requests');
  assert.equal(first.method, 'POST');
  const { id, ...rest } = first.body;
  assert.match(id, /^[0-9a-f-]{36}$/);
  assert.notEqual(id, second.body.id);
  assert.deepEqual(rest, { verb: 'cancel', args: { soft: true }, attempt: 2 });
  assert.equal(first.headers.authorization, undefined);
});

test('a job id that looks like another path is encoded', async () => {
  await requestJob('a/../b', 'cancel', { gateway: 'https://other.example/ws' });
  assert.equal(calls[0].url, 'https://other.example/api/jobs/a%2F..%2Fb/requests');
});

test('the token is sent in a header', async () => {
  configure({ token: async () => 'aaa.bbb.ccc' });
  await requestJob('a', 'cancel');
  assert.equal(calls[0].headers.authorization, 'Bearer aaa.bbb.ccc');
  assert.ok(!calls[0].url.includes('aaa'));
});

test("the gateway's refusal is raised", async () => {
  answer = json(409, { detail: 'The job has ended.', code: 'final' });
  await assert.rejects(requestJob('a', 'cancel'), { name: 'RequestError', message: 'The job has ended.', status: 409, code: 'final' });
  answer = json(403, { detail: 'The token does not allow requests on this job.' });
  await assert.rejects(requestJob('a', 'cancel'), { status: 403, code: 'forbidden', message: /does not allow/ });
  answer = json(503, { detail: 'The broker does not answer; try again.' });
  await assert.rejects(requestJob('a', 'cancel'), { status: 503, code: 'unavailable', message: /broker/ });
  answer = json(502, {}, {});
  await assert.rejects(requestJob('a', 'cancel'), { status: 502, code: 'unreachable', message: /not by a gateway/ });
  answer = () => Promise.reject(new TypeError('Failed to fetch'));
  await assert.rejects(requestJob('a', 'cancel'), { status: 0, code: 'unreachable' });
});

// -- the store of a component ----------------------------------------------------

/** A connection whose state of the job is set by the test. */
function connectionWith(state) {
  const listeners = new Set();
  let watched = { job: 'a', epoch: 7, seq: 1, state, denied: null, snapshot: true };
  return {
    watch(_job, listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    peek: () => watched,
    /** @param {object} change */
    learn(change) {
      watched = { ...watched, ...change };
      for (const listener of listeners) listener(watched);
    },
  };
}

function storeWith(state) {
  const connection = connectionWith(state);
  const store = requestStore('a', undefined, connection);
  const phases = [];
  store.subscribe(() => phases.push(store.get().phase));
  return { connection, store, phases };
}

test('it is `sending` until the state has the request, and two clicks send one', async () => {
  const { connection, store, phases } = storeWith(running({ attempt: 3 }));
  assert.deepEqual(store.get().accepts, ['cancel', 'pause']);
  const first = store.send('cancel');
  assert.equal(await store.send('cancel'), null);
  assert.deepEqual(await first, ACCEPTED);
  assert.equal(await store.send('cancel'), null);
  assert.equal(store.get().phase, 'sending');
  connection.learn({ seq: 2, state: running({ attempt: 3, percent: 5 }) });
  assert.equal(store.get().phase, 'sending');
  connection.learn({ seq: 3, state: requested() });
  assert.deepEqual(phases, ['sending', 'open']);
  assert.equal(calls.length, 1);
  assert.equal(calls[0].body.attempt, 3);
});

test('the event may arrive before the answer', async () => {
  const { connection, store, phases } = storeWith(running());
  const asking = store.send('cancel');
  connection.learn({ seq: 3, state: requested() });
  await asking;
  assert.deepEqual(phases, ['sending', 'open']);
});

test('without an answer, what the state has is shown, whichever comes first', async () => {
  for (const stateFirst of [true, false]) {
    const { connection, store } = storeWith(running());
    let fail = () => {};
    answer = () => new Promise((_, reject) => (fail = () => reject(new TypeError('Failed to fetch'))));
    const asking = store.send('cancel');
    await tick();
    if (stateFirst) connection.learn({ seq: 2, state: requested() });
    assert.equal(store.get().phase, 'sending');
    fail();
    await assert.rejects(asking, { code: 'unreachable' });
    assert.equal(store.get().phase, stateFirst ? 'open' : 'failed');
    if (!stateFirst) connection.learn({ seq: 2, state: requested() });
    assert.equal(store.get().phase, 'open');
    assert.equal(store.get().error, null);
    assert.equal(await store.send('cancel'), null);
  }
});

test('`failed` stays until it is sent again, or there is another attempt', async () => {
  const { connection, store, phases } = storeWith(running());
  answer = json(403, { detail: 'no' });
  await assert.rejects(store.send('cancel'), { message: 'no' });
  assert.deepEqual([store.get().phase, store.get().error.message], ['failed', 'no']);
  connection.learn({ seq: 2, state: running({ percent: 50 }) });
  assert.equal(store.get().phase, 'failed');
  answer = json(202, { ...ACCEPTED, seq: 9 });
  await store.send('cancel');
  assert.equal(store.get().error, null);
  connection.learn({ seq: 9, state: running({ attempt: 2 }) });
  assert.deepEqual(phases, ['sending', 'failed', 'sending', 'none']);
});

test('after the end of the job the status is `none`', async () => {
  const { connection, store } = storeWith(running());
  answer = json(409, { detail: 'The job has ended.', code: 'final' });
  await assert.rejects(store.send('cancel'));
  connection.learn({ seq: 2, state: { status: 'succeeded', attempt: 1, accepts: ['cancel'] } });
  assert.deepEqual(store.get(), { accepts: [], verb: null, phase: 'none', reason: null, error: null });
});

test('other changes do not change the value, and removed listeners are not called', async () => {
  const connection = connectionWith(running());
  const store = requestStore('a', undefined, connection);
  let received = 0;
  const unsubscribe = store.subscribe(() => (received += 1));
  const before = store.get();
  connection.learn({ seq: 2, state: running({ percent: 3 }) });
  assert.equal(store.get(), before);
  unsubscribe();
  unsubscribe();
  connection.learn({ seq: 3, state: requested() });
  await tick();
  assert.equal(received, 0);
});
