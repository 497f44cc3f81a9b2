import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import '../src/tokens.js'; // loaded late by the client; here at once, so that no test waits for a disk
import { fakeWorld, jwt, snapshot, step, tick } from './world.js';

const URL_ = 'ws://gateway.test/ws';

function start(options) {
  const world = fakeWorld(options);
  const connection = createConnection(URL_, world.environment);
  const states = [];
  connection.observe(({ state }) => states.at(-1) !== state && states.push(state));
  return { world, connection, states };
}

/** Live, watching `jobs`, with the first sync answered. */
async function live(...jobs) {
  const it = start();
  const heard = [];
  it.heard = heard;
  it.unwatch = jobs.map((job) => it.connection.watch(job, (watched) => heard.push(watched)));
  it.world.socket.welcome();
  answer(it.world.socket);
  await tick();
  return it;
}

/** Answer every subscription command heard so far, and return all that was heard. */
function answer(socket) {
  const commands = socket.heard();
  for (const { id } of commands.filter((command) => command.id)) {
    socket.say({ type: 'subscriptions', id, added: [], removed: [], unchanged: 0, denied: {} });
  }
  return commands;
}

const types = (commands) => commands.map(({ type }) => type);

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

test('pings every 25 s, and leaves a gateway that does not answer in 5 s', async () => {
  const { world, connection } = await live();
  await world.pass(25_000);
  assert.deepEqual(types(world.socket.heard()), ['ping']);
  await world.pass(40);
  world.socket.say({ type: 'pong' });
  assert.equal(connection.status().roundTrip, 40);
  await world.pass(25_000);
  assert.deepEqual(types(world.socket.heard()), ['ping']);
  await world.pass(4_999);
  assert.equal(connection.status().state, 'live');
  await world.pass(1);
  assert.deepEqual(connection.status().ending, { code: 1006, reason: 'no pong' });
  assert.ok(world.sockets[0].closed);
});

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

test('a handshake that is never answered ends after 10 s', async () => {
  const { world, connection } = start();
  await world.pass(9_999);
  assert.equal(connection.status().state, 'connecting');
  await world.pass(1);
  assert.equal(connection.status().ending.reason, 'no welcome');
  world.sockets[0].open();
  await world.pass(10_000);
  assert.deepEqual(world.sockets[0].sent, []);
});

test('late events of an old socket touch nothing', async () => {
  const { world, connection, heard } = await live('a');
  const old = world.socket;
  const late = { message: old.onmessage, close: old.onclose, open: old.onopen };
  await world.pass(30_000); // no pong: given up
  await world.pass(1_000);
  world.socket.welcome();
  answer(world.socket);
  world.socket.say(snapshot('a', 1, 5));
  const before = connection.status();
  late.message({ data: JSON.stringify(snapshot('a', 1, 2)) });
  late.close({ code: 1008, reason: 'late' });
  old.say(snapshot('a', 1, 3));
  old.die(4500);
  assert.equal(heard.at(-1).seq, 5);
  assert.equal(connection.status(), before);
});

test('frames behind the end in the same message are dropped', async () => {
  const { world, connection, heard } = await live('a');
  connection.watch('a', ({ seq }) => seq === 1 && connection.close());
  world.socket.say(snapshot('a', 1, 1), step('a', 1, 1, 2));
  assert.equal(heard.at(-1).seq, 1);
});

test('close is for good, says 1000, and leaves no timer behind', async () => {
  const { world, connection } = await live('a');
  connection.close();
  assert.equal(world.socket.closed.code, 1000);
  assert.ok(connection.status().stopped);
  assert.equal(world.pending, 0);
  assert.equal(world.wakers.size, 0);
  await world.pass(600_000);
  assert.equal(world.sockets.length, 1);
  connection.retry();
  assert.equal(world.sockets.length, 2);
  assert.equal(world.wakers.size, 1);
});

test('close while offline cancels the dial', async () => {
  const { world, connection } = await live();
  world.socket.die(1006);
  connection.close();
  await world.pass(60_000);
  assert.equal(world.sockets.length, 1);
  assert.equal(world.pending, 0);
});

