/** What a connection requests from the gateway, and what its listeners receive. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import { GATEWAY_URL, answerCommands, liveConnection, startConnection, typesOf } from './connected.js';
import { fakeWorld, snapshot, state, step, tick } from './world.js';

test('offers the subprotocol, and subscribes as soon as the socket opens', async () => {
  const { world, connection, states } = startConnection();
  connection.watch('a', () => {});
  connection.watch('b', () => {});
  connection.watch('b', () => {});
  await tick();
  assert.deepEqual(world.socket.protocols, ['progress.v1']);
  assert.deepEqual(world.socket.sent, []);
  world.socket.welcome({ time: 1_003 });
  assert.deepEqual(world.socket.sent, [{ type: 'sync_subscriptions', id: 1, jobs: ['a', 'b'] }]);
  assert.deepEqual(states, ['connecting', 'live']);
  assert.equal(connection.now(), 1_003, 'in the clock of the gateway');
});

test('changes are sent in a microtask, then at most once in 300 ms', async () => {
  const { world, connection } = await liveConnection();
  await world.pass(1000);
  const stop = [1, 2, 3].map((n) => connection.watch(`j${n}`, () => {}));
  assert.equal(world.socket.sent.length, 0);
  await tick();
  assert.deepEqual(world.socket.received()[0].jobs, ['j1', 'j2', 'j3']);
  stop[0]();
  await world.pass(100);
  connection.watch('j4', () => {});
  await world.pass(199);
  assert.equal(world.socket.sent.length, 0);
  await world.pass(1);
  assert.deepEqual(world.socket.received().map(({ jobs }) => jobs), [['j2', 'j3', 'j4']]);
  await world.pass(5000);
  assert.deepEqual(world.socket.received(), [], 'nothing changed, so nothing is sent');
});

test('a job is wanted as long as it has a listener', async () => {
  const { world, connection, unwatch } = await liveConnection('a');
  const second = connection.watch('a', () => {});
  unwatch[0]();
  unwatch[0]();
  await world.pass(1000);
  assert.deepEqual(world.socket.received(), []);
  second();
  await world.pass(1000);
  assert.deepEqual(world.socket.received()[0].jobs, []);
  assert.equal(connection.peek('a'), null);
});

test('unwatching and watching again at once sends nothing and keeps the position', async () => {
  const { world, connection, unwatch, received } = await liveConnection('a');
  world.socket.deliver(snapshot('a', 1, 1));
  await world.pass(1000);
  unwatch[0]();
  connection.watch('a', (watched) => received.push(watched));
  assert.equal(received.length, 2, 'a new listener gets the known state at once');
  await world.pass(1000);
  assert.deepEqual(world.socket.received(), []);
  world.socket.deliver(step('a', 1, 1, 2));
  assert.equal(received.at(-1).seq, 2);
  assert.equal(connection.status().violations, 0);
});

test('several frames in one message are all handled', async () => {
  const { world, received } = await liveConnection('a', 'b');
  world.socket.deliver(snapshot('a', 1, 1), { type: 'ping' }, snapshot('b', 1, 9), step('a', 1, 1, 4));
  assert.deepEqual(received.map(({ job, seq }) => [job, seq]), [['a', 1], ['b', 9], ['a', 4]]);
  assert.deepEqual(typesOf(world.socket.received()), ['pong']);
});

test('a violation is counted, and the job is unsubscribed and subscribed again, once', async () => {
  const { world, connection, received } = await liveConnection('a', 'b');
  await world.pass(1000);
  world.socket.deliver(snapshot('a', 1, 1), step('a', 1, 5, 6), step('a', 1, 6, 7));
  await tick();
  assert.equal(connection.status().violations, 1);
  const commands = answerCommands(world.socket);
  assert.deepEqual(commands.map(({ type, jobs }) => [type, jobs]), [
    ['unsubscribe', ['a']],
    ['sync_subscriptions', ['a', 'b']],
  ]);
  world.socket.deliver(snapshot('a', 1, 8), step('a', 1, 8, 9));
  assert.equal(received.at(-1).seq, 9);
  assert.equal(connection.status().violations, 1);
});

test('sends the wanted jobs at once after connecting, even if there are none', async () => {
  const { world } = startConnection();
  world.socket.welcome();
  assert.deepEqual(world.socket.received(), [{ type: 'sync_subscriptions', id: 1, jobs: [] }]);
});

test('a job stays subscribed after its end, and all listeners get the next attempt', async () => {
  const { world, connection, received, unwatch } = await liveConnection('a');
  world.socket.deliver(snapshot('a', 1, 1), step('a', 1, 1, 2, { status: 'failed' }));
  await world.pass(1_000);
  assert.deepEqual(world.socket.received(), [], 'the retry is still to come');
  world.socket.drop(4000);
  await world.pass(1_000);
  world.socket.welcome();
  assert.deepEqual(answerCommands(world.socket), [
    { type: 'hello', positions: { a: [1, 2] } },
    { type: 'sync_subscriptions', id: 2, jobs: ['a'] },
  ]);
  world.socket.deliver(step('a', 1, 2, 3, { attempt: 2 }), step('a', 1, 3, 4, { attempt: 2, status: 'succeeded' }));
  assert.deepEqual(received.slice(-2).map(({ state }) => [state.attempt, state.status]), [[2, 'running'], [2, 'succeeded']]);
  unwatch[0]();
  await world.pass(1_000);
  assert.deepEqual(world.socket.received().map(({ jobs }) => jobs), [[]], 'until the last one has left');
});

test('no listener is called twice for one position when other listeners are added or removed', async () => {
  const { world, connection, received } = await liveConnection('a');
  world.socket.deliver(snapshot('a', 1, 1, { status: 'succeeded' }));
  for (let i = 0; i < 3; i++) {
    const second = [];
    const stop = connection.watch('a', (watched) => second.push(watched));
    await world.pass(1_000);
    answerCommands(world.socket);
    world.socket.deliver(snapshot('a', 1, 1, { status: 'succeeded' }));
    assert.equal(second.length, 1);
    stop();
    await world.pass(1_000);
  }
  world.socket.drop(4000);
  await world.pass(1_000);
  world.socket.welcome();
  world.socket.deliver(snapshot('a', 1, 1, { status: 'succeeded' }));
  assert.equal(received.length, 1);
});

test('a component that is mounted again shows the last state, marked as stale', async () => {
  const { world, connection, unwatch } = await liveConnection('a');
  world.socket.deliver(snapshot('a', 1, 7, { percent: 70 }));
  unwatch[0]();
  await world.pass(10_000);
  answerCommands(world.socket);
  const received = [];
  const stop = connection.watch('a', (watched) => received.push(watched));
  assert.deepEqual(received.map(({ seq }) => seq), [7], 'no flash of "unknown"');
  assert.equal(connection.isStale('a'), false, 'nor of "stale", if the gateway answers in time');
  await world.pass(1_600);
  assert.equal(connection.isStale('a'), true);
  answerCommands(world.socket);
  world.socket.deliver(snapshot('a', 1, 9, { percent: 90 }));
  assert.deepEqual([received.at(-1).seq, connection.isStale('a')], [9, false]);
  stop();
  for (let i = 0; i < 2; i++) {
    await world.pass(20_000);
    world.socket.deliver({ type: 'pong' });
  }
  assert.equal(connection.peek('a'), null, 'but not for ever');
  connection.watch('a', (watched) => received.push(watched));
  assert.equal(received.length, 2);
});

test('no message is longer than the limit of the gateway', async () => {
  const world = fakeWorld();
  const connection = createConnection(GATEWAY_URL, world.environment);
  for (let i = 0; i < 300; i++) connection.watch(`job:${i}`, () => {});
  world.socket.open();
  assert.deepEqual(world.socket.sent, [], 'nothing before the gateway has sent its limit');
  world.socket.deliver({ type: 'welcome', node: 'n', time: 0, limits: { message: 1_024 } });
  const commands = world.socket.received();
  assert.ok(commands.length > 3 && commands.every((command) => JSON.stringify(command).length <= 1_024));
  assert.equal(new Set(commands.flatMap(({ jobs }) => jobs)).size, 300);
});

test('maxHz is sent to the gateway, also when it changes', async () => {
  const world = fakeWorld();
  const connection = createConnection(GATEWAY_URL, { ...world.environment, maxHz: 2 });
  world.socket.welcome();
  assert.deepEqual(world.socket.received()[0], { type: 'hello', max_hz: 2 });
  connection.configure({ url: GATEWAY_URL, maxHz: 1 });
  assert.deepEqual(world.socket.received(), [{ type: 'hello', max_hz: 1 }]);
});

test('a job that was denied for lack of quota is requested again when others are unwatched', async () => {
  const { world, unwatch } = await liveConnection('a', 'b');
  world.socket.deliver({ type: 'subscriptions', id: null, denied: { b: 'too_many_jobs' } }, snapshot('a', 1, 1));
  unwatch[0]();
  await world.pass(1_000);
  assert.deepEqual(world.socket.received().map(({ type, jobs }) => [type, jobs]), [['unsubscribe', ['b']], ['sync_subscriptions', ['b']]]);
});

test('a job that a full gateway denied is requested again, with growing pauses, until it is sent', async () => {
  for (const code of ['node_full', 'share_full']) {
    const { world, received } = await liveConnection('a', 'b');
    const denied = { b: code };
    world.socket.deliver({ type: 'subscriptions', id: 1, denied }, snapshot('a', 1, 1));
    world.socket.received();
    const requested = [];
    for (let ms = 0; ms < 120_000; ms += 50) {
      await world.pass(50);
      const commands = world.socket.received().filter(({ type }) => type !== 'ping' && type !== 'pong');
      for (const { type, id, jobs } of commands) {
        if (type === 'sync_subscriptions') {
          assert.deepEqual(jobs, ['a', 'b']);
          requested.push(ms);
        } else assert.deepEqual([type, jobs], ['unsubscribe', ['b']]);
        world.socket.deliver({ type: 'subscriptions', id, denied: type === 'unsubscribe' ? {} : denied });
      }
      world.socket.deliver({ type: 'pong' });
    }
    const pauses = requested.slice(1).map((ms, index) => ms - requested[index]);
    assert.ok(requested[0] <= 500, 'soon');
    assert.deepEqual(pauses, [...pauses].sort((one, other) => one - other));
    assert.ok(pauses.at(-1) >= 9_950 && pauses.at(-1) <= 10_050, 'at last every 20 s at most, every 10 s on average');
    assert.deepEqual(received.map((watched) => [watched.job, watched.denied]), [['b', code], ['a', null]], 'reported once');
    world.socket.deliver(snapshot('b', 1, 7));
    assert.deepEqual([received.at(-1).seq, received.at(-1).denied], [7, null]);
    await world.pass(10_100);
    for (const { id } of world.socket.received()) world.socket.deliver({ type: 'subscriptions', id, denied: {} });
    await world.pass(60_000);
    assert.deepEqual(world.socket.received().filter(({ jobs }) => jobs), []);
  }
});

test('a lost connection resets the pauses for jobs that a full gateway denied', async () => {
  const { world } = await liveConnection('a');
  world.socket.deliver({ type: 'subscriptions', id: 1, denied: { a: 'node_full' } });
  world.socket.drop();
  world.socket.received();
  await world.pass(1_000);
  assert.equal(world.sockets.length, 2);
  world.socket.welcome();
  const requested = world.socket.received().filter(({ type }) => type === 'sync_subscriptions');
  assert.equal(requested.length, 1);
  await world.pass(5_000);
  assert.deepEqual(world.socket.received().filter(({ jobs }) => jobs), [], 'the old pause is over');
});

test('a violation has a description', async () => {
  const { world, connection } = await liveConnection('a');
  world.socket.deliver(snapshot('a', 1, 1), step('a', 1, 5, 6));
  assert.equal(connection.status().violation, 'a: (5, 6] of epoch 1 does not continue {"epoch":1,"seq":1}');
});
