/** When a connection reconnects. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import { URL_, answer, live, start, types } from './connected.js';
import { fakeWorld, snapshot, step } from './world.js';

test('comes back with the positions it has', async () => {
  const { world, connection, states, heard } = await live('a', 'b');
  world.socket.say(snapshot('a', 7, 3), snapshot('b', null, 0));
  world.socket.die(1006);
  assert.equal(connection.status().state, 'offline');
  await world.pass(250);
  assert.equal(world.sockets.length, 2);
  world.socket.welcome({ node: 'n2' });
  assert.deepEqual(world.socket.sent, [
    { type: 'hello', positions: { a: [7, 3] } },
    { type: 'sync_subscriptions', id: 2, jobs: ['a', 'b'] },
  ]);
  answer(world.socket);
  world.socket.say(step('a', 7, 3, 40), snapshot('b', 8, 1));
  assert.deepEqual(heard.slice(-2).map(({ seq }) => seq), [40, 1]);
  const { reconnects, violations, node } = connection.status();
  assert.deepEqual([reconnects, violations, node], [1, 0, 'n2']);
  assert.deepEqual(states, ['connecting', 'live', 'offline', 'connecting', 'live']);
});

test('backs off with full jitter, and starts anew after a stable minute', async () => {
  const { world, connection } = await live();
  const waits = [];
  for (let i = 0; i < 9; i++) {
    world.socket.die(4000);
    const wait = connection.status().retryAt - world.environment.now();
    waits.push(wait);
    await world.pass(wait);
  }
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
  world.socket.welcome();
  await world.pass(1000);
  world.socket.die(4000);
  assert.equal(connection.status().retryAt - world.environment.now(), 10_000, 'a second of life proves nothing');
  await world.pass(10_000);
  world.socket.welcome();
  for (let i = 0; i < 3; i++) {
    await world.pass(25_000);
    world.socket.say({ type: 'pong' });
  }
  world.socket.die(4000);
  assert.equal(connection.status().retryAt - world.environment.now(), 250);
});

test('the window is the least ceiling, and is not doubled: an outage of seconds costs no more', async () => {
  const { world, connection } = await live();
  world.socket.say({ type: 'welcome', node: 'n1', time: 0, retry: [1, 5] });
  const waits = [];
  for (let i = 0; i < 7; i++) {
    world.socket.die(4000);
    waits.push(connection.status().retryAt - world.environment.now());
    await world.pass(waits.at(-1));
  }
  assert.deepEqual(waits, [3000, 3000, 3000, 3000, 4500, 8500, 10_500]);
});

test('keeps to the window of `goaway`, and hears the rest before it leaves', async () => {
  const { world, connection, heard } = await live('a');
  world.socket.say(snapshot('a', 1, 1), { type: 'goaway', code: 1001, retry: [10, 30] }, step('a', 1, 1, 2));
  assert.equal(heard.at(-1).seq, 2);
  world.socket.die(1006);
  assert.equal(connection.status().ending.code, 1001);
  await world.pass(19_999);
  assert.equal(world.sockets.length, 1);
  await world.pass(1);
  assert.equal(world.sockets.length, 2);
});

for (const code of [1000, 1001, 1006, 1011, 4000, 4499]) {
  test(`${code}: comes back`, async () => {
    const { world } = await live();
    world.socket.die(code);
    await world.pass(1_000);
    assert.equal(world.sockets.length, 2);
  });
}

for (const code of [1002, 1003, 1007, 1008, 1009, 4500, 4999]) {
  test(`${code}: stays away, until asked`, async () => {
    const { world, connection } = await live('a');
    world.socket.die(code, 'because');
    world.wake();
    await world.pass(600_000);
    assert.equal(world.sockets.length, 1);
    assert.deepEqual(connection.status().ending, { code, reason: 'because' });
    assert.ok(connection.status().stopped);
    connection.retry();
    world.socket.welcome();
    assert.deepEqual(types(world.socket.sent), ['sync_subscriptions']);
    assert.equal(connection.status().state, 'live');
  });
}

test('waking up asks at once when live, and dials at once when offline', async () => {
  const { world } = await live();
  world.wake();
  world.wake();
  assert.deepEqual(types(world.socket.heard()), ['ping'], 'one question is enough');
  await world.pass(5_000);
  assert.equal(world.sockets.length, 1);
  world.wake();
  assert.equal(world.sockets.length, 2);
  await world.pass(1_000);
  assert.equal(world.sockets.length, 2, 'the dial that was due is not made as well');
});

test('close while offline cancels the dial', async () => {
  const { world, connection } = await live();
  world.socket.die(1006);
  connection.close();
  await world.pass(60_000);
  assert.equal(world.sockets.length, 1);
  assert.equal(world.pending, 0);
});

test("a proxy's close code before the welcome says nothing about the gateway", async () => {
  const { world, connection } = start();
  world.socket.open();
  world.socket.die(1008, 'blocked by policy');
  assert.equal(connection.status().stopped, false);
  await world.pass(1_000);
  assert.equal(world.sockets.length, 2);
});

test('after sleep it asks at once, and a late timer alone proves nothing', async () => {
  const { world, connection } = await live();
  await world.pass(25_000);
  assert.deepEqual(types(world.socket.heard()), ['ping']);
  await world.sleep(3_600_000); // between the ping and its answer
  assert.equal(connection.status().state, 'live', 'the answer may be waiting behind the timer');
  assert.deepEqual(types(world.socket.heard()), ['ping']);
  world.socket.say({ type: 'pong' });
  await world.pass(10_000);
  assert.equal(connection.status().state, 'live');

  await world.sleep(3_600_000);
  assert.deepEqual(types(world.socket.heard()), ['ping'], 'noticed by the clock');
  await world.pass(5_000);
  assert.equal(connection.status().ending.reason, 'no pong');
});

test('hidden for long, it does not dial; shown, it does at once', async () => {
  const { world, connection } = await live();
  world.hide();
  await world.pass(10_000);
  world.socket.die(4000);
  await world.pass(2_000);
  assert.equal(world.sockets.length, 2, 'not for long yet');
  world.socket.welcome();
  answer(world.socket);
  for (let i = 0; i < 12; i++) {
    await world.pass(25_000);
    world.socket.say({ type: 'pong' });
  }
  world.socket.die(4000);
  assert.equal(connection.status().retryAt, null);
  await world.pass(3_600_000);
  assert.equal(world.sockets.length, 2);
  world.show();
  assert.equal(world.sockets.length, 3);
});

test('a dial that comes due while forgotten is not made', async () => {
  const world = fakeWorld({ random: () => 0.99 });
  const connection = createConnection(URL_, world.environment);
  world.hide();
  for (let i = 0; i < 60; i++) {
    if (connection.status().state === 'connecting') world.socket.die(4000);
    await world.pass(10_000);
  }
  const dialled = world.sockets.length;
  await world.pass(3_600_000);
  assert.equal(world.sockets.length, dialled);
  assert.deepEqual([connection.status().state, connection.status().retryAt], ['offline', null]);
  world.show();
  assert.equal(world.sockets.length, dialled + 1);
});