test('a URL that can never work stops, and says why', async () => {
  const world = fakeWorld();
  const WebSocket = class { constructor() { throw new SyntaxError('bad url'); } };
  const connection = createConnection('nonsense', { ...world.environment, WebSocket });
  await tick();
  assert.ok(connection.status().stopped);
  assert.match(connection.status().ending.reason, /bad url/);
  assert.equal(connection.status().state, 'offline');
});

test('nonsense and errors are counted and kept, and harm nothing', async () => {
  const { world, connection, heard } = await live('a');
  world.socket.onmessage({ data: '{"type":' });
  world.socket.onmessage({ data: new ArrayBuffer(3) });
  world.socket.say({ type: 'something_new' }, { type: 'error', code: 'invalid_json', message: 'no' }, snapshot('a', 1, 1));
  assert.equal(connection.status().violations, 2);
  assert.equal(connection.status().error, 'invalid_json: no');
  assert.equal(heard.length, 1);
});

test('an observer that throws takes nothing from the others', async (t) => {
  t.mock.method(console, 'error', () => {});
  const { world, connection, states } = await live();
  connection.observe(({ state }) => { if (state === 'offline') throw new Error('broken'); });
  world.socket.die(1006);
  assert.equal(states.at(-1), 'offline');
});

test('says what it wants at once on connect, also when that is nothing', async () => {
  const { world } = start();
  world.socket.welcome();
  assert.deepEqual(world.socket.heard(), [{ type: 'sync_subscriptions', id: 1, jobs: [] }]);
});

