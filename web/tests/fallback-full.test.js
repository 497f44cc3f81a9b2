/** A request that exceeds a quota is refused alone: everything else on the page continues. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { setStore } from '../src/sets.js';
import { pageWithoutWebSocket, setFields, welcome } from './http-gateway.js';
import { snapshot, step, tick } from './world.js';

const denied = (jobs) => ({ type: 'subscriptions', added: [], removed: [], unchanged: 0, denied: jobs });

test('a job that is denied in a stream is requested again, and the others continue', async () => {
  const { world, gateway, connection, received } = await pageWithoutWebSocket();
  const ofB = [];
  connection.watch('b', (watched) => ofB.push(watched));
  await world.pass(300);
  const stream = gateway.streams.at(-1);
  await stream.deliver(welcome, denied({ b: 'node_full' }), snapshot('a', 1, 1, { percent: 10 }));
  await stream.deliver(step('a', 1, 1, 2, { percent: 20 }));
  assert.deepEqual([ofB.at(-1).denied, received.at(-1).state.percent], ['node_full', 20]);
  assert.deepEqual([connection.status().state, connection.isStale('a')], ['live', false]);

  const streams = gateway.streams.length;
  while (gateway.streams.length === streams) await world.pass(1_000);
  await gateway.streams.at(-1).deliver(welcome, snapshot('a', 1, 2, { percent: 20 }), snapshot('b', 1, 1, { percent: 5 }));
  assert.deepEqual([ofB.at(-1).denied, ofB.at(-1).state.percent], [null, 5]);
  assert.deepEqual([connection.status().transport, connection.status().reconnects], ['sse', 0]);
});

test('a stream that ends for lack of quota does not affect the others', async () => {
  const { world, gateway, connection, received } = await pageWithoutWebSocket();
  const store = setStore({ prefix: 'u:' }, connection);
  store.subscribe(() => {});
  await world.pass(300);
  const [ofSet, ofJob] = gateway.streams.slice(-2);
  await ofJob.deliver(welcome, snapshot('a', 1, 1, { percent: 10 }));
  await ofSet.deliver(welcome, { type: 'error', code: 'node_full', message: 'this node watches 1 sets already', prefix: 'u:' });
  await ofSet.end();
  await ofJob.deliver(step('a', 1, 1, 2, { percent: 20 }));
  assert.deepEqual([store.get().denied, received.at(-1).state.percent], ['node_full', 20]);
  assert.deepEqual([connection.status().state, connection.status().transport], ['live', 'sse']);

  const streams = gateway.streams.length;
  while (gateway.streams.length === streams) await world.pass(1_000);
  await gateway.streams.findLast(({ set }) => set === 'u:').deliver(welcome, { type: 'set', prefix: 'u:', epoch: 9, prev: null, seq: 1, snapshot: true, jobs: [], ...setFields([]) });
  assert.equal(store.get().denied, null);
});

test('a stream with a job that is denied in its set ends like any other', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket();
  setStore({ prefix: 'u:' }, connection).subscribe(() => {});
  await world.pass(300);
  const ofSet = gateway.streams.findLast(({ set }) => set === 'u:');
  await ofSet.deliver(welcome, { type: 'set', prefix: 'u:', epoch: 9, prev: null, seq: 1, snapshot: true, jobs: ['u:1'], ...setFields(['u:1']) }, denied({ 'u:1': 'node_full' }));
  await ofSet.end();
  assert.equal(connection.status().state, 'offline');
});

test('a stream that ends for another reason ends the transport', async () => {
  const { gateway, connection } = await pageWithoutWebSocket();
  await gateway.streams[0].deliver(welcome, snapshot('a', 1, 1));
  await gateway.streams[0].end();
  assert.equal(connection.status().state, 'offline');
});

test('without quota for a long poll, the job is requested without one, and is not stale', async () => {
  const { world, gateway, connection, received } = await pageWithoutWebSocket({ events: false });
  gateway.jobs.set('a', { seq: 3, state: { status: 'running', percent: 45 } });
  gateway.full = true;
  await world.pass(14_000);
  assert.deepEqual([connection.status().transport, connection.status().state, connection.isStale('a')], ['polling', 'live', false]);
  gateway.jobs.set('a', { seq: 4, state: { status: 'running', percent: 50 } });
  await world.pass(2_000);
  await tick();
  assert.equal(received.at(-1).state.percent, 50);
  assert.equal(gateway.polls.filter(({ wait }) => wait !== null).length, 1);
});
