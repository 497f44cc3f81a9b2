/** What a connection requests from the gateway, and what its listeners receive. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import { URL_, answer, live, start, types } from './connected.js';
import { fakeWorld, snapshot, state, step, tick } from './world.js';

test('offers the subprotocol, and says what is wanted as soon as the socket opens', async () => {
  const { world, connection, states } = start();
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

test('changes go out in a microtask, then at most once in 300 ms', async () => {
  const { world, connection } = await live();
  await world.pass(1000);
  const leave = [1, 2, 3].map((n) => connection.watch(`j${n}`, () => {}));
  assert.equal(world.socket.sent.length, 0);
  await tick();
  assert.deepEqual(world.socket.heard()[0].jobs, ['j1', 'j2', 'j3']);
  leave[0]();
  await world.pass(100);
  connection.watch('j4', () => {});
  await world.pass(199);
  assert.equal(world.socket.sent.length, 0);
  await world.pass(1);
  assert.deepEqual(world.socket.heard().map(({ jobs }) => jobs), [['j2', 'j3', 'j4']]);
  await world.pass(5000);
  assert.deepEqual(world.socket.heard(), [], 'nothing changed, nothing said');
});

test('a job is wanted as long as one listener is there', async () => {
  const { world, connection, unwatch } = await live('a');
  const second = connection.watch('a', () => {});
  unwatch[0]();
  unwatch[0]();
  await world.pass(1000);
  assert.deepEqual(world.socket.heard(), []);
  second();
  await world.pass(1000);
  assert.deepEqual(world.socket.heard()[0].jobs, []);
  assert.equal(connection.peek('a'), null);
});

test('leaving and coming back at once says nothing and keeps the position', async () => {
  const { world, connection, unwatch, heard } = await live('a');
  world.socket.say(snapshot('a', 1, 1));
  await world.pass(1000);
  unwatch[0]();
  connection.watch('a', (watched) => heard.push(watched));
  assert.equal(heard.length, 2, 'a new listener hears at once what is known');
  await world.pass(1000);
  assert.deepEqual(world.socket.heard(), []);
  world.socket.say(step('a', 1, 1, 2));
  assert.equal(heard.at(-1).seq, 2);
  assert.equal(connection.status().violations, 0);
});

test('several frames in one message', async () => {
  const { world, heard } = await live('a', 'b');
  world.socket.say(snapshot('a', 1, 1), { type: 'ping' }, snapshot('b', 1, 9), step('a', 1, 1, 4));
  assert.deepEqual(heard.map(({ job, seq }) => [job, seq]), [['a', 1], ['b', 9], ['a', 4]]);
  assert.deepEqual(types(world.socket.heard()), ['pong']);
});

test('a violation is counted and answered by leaving and joining, once', async () => {
  const { world, connection, heard } = await live('a', 'b');
  await world.pass(1000);
  world.socket.say(snapshot('a', 1, 1), step('a', 1, 5, 6), step('a', 1, 6, 7));
  await tick();
  assert.equal(connection.status().violations, 1);
  const commands = answer(world.socket);
  assert.deepEqual(commands.map(({ type, jobs }) => [type, jobs]), [
    ['unsubscribe', ['a']],
    ['sync_subscriptions', ['a', 'b']],
  ]);
  world.socket.say(snapshot('a', 1, 8), step('a', 1, 8, 9));
  assert.equal(heard.at(-1).seq, 9);
  assert.equal(connection.status().violations, 1);
});

test('says what it wants at once on connect, also when that is nothing', async () => {
  const { world } = start();
  world.socket.welcome();
  assert.deepEqual(world.socket.heard(), [{ type: 'sync_subscriptions', id: 1, jobs: [] }]);
});

test('a job stays subscribed after its end, and the next attempt is shown to all who watch', async () => {
  const { world, connection, heard, unwatch } = await live('a');
  world.socket.say(snapshot('a', 1, 1), step('a', 1, 1, 2, { status: 'failed' }));
  await world.pass(1_000);
  assert.deepEqual(world.socket.heard(), [], 'the retry is still to come');
  world.socket.die(4000);
  await world.pass(1_000);
  world.socket.welcome();
  assert.deepEqual(answer(world.socket), [
    { type: 'hello', positions: { a: [1, 2] } },
    { type: 'sync_subscriptions', id: 2, jobs: ['a'] },
  ]);
  world.socket.say(step('a', 1, 2, 3, { attempt: 2 }), step('a', 1, 3, 4, { attempt: 2, status: 'succeeded' }));
  assert.deepEqual(heard.slice(-2).map(({ state }) => [state.attempt, state.status]), [[2, 'running'], [2, 'succeeded']]);
  unwatch[0]();
  await world.pass(1_000);
  assert.deepEqual(world.socket.heard().map(({ jobs }) => jobs), [[]], 'until the last one has left');
});

test('no listener is called twice for one position, whoever else comes and goes', async () => {
  const { world, connection, heard } = await live('a');
  world.socket.say(snapshot('a', 1, 1, { status: 'succeeded' }));
  for (let i = 0; i < 3; i++) {
    const second = [];
    const leave = connection.watch('a', (watched) => second.push(watched));
    await world.pass(1_000);
    answer(world.socket);
    world.socket.say(snapshot('a', 1, 1, { status: 'succeeded' }));
    assert.equal(second.length, 1);
    leave();
    await world.pass(1_000);
  }
  world.socket.die(4000);
  await world.pass(1_000);
  world.socket.welcome();
  world.socket.say(snapshot('a', 1, 1, { status: 'succeeded' }));
  assert.equal(heard.length, 1);
});

test('a component that is mounted again shows what was known, and that it may be old', async () => {
  const { world, connection, unwatch } = await live('a');
  world.socket.say(snapshot('a', 1, 7, { percent: 70 }));
  unwatch[0]();
  await world.pass(10_000);
  answer(world.socket);
  const heard = [];
  const leave = connection.watch('a', (watched) => heard.push(watched));
  assert.deepEqual(heard.map(({ seq }) => seq), [7], 'no flash of "unknown"');
  assert.equal(connection.isStale('a'), false, 'nor of "stale", if the gateway answers in time');
  await world.pass(1_600);
  assert.equal(connection.isStale('a'), true);
  answer(world.socket);
  world.socket.say(snapshot('a', 1, 9, { percent: 90 }));
  assert.deepEqual([heard.at(-1).seq, connection.isStale('a')], [9, false]);
  leave();
  for (let i = 0; i < 2; i++) {
    await world.pass(20_000);
    world.socket.say({ type: 'pong' });
  }
  assert.equal(connection.peek('a'), null, 'but not for ever');
  connection.watch('a', (watched) => heard.push(watched));
  assert.equal(heard.length, 2);
});

test('no message is longer than the gateway said', async () => {
  const world = fakeWorld();
  const connection = createConnection(URL_, world.environment);
  for (let i = 0; i < 300; i++) connection.watch(`job:${i}`, () => {});
  world.socket.open();
  assert.deepEqual(world.socket.sent, [], 'nothing before it has said how much it takes');
  world.socket.say({ type: 'welcome', node: 'n', time: 0, limits: { message: 1_024 } });
  const commands = world.socket.heard();
  assert.ok(commands.length > 3 && commands.every((command) => JSON.stringify(command).length <= 1_024));
  assert.equal(new Set(commands.flatMap(({ jobs }) => jobs)).size, 300);
});

test('maxHz goes to the gateway, also when it changes', async () => {
  const world = fakeWorld();
  const connection = createConnection(URL_, { ...world.environment, maxHz: 2 });
  world.socket.welcome();
  assert.deepEqual(world.socket.heard()[0], { type: 'hello', max_hz: 2 });
  connection.use({ url: URL_, maxHz: 1 });
  assert.deepEqual(world.socket.heard(), [{ type: 'hello', max_hz: 1 }]);
});

test('where others have left, a job that was denied for want of room is asked for again', async () => {
  const { world, unwatch } = await live('a', 'b');
  world.socket.say({ type: 'subscriptions', id: null, denied: { b: 'too_many_jobs' } }, snapshot('a', 1, 1));
  unwatch[0]();
  await world.pass(1_000);
  assert.deepEqual(world.socket.heard().map(({ type, jobs }) => [type, jobs]), [['unsubscribe', ['b']], ['sync_subscriptions', ['b']]]);
});

test('what a full gateway denied is asked for again, later and later, until it is there', async () => {
  for (const code of ['node_full', 'share_full']) {
    const { world, heard } = await live('a', 'b');
    const denied = { b: code };
    world.socket.say({ type: 'subscriptions', id: 1, denied }, snapshot('a', 1, 1));
    world.socket.heard();
    const asked = [];
    for (let ms = 0; ms < 120_000; ms += 50) {
      await world.pass(50);
      const commands = world.socket.heard().filter(({ type }) => type !== 'ping' && type !== 'pong');
      for (const { type, id, jobs } of commands) {
        if (type === 'sync_subscriptions') {
          assert.deepEqual(jobs, ['a', 'b']);
          asked.push(ms);
        } else assert.deepEqual([type, jobs], ['unsubscribe', ['b']]);
        world.socket.say({ type: 'subscriptions', id, denied: type === 'unsubscribe' ? {} : denied });
      }
      world.socket.say({ type: 'pong' });
    }
    const pauses = asked.slice(1).map((ms, index) => ms - asked[index]);
    assert.ok(asked[0] <= 500, 'soon');
    assert.deepEqual(pauses, [...pauses].sort((one, other) => one - other));
    assert.ok(pauses.at(-1) >= 9_950 && pauses.at(-1) <= 10_050, 'at last every 20 s at most, every 10 s on average');
    assert.deepEqual(heard.map((watched) => [watched.job, watched.denied]), [['b', code], ['a', null]], 'told once');
    world.socket.say(snapshot('b', 1, 7));
    assert.deepEqual([heard.at(-1).seq, heard.at(-1).denied], [7, null]);
    await world.pass(10_100);
    for (const { id } of world.socket.heard()) world.socket.say({ type: 'subscriptions', id, denied: {} });
    await world.pass(60_000);
    assert.deepEqual(world.socket.heard().filter(({ jobs }) => jobs), []);
  }
});

test('a lost connection begins anew to ask for what a full gateway denied', async () => {
  const { world } = await live('a');
  world.socket.say({ type: 'subscriptions', id: 1, denied: { a: 'node_full' } });
  world.socket.die();
  world.socket.heard();
  await world.pass(1_000);
  assert.equal(world.sockets.length, 2);
  world.socket.welcome();
  const asked = world.socket.heard().filter(({ type }) => type === 'sync_subscriptions');
  assert.equal(asked.length, 1);
  await world.pass(5_000);
  assert.deepEqual(world.socket.heard().filter(({ jobs }) => jobs), [], 'the old pause is over');
});

test('the violation says what it was', async () => {
  const { world, connection } = await live('a');
  world.socket.say(snapshot('a', 1, 1), step('a', 1, 5, 6));
  assert.equal(connection.status().violation, 'a: had {"epoch":1,"seq":1}, then came (5, 6] of epoch 1');
});