test('stale as long as the gateway says so', async () => {
  const { world, states } = await live('a');
  world.socket.say({ type: 'feed', stale: true });
  world.socket.say({ type: 'feed', stale: false });
  world.socket.die(4000);
  await world.pass(1_000);
  world.socket.welcome({ stale: true });
  assert.deepEqual(states, ['connecting', 'live', 'stale', 'live', 'offline', 'connecting', 'stale']);
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

test('a clock that is set changes neither the times nor what is stale', async () => {
  for (const hours of [-1, 1]) {
    const { world, connection } = await live('a');
    const before = connection.now();
    world.set += hours * 3_600_000;
    await world.pass(2_000);
    assert.equal(connection.now() - before, 2);
    world.socket.die(4000);
    world.set += hours * 3_600_000;
    await world.pass(100);
    assert.equal(connection.isStale('a'), false);
    world.dialled = null;
    await world.pass(1_500);
    assert.equal(connection.isStale('a'), true, `set by ${hours} h`);
  }
});

test('a pong corrects the time, and so does an event', async () => {
  const { world, connection } = await live('a');
  await world.pass(25_000);
  world.socket.say({ type: 'pong', time: 5_000 });
  assert.equal(connection.now(), 5_000);
  world.socket.say(snapshot('a', 1, 1, { updated_at: 6_000 }));
  assert.equal(connection.now(), 6_000, 'what has happened is not to come');
  world.socket.say(step('a', 1, 1, 2, { updated_at: 4_000 }));
  assert.equal(connection.now(), 6_000);
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

test("a proxy's close code before the welcome says nothing about the gateway", async () => {
  const { world, connection } = start();
  world.socket.open();
  world.socket.die(1008, 'blocked by policy');
  assert.equal(connection.status().stopped, false);
  await world.pass(1_000);
  assert.equal(world.sockets.length, 2);
});

test('a refusal is explained once in the console, and in the status', async (t) => {
  const warn = t.mock.method(console, 'warn', () => {});
  const { world, connection } = start();
  const refuse = () => {
    world.socket.open();
    world.socket.die(4501, 'start the gateway with --origins https://shop.example');
  };
  refuse();
  assert.match(connection.status().ending.reason, /--origins https:\/\/shop.example/);
  connection.retry();
  refuse();
  assert.equal(warn.mock.callCount(), 1);
  assert.match(warn.mock.calls[0].arguments[0], /4501.*--origins https:\/\/shop.example/);
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

// -- tokens ---------------------------------------------------------------------

function withToken(token) {
  const world = fakeWorld();
  const connection = createConnection(URL_, { ...world.environment, token });
  return { world, connection };
}

test('a token is asked for before each dial, and said first', async () => {
  let asked = 0;
  const { world, connection } = withToken(async () => jwt({ n: ++asked }));
  connection.watch('a', () => {});
  assert.equal(world.sockets.length, 0);
  await tick();
  world.socket.welcome();
  assert.deepEqual(world.socket.heard(), [{ type: 'hello', token: jwt({ n: 1 }) }, { type: 'sync_subscriptions', id: 1, jobs: ['a'] }]);
  world.socket.say(snapshot('a', 1, 3));
  world.socket.die(4100, 'token expired');
  await world.pass(1_000);
  world.socket.welcome();
  assert.deepEqual(world.socket.heard()[0], { type: 'hello', token: jwt({ n: 2 }), positions: { a: [1, 3] } });
});

test('a token as text; and none', async () => {
  const { world } = withToken(jwt({}));
  await tick();
  world.socket.welcome();
  assert.deepEqual(world.socket.heard()[0], { type: 'hello', token: jwt({}) });
  const none = withToken(() => null);
  await tick();
  none.world.socket.welcome();
  assert.deepEqual(types(none.world.socket.heard()), ['sync_subscriptions']);
});

test('a provider that fails, or never answers, is asked again', async () => {
  const answers = [() => Promise.reject(new Error('login down')), () => { throw new Error('broken'); }, () => new Promise(() => {}), () => jwt({})];
  const { world, connection } = withToken(() => answers.shift()());
  await tick();
  assert.deepEqual(connection.status().ending, { code: 0, reason: 'could not connect: login down' });
  await world.pass(250);
  assert.match(connection.status().ending.reason, /broken/);
  await world.pass(500);
  assert.equal(connection.status().state, 'connecting');
  await world.pass(10_000);
  assert.match(connection.status().ending.reason, /no answer/);
  await world.pass(1_000);
  world.socket.welcome();
  assert.equal(world.socket.sent[0].token, jwt({}));
  assert.equal(connection.status().transport, 'websocket', 'a login says nothing about WebSockets');
});

test('a token that says when it expires is renewed in place', async () => {
  let minted = 0;
  const { world, connection } = withToken(() => jwt({ exp: world_now() + 600 + minted++ }));
  function world_now() { return 1_000; }
  await tick();
  world.socket.welcome({ time: 1_000 });
  world.socket.heard();
  for (let i = 0; i < 21; i++) {
    await world.pass(25_000);
    world.socket.say({ type: 'pong' });
  }
  assert.equal(minted, 1);
  await world.pass(20_000);
  assert.equal(minted, 2);
  const [renewal] = world.socket.heard().filter(({ type }) => type === 'hello');
  assert.deepEqual(renewal, { type: 'hello', token: jwt({ exp: 1_601 }) });
  assert.equal(world.sockets.length, 1);
  assert.equal(connection.status().state, 'live');
});

test('told that its token has expired, it says a new one at once', async () => {
  let asked = 0;
  const { world, connection } = withToken(() => jwt({ n: ++asked }));
  await tick();
  world.socket.welcome();
  world.socket.heard();
  world.socket.say({ type: 'error', code: 'token_expired', message: 'say hello with a new token' });
  await tick();
  assert.deepEqual(world.socket.heard(), [{ type: 'hello', token: jwt({ n: 2 }) }]);
  assert.deepEqual([connection.status().state, connection.status().error], ['live', null]);
});

test('a token that comes after the page hung up opens nothing', async () => {
  let give;
  const { world, connection } = withToken(() => new Promise((resolve) => { give = resolve; }));
  await tick();
  connection.close();
  give(jwt({}));
  await world.pass(60_000);
  assert.equal(world.sockets.length, 0);
});

test('the violation says what it was', async () => {
  const { world, connection } = await live('a');
  world.socket.say(snapshot('a', 1, 1), step('a', 1, 5, 6));
  assert.equal(connection.status().violation, 'a: had {"epoch":1,"seq":1}, then came (5, 6] of epoch 1');
});

test('what is no token is never sent: the page of a proxy, the answer of a login', async (t) => {
  t.mock.method(console, 'warn', () => {});
  const answers = ['<html>502 Bad Gateway</html>', '{"detail":"Not authenticated"}', jwt({})];
  const { world, connection } = withToken(async () => answers.shift());
  await tick();
  assert.match(connection.status().ending.reason, /not a JSON Web Token: it is an HTML page/);
  await world.pass(250);
  await tick();
  assert.equal(world.sockets.length, 0);
  await world.pass(500);
  await tick();
  world.socket.welcome();
  assert.equal(world.socket.sent[0].token, jwt({}));
});

test('a renewal that fails keeps the old token, and is tried again', async (t) => {
  t.mock.method(console, 'warn', () => {});
  const answers = [jwt({ exp: 1_060 }), () => { throw new Error('502'); }, '<html>', jwt({ exp: 2_000 })];
  const { world, connection } = withToken(() => { const next = answers.shift(); return typeof next === 'function' ? next() : next; });
  await tick();
  world.socket.welcome({ time: 1_000 });
  world.socket.heard();
  for (const wait of [25_000, 25_000, 12_000]) {
    await world.pass(wait);
    world.socket.say({ type: 'pong' });
  }
  const said = world.socket.heard().filter(({ type }) => type === 'hello');
  assert.deepEqual(said, [{ type: 'hello', token: jwt({ exp: 2_000 }) }]);
  assert.deepEqual([world.sockets.length, connection.status().state], [1, 'live']);
});

test('a new token that the gateway refuses leaves the old one good, and another is asked for', async (t) => {
  const warn = t.mock.method(console, 'warn', () => {});
  let asked = 0;
  const { world, connection } = withToken(() => jwt({ exp: 2_000, n: ++asked }));
  await tick();
  world.socket.welcome({ time: 1_000 });
  await connection.renew();
  world.socket.die(4500, 'the signature is of no key here');
  assert.match(warn.mock.calls[0].arguments[0], /no key here/);
  await world.pass(500);
  await tick();
  world.socket.welcome({ time: 1_000 });
  assert.equal(world.socket.heard()[0].token, jwt({ exp: 2_000, n: 1 }));
  await world.pass(8_000);
  assert.equal(world.socket.heard().at(-1).token, jwt({ exp: 2_000, n: 3 }));
  world.socket.die(4502, 'revoked');
  assert.ok(connection.status().stopped);
});

test("another person's token drops what was known and connects anew; the same person's is sent", async () => {
  const { world, connection } = withToken(jwt({ sub: 'ann', n: 1 }));
  const heard = [];
  connection.watch('a', (watched) => heard.push(watched));
  await tick();
  world.socket.welcome();
  world.socket.say(snapshot('a', 1, 1));
  world.socket.heard();
  connection.use({ url: URL_, token: jwt({ sub: 'ann', n: 2 }) });
  await tick();
  assert.deepEqual(world.socket.heard(), [{ type: 'hello', token: jwt({ sub: 'ann', n: 2 }) }]);
  assert.equal(heard.length, 1);

  connection.use({ url: URL_, token: jwt({ sub: 'ben' }) });
  await tick();
  assert.equal(world.sockets[0].closed.code, 1000);
  assert.deepEqual([heard.at(-1).state, connection.peek('a')], [null, null]);
  await tick();
  world.socket.welcome();
  assert.deepEqual(world.socket.heard()[0], { type: 'hello', token: jwt({ sub: 'ben' }) });
});

test('credentials that come late connect whatever was never let in', async (t) => {
  t.mock.method(console, 'warn', () => {});
  const { world, connection } = start();
  world.socket.welcome();
  world.socket.die(4500, 'unauthorized');
  assert.ok(connection.status().stopped);
  connection.use({ url: 'ws://elsewhere.test/ws', token: jwt({}) });
  await tick();
  assert.deepEqual([world.socket.url, connection.url], ['ws://elsewhere.test/ws', 'ws://elsewhere.test/ws']);
  world.socket.welcome();
  assert.equal(connection.status().state, 'live');
});

test('logout forgets, and hangs up until somebody is there again', async () => {
  const { world, connection } = withToken(() => jwt({ sub: 'ann' }));
  connection.watch('a', () => {});
  await tick();
  world.socket.welcome();
  world.socket.say(snapshot('a', 1, 1));
  connection.logout();
  world.wake();
  await world.pass(600_000);
  assert.deepEqual([world.sockets.length, connection.peek('a'), connection.status().stopped], [1, null, true]);
  await connection.renew();
  await tick();
  assert.equal(world.sockets.length, 2);
});
