/** A line that is opened beside the one that serves, and takes over: nobody sees anything of it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import '../src/tokens.js'; // loaded late by the client
import { fakeWorld, jwt, snapshot, step, tick } from './world.js';

const GOAWAY = { type: 'goaway', code: 1001, retry: [0, 4] };

/** Live at node n1, watching `a`, which is at 10 %; n1 has just said that it leaves. */
async function leaving({ token } = {}) {
  const world = fakeWorld();
  const connection = createConnection('ws://gateway.test/ws', { ...world.environment, ...(token && { token }) });
  const states = [];
  const heard = [];
  connection.observe(({ state }) => states.at(-1) !== state && states.push(state));
  connection.watch('a', ({ seq }) => heard.push(seq));
  await tick();
  const old = world.socket;
  old.welcome();
  const { id } = old.heard().at(-1);
  old.say({ type: 'subscriptions', id, denied: {} }, snapshot('a', 1, 1, { percent: 10 }), GOAWAY);
  return { world, connection, states, heard, old };
}

test('a node that leaves serves until another one has welcomed us', async () => {
  const { world, connection, states, heard, old } = await leaving();
  await world.pass(1_999);
  assert.equal(world.sockets.length, 1, 'not all at once: at a random moment of the window');
  await world.pass(1);
  const next = world.socket;
  assert.notEqual(next, old);
  next.open();
  old.say(step('a', 1, 1, 2));
  assert.deepEqual([heard.at(-1), next.heard()], [2, []]);
  next.say({ type: 'welcome', node: 'n2', time: 0 });
  assert.equal(old.closed.code, 1000);
  const [hello, sync] = next.heard();
  assert.deepEqual([hello.positions, sync.jobs], [{ a: [1, 2] }, ['a']]);
  next.say({ type: 'subscriptions', id: sync.id, denied: {} }, step('a', 1, 2, 3));
  assert.equal(heard.at(-1), 3);
  const { node, reconnects, violations, ending } = connection.status();
  assert.deepEqual([node, reconnects, violations, ending], ['n2', 1, 0, null]);
  assert.deepEqual(states, ['connecting', 'live']);
  await world.pass(24_000);
  assert.equal(world.sockets.length, 2, 'and nothing more is dialled');
});

test('the new line says a token of its own', async () => {
  let asked = 0;
  const { world, states } = await leaving({ token: async () => jwt({ n: ++asked }) });
  await world.pass(2_000);
  world.socket.welcome({ node: 'n2' });
  assert.deepEqual(world.socket.heard()[0], { type: 'hello', token: jwt({ n: 2 }), positions: { a: [1, 1] } });
  assert.deepEqual(states, ['connecting', 'live']);
});

test('nobody there: it is tried again and again, as long as the old one serves', async () => {
  const { world, states, old } = await leaving();
  await world.pass(2_000);
  world.socket.die(1006);
  await world.pass(2_000);
  assert.equal(world.sockets.length, 3);
  world.socket.die(1006);
  assert.deepEqual(states, ['connecting', 'live']);
  old.die(1001, 'going away');
  assert.deepEqual(states, ['connecting', 'live', 'offline']);
  await world.pass(2_000);
  world.socket.welcome({ node: 'n2' });
  assert.deepEqual([world.sockets.length, states.at(-1)], [4, 'live']);
});

test('the old one ends before the new one is there: what is under way goes on', async () => {
  const { world, connection, old } = await leaving();
  await world.pass(2_000);
  old.die(1001, 'going away');
  assert.deepEqual([connection.status().state, connection.status().ending.code], ['connecting', 1001]);
  await world.pass(5_000);
  assert.equal(world.sockets.length, 2);
  world.socket.welcome({ node: 'n2' });
  assert.deepEqual(world.socket.heard().map(({ type }) => type), ['hello', 'sync_subscriptions']);
  assert.equal(connection.status().state, 'live');
});

test('ended at once, it comes back in the window all the same', async () => {
  const { world, old } = await leaving();
  old.die(1001, 'going away');
  await world.pass(1_999);
  assert.equal(world.sockets.length, 1);
  await world.pass(1);
  assert.equal(world.sockets.length, 2);
});

test('a forgotten tab is let go', async () => {
  const { world, connection, old } = await leaving();
  world.hide();
  for (let i = 0; i < 13; i++) {
    world.socket.welcome();
    await world.pass(25_000);
    world.socket.say({ type: 'pong' });
  }
  const dialled = world.sockets.length;
  assert.notEqual(world.socket, old);
  world.socket.say(GOAWAY);
  await world.pass(4_000);
  assert.equal(connection.status().state, 'live');
  world.socket.die(1001);
  await world.pass(600_000);
  assert.equal(world.sockets.length, dialled);
  world.show();
  assert.equal(world.sockets.length, dialled + 1);
});

test('hung up, both lines end and no timer is left', async () => {
  const { world, connection, old } = await leaving();
  await world.pass(2_000);
  world.socket.open();
  connection.close();
  assert.deepEqual(world.sockets.map(({ closed }) => closed.code), [1000, 1000]);
  assert.equal(old.onmessage, null);
  assert.equal(world.pending, 0);
});

test('4100 ends one client alone: it is back in half a second, whatever the window', async () => {
  const world = fakeWorld({ random: () => 0.999 });
  const connection = createConnection('ws://gateway.test/ws', { ...world.environment, token: () => jwt({}) });
  const waits = [];
  for (let i = 0; i < 3; i++) {
    await tick();
    world.socket.welcome({ retry: [10, 30] });
    world.socket.die(4100, 'token expired');
    waits.push(Math.ceil(connection.status().retryAt - world.environment.now()));
    await world.pass(waits.at(-1));
  }
  assert.deepEqual(waits, [500, 999, 1998], 'a token that is over for good does not hammer');
});
