/** A connection that is opened beside the current one, and replaces it without an interruption. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import '../src/tokens.js'; // loaded on demand by the client
import { fakeWorld, jwt, snapshot, step, tick } from './world.js';

const GOAWAY = { type: 'goaway', code: 1001, retry: [0, 4] };

/** Live at node n1, watching `a`, which is at 10 %; n1 has just sent `goaway`. */
async function drainingConnection({ token } = {}) {
  const world = fakeWorld();
  const connection = createConnection('ws://gateway.test/ws', { ...world.environment, ...(token && { token }) });
  const states = [];
  const received = [];
  connection.observe(({ state }) => states.at(-1) !== state && states.push(state));
  connection.watch('a', ({ seq }) => received.push(seq));
  await tick();
  const oldSocket = world.socket;
  oldSocket.welcome();
  const { id } = oldSocket.received().at(-1);
  oldSocket.deliver({ type: 'subscriptions', id, denied: {} }, snapshot('a', 1, 1, { percent: 10 }), GOAWAY);
  return { world, connection, states, received, oldSocket };
}

test('a draining node serves until another node has sent `welcome`', async () => {
  const { world, connection, states, received, oldSocket } = await drainingConnection();
  await world.pass(1_999);
  assert.equal(world.sockets.length, 1, 'not all at once: at a random moment of the window');
  await world.pass(1);
  const next = world.socket;
  assert.notEqual(next, oldSocket);
  next.open();
  oldSocket.deliver(step('a', 1, 1, 2));
  assert.deepEqual([received.at(-1), next.received()], [2, []]);
  next.deliver({ type: 'welcome', node: 'n2', time: 0 });
  assert.equal(oldSocket.closed.code, 1000);
  const [hello, sync] = next.received();
  assert.deepEqual([hello.positions, sync.jobs], [{ a: [1, 2] }, ['a']]);
  next.deliver({ type: 'subscriptions', id: sync.id, denied: {} }, step('a', 1, 2, 3));
  assert.equal(received.at(-1), 3);
  const { node, reconnects, violations, ending } = connection.status();
  assert.deepEqual([node, reconnects, violations, ending], ['n2', 1, 0, null]);
  assert.deepEqual(states, ['connecting', 'live']);
  await world.pass(24_000);
  assert.equal(world.sockets.length, 2, 'and nothing more is opened');
});

test('the new connection sends its own token', async () => {
  let calls = 0;
  const { world, states } = await drainingConnection({ token: async () => jwt({ n: ++calls }) });
  await world.pass(2_000);
  world.socket.welcome({ node: 'n2' });
  assert.deepEqual(world.socket.received()[0], { type: 'hello', token: jwt({ n: 2 }), positions: { a: [1, 1] } });
  assert.deepEqual(states, ['connecting', 'live']);
});

test('without another node it tries repeatedly, as long as the old one serves', async () => {
  const { world, states, oldSocket } = await drainingConnection();
  await world.pass(2_000);
  world.socket.drop(1006);
  await world.pass(2_000);
  assert.equal(world.sockets.length, 3);
  world.socket.drop(1006);
  assert.deepEqual(states, ['connecting', 'live']);
  oldSocket.drop(1001, 'going away');
  assert.deepEqual(states, ['connecting', 'live', 'offline']);
  await world.pass(2_000);
  world.socket.welcome({ node: 'n2' });
  assert.deepEqual([world.sockets.length, states.at(-1)], [4, 'live']);
});

test('if the old connection ends first, the new one continues to open', async () => {
  const { world, connection, oldSocket } = await drainingConnection();
  await world.pass(2_000);
  oldSocket.drop(1001, 'going away');
  assert.deepEqual([connection.status().state, connection.status().ending.code], ['connecting', 1001]);
  await world.pass(5_000);
  assert.equal(world.sockets.length, 2);
  world.socket.welcome({ node: 'n2' });
  assert.deepEqual(world.socket.received().map(({ type }) => type), ['hello', 'sync_subscriptions']);
  assert.equal(connection.status().state, 'live');
});

test('a connection that is closed at once also reconnects within the window', async () => {
  const { world, oldSocket } = await drainingConnection();
  oldSocket.drop(1001, 'going away');
  await world.pass(1_999);
  assert.equal(world.sockets.length, 1);
  await world.pass(1);
  assert.equal(world.sockets.length, 2);
});

test('a tab that is hidden for long does not reconnect', async () => {
  const { world, connection, oldSocket } = await drainingConnection();
  world.hide();
  for (let i = 0; i < 13; i++) {
    world.socket.welcome();
    await world.pass(25_000);
    world.socket.deliver({ type: 'pong' });
  }
  const opened = world.sockets.length;
  assert.notEqual(world.socket, oldSocket);
  world.socket.deliver(GOAWAY);
  await world.pass(4_000);
  assert.equal(connection.status().state, 'live');
  world.socket.drop(1001);
  await world.pass(600_000);
  assert.equal(world.sockets.length, opened);
  world.show();
  assert.equal(world.sockets.length, opened + 1);
});

test('`close` ends both connections and leaves no timer', async () => {
  const { world, connection, oldSocket } = await drainingConnection();
  await world.pass(2_000);
  world.socket.open();
  connection.close();
  assert.deepEqual(world.sockets.map(({ closed }) => closed.code), [1000, 1000]);
  assert.equal(oldSocket.onmessage, null);
  assert.equal(world.pending, 0);
});

test('after 4100, which concerns one client alone, it reconnects within half a second', async () => {
  const world = fakeWorld({ random: () => 0.999 });
  const connection = createConnection('ws://gateway.test/ws', { ...world.environment, token: () => jwt({}) });
  const waits = [];
  for (let i = 0; i < 3; i++) {
    await tick();
    world.socket.welcome({ retry: [10, 30] });
    world.socket.drop(4100, 'token expired');
    waits.push(Math.ceil(connection.status().retryAt - world.environment.now()));
    await world.pass(waits.at(-1));
  }
  assert.deepEqual(waits, [500, 999, 1998], 'a token that is over for good does not hammer');
});
