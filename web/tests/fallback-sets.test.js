/** Sets over Server-Sent Events and by polling. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { setStore } from '../src/sets.js';
import { GATEWAY_HEADERS, pageWithoutWebSocket, setFields, welcome } from './http-gateway.js';
import { snapshot, step, tick } from './world.js';

/** Over HTTP a set has no id. */
const set = (prev, seq, jobs) => ({ type: 'set', prefix: 'u:', epoch: 9, prev, seq, ...(prev === null && { snapshot: true }), jobs, ...setFields(jobs) });

test('a set over SSE has its own stream, which also has the jobs that it shows', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket();
  await gateway.streams[0].deliver(welcome, snapshot('a', 1, 1));
  const store = setStore({ prefix: 'u:', statuses: ['running'], limit: 5 }, connection);
  const stop = store.subscribe(() => {});
  await world.pass(1_000);
  await tick();
  assert.ok(gateway.streams[0].cancelled);
  const [ofSet, named] = gateway.streams.slice(1);
  assert.deepEqual([ofSet.set, ofSet.jobs, named.set, named.jobs], ['u:', [], null, ['a']]);
  const { searchParams } = gateway.requests.find(({ searchParams }) => searchParams.has('set'));
  assert.deepEqual([searchParams.get('statuses'), searchParams.get('limit')], ['running', '5']);
  await ofSet.deliver(welcome, set(null, 1, ['u:1']), snapshot('u:1', 1, 1, { percent: 10 }));
  await named.deliver(welcome, snapshot('a', 1, 1));
  const received = [];
  connection.watch('u:1', ({ seq }) => received.push(seq));
  await world.pass(1_000);
  assert.deepEqual([[...store.get().jobs], received], [['u:1'], [1]]);
  await ofSet.deliver(step('u:1', 1, 1, 2), set(1, 2, ['u:2', 'u:1']), snapshot('u:2', 1, 1));
  assert.deepEqual([[...store.get().jobs], received, connection.peek('u:2').seq], [['u:2', 'u:1'], [1, 2], 1]);
  assert.equal(gateway.streams.length, 3, 'what a set shows is not requested by name');
  stop();
  await world.pass(1_000);
  await tick();
  assert.ok(ofSet.cancelled);
  assert.deepEqual(gateway.streams.at(-1).jobs, ['a', 'u:1'], 'now it is');
  assert.equal(connection.status().violations, 0);
});

test('frames of a job in the streams of two sets are delivered once, in order', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket();
  await gateway.streams[0].deliver(welcome, snapshot('a', 1, 1));
  const received = [];
  connection.watch('u:1', ({ seq }) => received.push(seq));
  for (const prefix of ['u:', 'u']) setStore({ prefix }, connection).subscribe(() => {});
  await world.pass(1_000);
  await tick();
  const show = set(null, 1, ['u:1']);
  // so `u:1` is not requested by name
  await gateway.streams.findLast(({ set }) => set === 'u:').deliver(welcome, show);
  await world.pass(1_000);
  await tick();
  const [one, other, named] = gateway.streams.slice(-3);
  assert.deepEqual([one.set, other.set, named.jobs], ['u:', 'u', ['a']]);
  await one.deliver(welcome, show, snapshot('u:1', 1, 3), step('u:1', 1, 3, 5));
  await other.deliver(welcome, { ...show, prefix: 'u' }, snapshot('u:1', 1, 4), step('u:1', 1, 4, 6));
  await one.deliver(step('u:1', 1, 5, 6), step('u:1', 1, 6, 7));
  await other.deliver(step('u:1', 1, 6, 7));
  assert.deepEqual(received, [3, 5, 6, 7]);
  assert.equal(connection.status().violations, 0);
});

test('a set by polling: first its jobs, then the state of each', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket({ events: false });
  gateway.jobs.set('u:1', { seq: 1, state: { status: 'running', percent: 10 } });
  gateway.sets.set('u:', { seq: 1, jobs: ['u:1'] });
  const store = setStore({ prefix: 'u:' }, connection);
  store.subscribe(() => {});
  await world.pass(12_000);
  await tick();
  assert.equal(connection.status().transport, 'polling');
  assert.deepEqual([[...store.get().jobs], store.get().total, connection.peek('u:1').state.percent], [['u:1'], 1, 10]);
  gateway.jobs.set('u:2', { seq: 1, state: { status: 'running', percent: 20 } });
  gateway.sets.set('u:', { seq: 2, jobs: ['u:2', 'u:1'] });
  await world.pass(4_000);
  await tick();
  assert.deepEqual([[...store.get().jobs], connection.peek('u:2').state.percent], [['u:2', 'u:1'], 20]);
  const before = store.get();
  gateway.jobs.set('u:1', { seq: 2, state: { status: 'running', percent: 30 } });
  await world.pass(4_000);
  await tick();
  assert.equal(store.get(), before, 'the set is the same');
  assert.equal(connection.peek('u:1').state.percent, 30);
});

test('a stream of a slower node delivers nothing older than another stream has delivered', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket();
  await gateway.streams[0].deliver(welcome, snapshot('a', 1, 1));
  for (const prefix of ['u:', 'u']) setStore({ prefix }, connection).subscribe(() => {});
  await world.pass(1_000);
  await tick();
  const [fast, slow] = gateway.streams.slice(-3);
  const received = [];
  await fast.deliver(welcome, set(null, 1, ['u:1']), snapshot('u:1', 2, 3));
  connection.watch('u:1', ({ epoch, seq }) => received.push([epoch, seq]));
  await slow.deliver(welcome, { ...set(null, 1, ['u:1']), prefix: 'u' }, snapshot('u:1', 2, 1), snapshot('u:1', 1, 9), step('u:1', 1, 9, 10));
  await fast.deliver(step('u:1', 2, 3, 4));
  await slow.deliver(step('u:1', 2, 1, 5));
  assert.deepEqual(received, [[2, 3], [2, 4], [2, 5]]);
  assert.equal(connection.status().violations, 0);
});

test('polling for two sets delivers nothing older than what another response has delivered', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket({ events: false });
  gateway.jobs.set('a', { seq: 1, state: { status: 'queued' } });
  await world.pass(10_000);
  await world.pass(3_000);
  const fetchOthers = world.fetch;
  let [seq, status] = [5, 'running'];
  let isNextHeld = false;
  let answerHeld = null;
  world.fetch = async (url, options) => {
    const { pathname } = new URL(url);
    if (pathname === '/api/sets') return Response.json({ epoch: 9, seq: 1, jobs: ['s:1'], ...setFields(['s:1']) }, { headers: { etag: '"9-1"', ...GATEWAY_HEADERS } });
    if (pathname !== '/api/jobs/s:1') return fetchOthers(url, options);
    const response = Response.json({ job: 's:1', epoch: 1, seq, state: { status } }, { headers: { etag: `"1-${seq}"`, ...GATEWAY_HEADERS } });
    if (isNextHeld) {
      isNextHeld = false;
      await new Promise((answer) => { answerHeld = answer; });
    }
    return response;
  };
  const received = [];
  connection.watch('s:1', (watched) => received.push(watched.seq));
  for (const limit of [5, 50]) setStore({ prefix: 's:', limit }, connection).subscribe(() => {});
  await world.pass(9_000);
  [seq, isNextHeld] = [6, true];
  while (answerHeld === null) await world.pass(10);
  [seq, status] = [7, 'succeeded'];
  while (!received.includes(7)) await world.pass(10);
  answerHeld();
  await world.pass(1_000);
  assert.deepEqual(received.at(-1), 7);
  assert.equal(received.filter((known) => known === 7).length, 1);
});
