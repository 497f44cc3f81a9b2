/** Many jobs and many tabs: which requests are open at the same time. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { GATEWAY_HEADERS, pageWithoutWebSocket, problem, welcome } from './http-gateway.js';
import { snapshot, tick } from './world.js';

test('many jobs are divided among several streams; the rest is polled; no job is denied', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket();
  await gateway.streams[0].deliver(welcome);
  const denied = new Map();
  for (let i = 0; i < 450; i++) connection.watch(`job:${i}`, ({ job, denied: why }) => denied.set(job, why));
  connection.watch('<no>', ({ job, denied: why }) => denied.set(job, why));
  await world.pass(1_000);
  await tick();
  assert.deepEqual(gateway.streams.slice(1).map(({ jobs }) => jobs.length), [100, 100, 100, 100]);
  assert.equal(denied.get('<no>'), 'invalid_job');
  assert.ok(gateway.polls.some(({ job }) => job === 'job:449'));
  assert.equal([...denied.values()].filter((why) => why === 'too_many_jobs').length, 0);
});

test('if a proxy buffers a stream, long polling is used', async () => {
  const { world, gateway, connection, received } = await pageWithoutWebSocket({ events: false });
  gateway.jobs.set('a', { seq: 3, state: { status: 'running', percent: 30 } });
  await world.pass(10_000);
  assert.equal(connection.status().ending.reason, 'no data');
  await world.pass(2_000);
  await tick();
  assert.deepEqual([connection.status().state, connection.status().transport], ['live', 'polling']);
  assert.equal(received.at(-1).state.percent, 30);
  assert.deepEqual(gateway.polls, [{ job: 'a', wait: null }, { job: 'a', wait: '25' }]);
  gateway.jobs.set('a', { seq: 9, state: { status: 'succeeded' } });
  gateway.answerLongPoll();
  await world.pass(1_000);
  assert.equal(received.at(-1).state.status, 'succeeded');
  gateway.jobs.set('a', { seq: 10, state: { status: 'running', attempt: 2 } });
  gateway.answerLongPoll();
  await world.pass(1_000);
  assert.equal(received.at(-1).state.attempt, 2, 'a retry is shown as well');
});

test('many jobs are each polled every two seconds; an unknown job is reported once', async () => {
  const { world, gateway, connection, received } = await pageWithoutWebSocket({ events: false });
  for (let i = 0; i < 9; i++) connection.watch(`b${i}`, (watched) => received.push(watched));
  await world.pass(10_000);
  await world.pass(2_000);
  await tick();
  assert.equal(connection.status().transport, 'polling');
  assert.equal(received.filter(({ state }) => state === null).length, 10);
  gateway.jobs.set('b0', { seq: 1, state: { status: 'running' } });
  await world.pass(2_000);
  await tick();
  assert.equal(received.at(-1).job, 'b0');
});

/** The Web Locks of a browser, shared by its tabs. */
function fakeLocks() {
  const held = new Set();
  return {
    held,
    async request(name, { ifAvailable }, callback) {
      assert.ok(ifAvailable);
      await null;
      if (held.has(name)) return callback(null);
      held.add(name);
      await callback({ name });
      held.delete(name);
    },
  };
}

test('eight tabs have at most four open requests; the others poll', async () => {
  const locks = fakeLocks();
  const tabs = [];
  for (let i = 0; i < 8; i++) tabs.push(await pageWithoutWebSocket({ locks }));
  for (const { gateway } of tabs) gateway.jobs.set('a', { seq: 3, state: { status: 'running', percent: 30 } });
  for (const { world, gateway } of tabs) {
    await world.pass(100);
    await gateway.streams[0]?.deliver(welcome, snapshot('a', 1, 3, { percent: 30 }));
    await world.pass(2_000);
    await tick();
  }
  assert.equal(tabs.filter(({ gateway }) => gateway.streams.length > 0).length, 4);
  for (const { connection, received } of tabs) assert.deepEqual([connection.status().state, received.at(-1).state.percent], ['live', 30]);
  assert.ok(tabs.every(({ gateway }) => gateway.polls.every(({ wait }) => wait === null)));

  tabs[0].world.hide();
  await tick();
  assert.equal(locks.held.size, 3, 'a hidden tab lets go of its stream');
  await tabs[7].world.pass(4_000);
  await tick();
  assert.equal(tabs[7].gateway.streams.length, 1, 'and another one has it');
  tabs[0].gateway.jobs.set('a', { seq: 4, state: { status: 'succeeded' } });
  await tabs[0].world.pass(11_000);
  assert.equal(tabs[0].received.at(-1).state.status, 'succeeded', 'a hidden tab also receives the end');
  for (const { connection } of tabs) connection.close();
  await tick();
  assert.equal(locks.held.size, 0);
});

test('polling holds one long poll open for each lock', async () => {
  const locks = fakeLocks();
  await locks.request('progress-gateway 0', { ifAvailable: true }, () => {});
  for (const number of [0, 1, 2]) locks.held.add(`progress-gateway ${number}`); // those of other tabs
  const { world, gateway, connection } = await pageWithoutWebSocket({ events: false, locks });
  for (const job of ['b', 'c', 'd']) connection.watch(job, () => {});
  for (const job of ['a', 'b', 'c', 'd']) gateway.jobs.set(job, { seq: 1, state: { status: 'running', percent: 3 } });
  await world.pass(10_000);
  await world.pass(6_000);
  assert.equal(connection.status().transport, 'polling');
  assert.equal(gateway.polls.filter(({ wait }) => wait !== null).length, 1);
});

test('states are up to date again after an outage, also if other jobs were added in it', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket({ events: false });
  for (const job of ['b', 'c', 'd', 'e', 'f']) connection.watch(job, () => {});
  for (const job of ['a', 'b', 'c', 'd', 'e', 'f', 'g']) gateway.jobs.set(job, { seq: 1, state: { status: 'running', percent: 3 } });
  await world.pass(10_000);
  await world.pass(3_000);
  gateway.override = (path) => (path === '/healthz' ? Response.json({ status: 'ok', node: 'n1' }, { headers: GATEWAY_HEADERS }) : problem(503, { detail: 'the broker' }));
  await world.pass(3_000);
  assert.deepEqual([connection.status().state, connection.status().transport], ['stale', 'polling']);
  gateway.override = null;
  connection.watch('g', () => {});
  await world.pass(3_000);
  await world.pass(3_000);
  assert.equal(connection.status().state, 'live');
});
