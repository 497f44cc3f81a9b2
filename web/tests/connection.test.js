/** The states of a connection, its clock, pings and observers. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import { timeLeft } from '../src/job-state.js';
import { answerCommands, liveConnection, startConnection, typesOf } from './connected.js';
import { fakeWorld, snapshot, state, step, tick } from './world.js';

test('pings every 25 s, and disconnects from a gateway that does not answer within 5 s', async () => {
  const { world, connection } = await liveConnection();
  await world.pass(25_000);
  assert.deepEqual(typesOf(world.socket.received()), ['ping']);
  await world.pass(40);
  world.socket.deliver({ type: 'pong' });
  assert.equal(connection.status().roundTrip, 40);
  await world.pass(25_000);
  assert.deepEqual(typesOf(world.socket.received()), ['ping']);
  await world.pass(4_999);
  assert.equal(connection.status().state, 'live');
  await world.pass(1);
  assert.deepEqual(connection.status().ending, { code: 1006, reason: 'no pong' });
  assert.ok(world.sockets[0].closed);
});

test('a handshake that is never answered ends after 10 s', async () => {
  const { world, connection } = startConnection();
  await world.pass(9_999);
  assert.equal(connection.status().state, 'connecting');
  await world.pass(1);
  assert.equal(connection.status().ending.reason, 'no welcome');
  world.sockets[0].open();
  await world.pass(10_000);
  assert.deepEqual(world.sockets[0].sent, []);
});

test('late events of an old socket have no effect', async () => {
  const { world, connection, received } = await liveConnection('a');
  const oldSocket = world.socket;
  const late = { message: oldSocket.onmessage, close: oldSocket.onclose, open: oldSocket.onopen };
  await world.pass(30_000); // no pong: disconnected
  await world.pass(1_000);
  world.socket.welcome();
  answerCommands(world.socket);
  world.socket.deliver(snapshot('a', 1, 5));
  const before = connection.status();
  late.message({ data: JSON.stringify(snapshot('a', 1, 2)) });
  late.close({ code: 1008, reason: 'late' });
  oldSocket.deliver(snapshot('a', 1, 3));
  oldSocket.drop(4500);
  assert.equal(received.at(-1).seq, 5);
  assert.equal(connection.status(), before);
});

test('frames after the end in the same message are dropped', async () => {
  const { world, connection, received } = await liveConnection('a');
  connection.watch('a', ({ seq }) => seq === 1 && connection.close());
  world.socket.deliver(snapshot('a', 1, 1), step('a', 1, 1, 2));
  assert.equal(received.at(-1).seq, 1);
});

test('close is permanent, has code 1000, and leaves no timer', async () => {
  const { world, connection } = await liveConnection('a');
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

test('an invalid URL stops the connection, with the reason', async () => {
  const world = fakeWorld();
  const WebSocket = class { constructor() { throw new SyntaxError('bad url'); } };
  const connection = createConnection('nonsense', { ...world.environment, WebSocket });
  await tick();
  assert.ok(connection.status().stopped);
  assert.match(connection.status().ending.reason, /bad url/);
  assert.equal(connection.status().state, 'offline');
});

test('malformed frames and errors are counted and recorded, and have no other effect', async () => {
  const { world, connection, received } = await liveConnection('a');
  world.socket.onmessage({ data: '{"type":' });
  world.socket.onmessage({ data: new ArrayBuffer(3) });
  world.socket.deliver({ type: 'something_new' }, { type: 'error', code: 'invalid_json', message: 'no' }, snapshot('a', 1, 1));
  assert.equal(connection.status().violations, 2);
  assert.equal(connection.status().error, 'invalid_json: no');
  assert.equal(received.length, 1);
});

test('an observer that throws does not affect the others', async (t) => {
  t.mock.method(console, 'error', () => {});
  const { world, connection, states } = await liveConnection();
  connection.observe(({ state }) => { if (state === 'offline') throw new Error('broken'); });
  world.socket.drop(1006);
  assert.equal(states.at(-1), 'offline');
});

test('it is stale as long as the gateway is', async () => {
  const { world, states } = await liveConnection('a');
  world.socket.deliver({ type: 'feed', stale: true });
  world.socket.deliver({ type: 'feed', stale: false });
  world.socket.drop(4000);
  await world.pass(1_000);
  world.socket.welcome({ stale: true });
  assert.deepEqual(states, ['connecting', 'live', 'stale', 'live', 'offline', 'connecting', 'stale']);
});

test("setting the machine's clock changes neither the times nor what is stale", async () => {
  for (const hours of [-1, 1]) {
    const { world, connection } = await liveConnection('a');
    const before = connection.now();
    world.set += hours * 3_600_000;
    await world.pass(2_000);
    assert.equal(connection.now() - before, 2);
    world.socket.drop(4000);
    world.set += hours * 3_600_000;
    await world.pass(100);
    assert.equal(connection.isStale('a'), false);
    world.connected = null;
    await world.pass(1_500);
    assert.equal(connection.isStale('a'), true, `set by ${hours} h`);
  }
});

test('a pong corrects the time, and so does an event', async () => {
  const { world, connection } = await liveConnection('a');
  await world.pass(25_000);
  world.socket.deliver({ type: 'pong', time: 5_000 });
  assert.equal(connection.now(), 5_000);
  world.socket.deliver(snapshot('a', 1, 1, { updated_at: 6_000 }));
  assert.equal(connection.now(), 6_000, 'what has happened is not to come');
  world.socket.deliver(step('a', 1, 1, 2, { updated_at: 4_000 }));
  assert.equal(connection.now(), 6_000);
});

/** A connection that watches a job with an estimate of 600 s; the gateway's clock is an hour wrong, and can be set. */
async function withEstimate() {
  const { world, connection } = await liveConnection('a');
  const began = world.environment.now();
  let offset = 3_600_000;
  const time = () => (world.environment.now() + world.set - began + offset) / 1000;
  world.socket.onsend = ({ type }) => type === 'ping' && queueMicrotask(() => world.socket.deliver({ type: 'pong', time: time() }));
  let seq = 0;
  const report = () => {
    const fields = { percent: 10, eta: 600, updated_at: time() };
    world.socket.deliver(seq === 0 ? snapshot('a', 1, ++seq, fields) : step('a', 1, seq, ++seq, fields));
  };
  const left = () => timeLeft(connection.peek('a').state, connection.now(), 10);
  return { world, connection, report, left, setClock: (seconds) => (offset += seconds * 1000) };
}

