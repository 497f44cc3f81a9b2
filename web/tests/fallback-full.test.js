/** What the gateway has no room for is refused by itself: everything else on the page goes on. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { setStore } from '../src/sets.js';
import { blocked, figures, welcome } from './http-gateway.js';
import { snapshot, step, tick } from './world.js';

const denied = (jobs) => ({ type: 'subscriptions', added: [], removed: [], unchanged: 0, denied: jobs });

test('a job that is denied in a stream is asked for again, and the others go on', async () => {
  const { world, gateway, connection, heard } = await blocked();
  const ofB = [];
  connection.watch('b', (watched) => ofB.push(watched));
  await world.pass(300);
  const stream = gateway.streams.at(-1);
  await stream.say(welcome, denied({ b: 'node_full' }), snapshot('a', 1, 1, { percent: 10 }));
  await stream.say(step('a', 1, 1, 2, { percent: 20 }));
  assert.deepEqual([ofB.at(-1).denied, heard.at(-1).state.percent], ['node_full', 20]);
  assert.deepEqual([connection.status().state, connection.isStale('a')], ['live', false]);

  const streams = gateway.streams.length;
  while (gateway.streams.length === streams) await world.pass(1_000);
  await gateway.streams.at(-1).say(welcome, snapshot('a', 1, 2, { percent: 20 }), snapshot('b', 1, 1, { percent: 5 }));
  assert.deepEqual([ofB.at(-1).denied, ofB.at(-1).state.percent], [null, 5]);
  assert.deepEqual([connection.status().transport, connection.status().reconnects], ['sse', 0]);
});

test('a stream that ends because there is room for nothing in it leaves the others alone', async () => {
  const { world, gateway, connection, heard } = await blocked();
  const store = setStore({ prefix: 'u:' }, connection);
  store.subscribe(() => {});
  await world.pass(300);
  const [ofSet, ofJob] = gateway.streams.slice(-2);
  await ofJob.say(welcome, snapshot('a', 1, 1, { percent: 10 }));
  await ofSet.say(welcome, { type: 'error', code: 'node_full', message: 'this node watches 1 sets already', prefix: 'u:' });
  await ofSet.end();
  await ofJob.say(step('a', 1, 1, 2, { percent: 20 }));
  assert.deepEqual([store.get().denied, heard.at(-1).state.percent], ['node_full', 20]);
  assert.deepEqual([connection.status().state, connection.status().transport], ['live', 'sse']);

  const streams = gateway.streams.length;
  while (gateway.streams.length === streams) await world.pass(1_000);
  await gateway.streams.findLast(({ set }) => set === 'u:').say(welcome, { type: 'set', prefix: 'u:', epoch: 9, prev: null, seq: 1, snapshot: true, jobs: [], ...figures([]) });
  assert.equal(store.get().denied, null);
});

test('a stream with a job that is denied in its set ends as any other', async () => {
  const { world, gateway, connection } = await blocked();
  setStore({ prefix: 'u:' }, connection).subscribe(() => {});
  await world.pass(300);
  const ofSet = gateway.streams.findLast(({ set }) => set === 'u:');
  await ofSet.say(welcome, { type: 'set', prefix: 'u:', epoch: 9, prev: null, seq: 1, snapshot: true, jobs: ['u:1'], ...figures(['u:1']) }, denied({ 'u:1': 'node_full' }));
  await ofSet.end();
  assert.equal(connection.status().state, 'offline');
});

test('a stream that ends for another reason ends the transport, as before', async () => {
  const { gateway, connection } = await blocked();
  await gateway.streams[0].say(welcome, snapshot('a', 1, 1));
  await gateway.streams[0].end();
  assert.equal(connection.status().state, 'offline');
});

test('where there is no room for a long poll, the job is asked for without one, and is not stale', async () => {
  const { world, gateway, connection, heard } = await blocked({ events: false });
  gateway.jobs.set('a', { seq: 3, state: { status: 'running', percent: 45 } });
  gateway.full = true;
  await world.pass(14_000);
  assert.deepEqual([connection.status().transport, connection.status().state, connection.isStale('a')], ['polling', 'live', false]);
  gateway.jobs.set('a', { seq: 4, state: { status: 'running', percent: 50 } });
  await world.pass(2_000);
  await tick();
  assert.equal(heard.at(-1).state.percent, 50);
  assert.equal(gateway.polls.filter(({ wait }) => wait !== null).length, 1);
});
