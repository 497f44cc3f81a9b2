/** When a connection reconnects. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import { GATEWAY_URL, answerCommands, liveConnection, startConnection, typesOf } from './connected.js';
import { fakeWorld, snapshot, step } from './world.js';

test('reconnects with its positions', async () => {
  const { world, connection, states, received } = await liveConnection('a', 'b');
  world.socket.deliver(snapshot('a', 7, 3), snapshot('b', null, 0));
  world.socket.drop(1006);
  assert.equal(connection.status().state, 'offline');
  await world.pass(250);
  assert.equal(world.sockets.length, 2);
  world.socket.welcome({ node: 'n2' });
  assert.deepEqual(world.socket.sent, [
    { type: 'hello', positions: { a: [7, 3] } },
    { type: 'sync_subscriptions', id: 2, jobs: ['a', 'b'] },
  ]);
  answerCommands(world.socket);
  world.socket.deliver(step('a', 7, 3, 40), snapshot('b', 8, 1));
  assert.deepEqual(received.slice(-2).map(({ seq }) => seq), [40, 1]);
  const { reconnects, violations, node } = connection.status();
  assert.deepEqual([reconnects, violations, node], [1, 0, 'n2']);
  assert.deepEqual(states, ['connecting', 'live', 'offline', 'connecting', 'live']);
});

test('backs off with full jitter, and starts again after a stable minute', async () => {
  const { world, connection } = await liveConnection();
  const waits = [];
  for (let i = 0; i < 9; i++) {
    world.socket.drop(4000);
    const wait = connection.status().retryAt - world.environment.now();
    waits.push(wait);
    await world.pass(wait);
  }
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
  world.socket.welcome();
  await world.pass(1000);
  world.socket.drop(4000);
  assert.equal(connection.status().retryAt - world.environment.now(), 10_000, 'a second of life proves nothing');
  await world.pass(10_000);
  world.socket.welcome();
  for (let i = 0; i < 3; i++) {
    await world.pass(25_000);
    world.socket.deliver({ type: 'pong' });
  }
  world.socket.drop(4000);
  assert.equal(connection.status().retryAt - world.environment.now(), 250);
});

test('the window is the minimum of the ceiling and is not doubled, so a short outage stays short', async () => {
  const { world, connection } = await liveConnection();
  world.socket.deliver({ type: 'welcome', node: 'n1', time: 0, retry: [1, 5] });
  const waits = [];
  for (let i = 0; i < 7; i++) {
    world.socket.drop(4000);
    waits.push(connection.status().retryAt - world.environment.now());
    await world.pass(waits.at(-1));
  }
  assert.deepEqual(waits, [3000, 3000, 3000, 3000, 4500, 8500, 10_500]);
});

test('reconnects within the window of `goaway`, and receives all frames before that', async () => {
  const { world, connection, received } = await liveConnection('a');
  world.socket.deliver(snapshot('a', 1, 1), { type: 'goaway', code: 1001, retry: [10, 30] }, step('a', 1, 1, 2));
  assert.equal(received.at(-1).seq, 2);
  world.socket.drop(1006);
  assert.equal(connection.status().ending.code, 1001);
  await world.pass(19_999);
  assert.equal(world.sockets.length, 1);
  await world.pass(1);
  assert.equal(world.sockets.length, 2);
});

for (const code of [1000, 1001, 1006, 1011, 4000, 4499]) {
  test(`${code}: reconnects`, async () => {
    const { world } = await liveConnection();
    world.socket.drop(code);
    await world.pass(1_000);
    assert.equal(world.sockets.length, 2);
  });
}

for (const code of [1002, 1003, 1007, 1008, 1009, 4500, 4999]) {
  test(`${code}: does not reconnect until retry is called`, async () => {
    const { world, connection } = await liveConnection('a');
    world.socket.drop(code, 'because');
    world.wake();
    await world.pass(600_000);
    assert.equal(world.sockets.length, 1);
    assert.deepEqual(connection.status().ending, { code, reason: 'because' });
    assert.ok(connection.status().stopped);
    connection.retry();
    world.socket.welcome();
    assert.deepEqual(typesOf(world.socket.sent), ['sync_subscriptions']);
    assert.equal(connection.status().state, 'live');
  });
}

test('after waking up it pings at once if live, and connects at once if offline', async () => {
  const { world } = await liveConnection();
  world.wake();
  world.wake();
  assert.deepEqual(typesOf(world.socket.received()), ['ping'], 'one question is enough');
  await world.pass(5_000);
  assert.equal(world.sockets.length, 1);
  world.wake();
  assert.equal(world.sockets.length, 2);
  await world.pass(1_000);
  assert.equal(world.sockets.length, 2, 'the reconnect that was due is not made as well');
});

test('close while offline cancels the reconnect', async () => {
  const { world, connection } = await liveConnection();
  world.socket.drop(1006);
  connection.close();
  await world.pass(60_000);
  assert.equal(world.sockets.length, 1);
  assert.equal(world.pending, 0);
});

test("a proxy's close code before the welcome is not treated as the gateway's", async () => {
  const { world, connection } = startConnection();
  world.socket.open();
  world.socket.drop(1008, 'blocked by policy');
  assert.equal(connection.status().stopped, false);
  await world.pass(1_000);
  assert.equal(world.sockets.length, 2);
});

test('after sleep it pings at once, and a late timer alone does not end the connection', async () => {
  const { world, connection } = await liveConnection();
  await world.pass(25_000);
  assert.deepEqual(typesOf(world.socket.received()), ['ping']);
  await world.sleep(3_600_000); // between the ping and its pong
  assert.equal(connection.status().state, 'live', 'the answer may be waiting behind the timer');
  assert.deepEqual(typesOf(world.socket.received()), ['ping']);
  world.socket.deliver({ type: 'pong' });
  await world.pass(10_000);
  assert.equal(connection.status().state, 'live');

  await world.sleep(3_600_000);
  assert.deepEqual(typesOf(world.socket.received()), ['ping'], 'noticed by the clock');
  await world.pass(5_000);
  assert.equal(connection.status().ending.reason, 'no pong');
});

test('a page hidden for long does not connect; it does at once when shown', async () => {
  const { world, connection } = await liveConnection();
  world.hide();
  await world.pass(10_000);
  world.socket.drop(4000);
  await world.pass(2_000);
  assert.equal(world.sockets.length, 2, 'not for long yet');
  world.socket.welcome();
  answerCommands(world.socket);
  for (let i = 0; i < 12; i++) {
    await world.pass(25_000);
    world.socket.deliver({ type: 'pong' });
  }
  world.socket.drop(4000);
  assert.equal(connection.status().retryAt, null);
  await world.pass(3_600_000);
  assert.equal(world.sockets.length, 2);
  world.show();
  assert.equal(world.sockets.length, 3);
});

test('a reconnect that is due while the page is hidden for long is not made', async () => {
  const world = fakeWorld({ random: () => 0.99 });
  const connection = createConnection(GATEWAY_URL, world.environment);
  world.hide();
  for (let i = 0; i < 60; i++) {
    if (connection.status().state === 'connecting') world.socket.drop(4000);
    await world.pass(10_000);
  }
  const opened = world.sockets.length;
  await world.pass(3_600_000);
  assert.equal(world.sockets.length, opened);
  assert.deepEqual([connection.status().state, connection.status().retryAt], ['offline', null]);
  world.show();
  assert.equal(world.sockets.length, opened + 1);
});