test("a wrong gateway's clock does not change the estimate; if the clock is set, the next event or pong corrects it", async () => {
  const { world, connection, report, left, setClock } = await withEstimate();
  report();
  assert.equal(left(), 600);
  await world.pass(10_000);
  setClock(3_600);
  assert.equal(left(), 590);
  report();
  assert.equal(left(), 600);
  setClock(-7_200);
  report();
  assert.equal(left(), null, 'not known, rather than wrong');
  await world.pass(25_000);
  assert.equal(Math.round(left()), 575);
  assert.equal(connection.isStale('a'), false);
});

test('after the machine has slept, with a monotonic clock that stood still, times are right after 5 s', async () => {
  const { world, connection, report, left } = await withEstimate();
  report();
  await world.pass(60_000);
  world.suspend(120_000);
  await world.pass(5_000);
  assert.equal(Math.round(left()), 415);
  assert.equal(connection.status().state, 'live');
});

test('after the machine has slept, a connection that has died meanwhile is noticed within 10 s', async () => {
  const { world, connection, report } = await withEstimate();
  report();
  await world.pass(60_000);
  world.socket.onsend = null;
  world.suspend(3_600_000);
  await world.pass(10_000);
  assert.equal(connection.status().ending.reason, 'no pong');
  await world.pass(2_000);
  assert.equal(connection.isStale('a'), true);
});
