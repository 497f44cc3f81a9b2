/** If WebSockets are blocked, Server-Sent Events and long polling are used. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import { pageWithoutWebSocket, httpGateway, problem, welcome } from './http-gateway.js';
import { fakeWorld, jwt, snapshot, step, tick } from './world.js';

test('after two failed WebSockets it uses SSE, and shows the same', async () => {
  const { gateway, connection, received } = await pageWithoutWebSocket();
  const [stream] = gateway.streams;
  assert.deepEqual(stream.jobs, ['a']);
  assert.equal(connection.status().state, 'connecting');
  await stream.deliver(welcome, snapshot('a', 1, 1, { percent: 10 }), step('a', 1, 1, 5, { percent: 50 }));
  assert.deepEqual([connection.status().state, connection.status().transport], ['live', 'sse']);
  assert.deepEqual(received.map(({ state }) => state.percent), [10, 50]);
  await stream.deliverText('data: {"type":"progress","job":"a","epoch":1,"prev":5,');
  await stream.deliverText('"seq":6,"state":{"status":"running","percent":60}}\r\n\r\ndata: nonsense\n\n');
  assert.equal(received.at(-1).state.percent, 60, 'however the bytes are cut');
  assert.equal(connection.status().violations, 1);
});

test('a change of the wanted jobs opens another stream, and the old one delivers nothing more', async () => {
  const { world, gateway, connection, received } = await pageWithoutWebSocket();
  await gateway.streams[0].deliver(welcome, snapshot('a', 1, 1));
  connection.watch('b', (watched) => received.push(watched));
  await world.pass(1_000);
  await tick();
  assert.ok(gateway.streams[0].cancelled);
  assert.deepEqual(gateway.streams[1].jobs, ['a', 'b']);
  await gateway.streams[1].deliver({ ...welcome, stale: true }, snapshot('a', 1, 3), snapshot('b', 1, 1));
  assert.deepEqual(received.map(({ job, seq }) => [job, seq]), [['a', 1], ['a', 3], ['b', 1]]);
  assert.equal(connection.status().state, 'stale');
  assert.deepEqual([connection.status().violations, connection.status().reconnects], [0, 0]);
});

test('without wanted jobs it checks whether the gateway is available', async () => {
  const world = fakeWorld();
  const gateway = httpGateway(world);
  const connection = createConnection('ws://gateway.test/ws', world.environment);
  for (const wait of [250, 500]) {
    world.socket.drop(1006);
    await world.pass(wait);
  }
  await tick();
  assert.deepEqual(gateway.requests.map(({ path }) => path), ['/healthz']);
  assert.equal(connection.status().state, 'live');
  world.wake();
  await tick();
  assert.equal(connection.status().roundTrip, 0);
});

test('if the gateway is down, WebSockets and HTTP are tried in turn', async () => {
  const world = fakeWorld();
  const connection = createConnection('ws://gateway.test/ws', world.environment);
  connection.watch('a', () => {});
  const seen = new Set();
  connection.observe(({ state, transport }) => state === 'connecting' && seen.add(transport));
  for (let i = 0; i < 20; i++) {
    if (connection.status().transport === 'websocket' && connection.status().state === 'connecting') world.socket.drop(1006);
    await world.pass(10_000);
    await tick();
  }
  assert.deepEqual([...seen], ['websocket', 'sse']);
  assert.ok(world.sockets.length > 6);
});

test('returns to a WebSocket as soon as one opens, with the current positions', async () => {
  const { world, gateway, connection, received } = await pageWithoutWebSocket();
  const [stream] = gateway.streams;
  await stream.deliver(welcome, snapshot('a', 1, 1));
  await world.pass(15_000);
  assert.equal(world.sockets.length, 3);
  world.socket.drop(1006);
  await stream.deliver(step('a', 1, 1, 2));
  assert.equal(received.at(-1).seq, 2, 'the attempt disturbs nothing');
  await world.pass(29_000);
  assert.equal(world.sockets.length, 3, 'and the next one waits longer');
  await stream.deliver({ type: 'ping' });
  await world.pass(1_000);
  assert.equal(world.sockets.length, 4);
  world.socket.welcome();
  assert.deepEqual(world.socket.received(), [
    { type: 'hello', positions: { a: [1, 2] } },
    { type: 'sync_subscriptions', id: 2, jobs: ['a'] },
  ]);
  await tick();
  assert.ok(stream.cancelled);
  assert.deepEqual([connection.status().state, connection.status().transport], ['live', 'websocket']);
  world.socket.deliver({ type: 'subscriptions', id: 2, denied: {} }, step('a', 1, 2, 3));
  assert.equal(received.at(-1).seq, 3);
  assert.equal(connection.status().violations, 0);
});

test('if the stream ends while a WebSocket is tried beside it, the next transport is used', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket({ events: false });
  gateway.jobs.set('a', { seq: 3, state: { status: 'running' } });
  world.wake();
  const probe = world.socket;
  assert.equal(world.sockets.length, 3);
  await world.pass(9_999);
  assert.equal(probe.closed, null);
  await world.pass(1);
  assert.equal(connection.status().ending.reason, 'no data');
  assert.ok(probe.closed);
  await world.pass(2_000);
  await tick();
  assert.deepEqual([connection.status().state, connection.status().transport], ['live', 'polling']);
});

test('a change of the network causes an attempt at once', async () => {
  const { world, gateway } = await pageWithoutWebSocket();
  await gateway.streams[0].deliver(welcome);
  world.wake();
  assert.equal(world.sockets.length, 3);
});

test('a silent stream ends after 40 s', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket();
  await gateway.streams[0].deliver(welcome);
  await world.pass(39_000);
  assert.equal(connection.status().state, 'live');
  await world.pass(1_000);
  assert.equal(connection.status().ending.reason, 'silence');
});

test('the token is sent in a header; a refusal has the same effect as over a WebSocket', async (t) => {
  t.mock.method(console, 'warn', () => {});
  let n = 0;
  const { world, gateway, connection } = await pageWithoutWebSocket({ connection: { token: () => jwt({ n: ++n }) } });
  assert.equal(gateway.requests.at(-1).headers.authorization, `Bearer ${jwt({ n: 3 })}`);
  await gateway.streams[0].deliver(welcome);
  for (const [status, code, stops] of [[401, 4100, false], [401, 4502, true]]) {
    gateway.override = () => problem(status, { close_code: code, detail: 'this is why' });
    connection.watch(`b${code}`, () => {});
    for (let i = 0; i < 9 && connection.status().ending?.code !== code; i++) {
      await world.pass(1_000);
      if (connection.status().transport === 'websocket' && world.socket.closed === null) world.socket.drop(1006);
      await tick();
    }
    assert.deepEqual([connection.status().ending, connection.status().stopped], [{ code, reason: 'this is why' }, stops]);
  }
});

test('maxHz is sent for a stream too', async () => {
  const { gateway } = await pageWithoutWebSocket({ connection: { maxHz: 2 } });
  assert.equal(gateway.requests.at(-1).searchParams.get('max_hz'), '2');
});

test('after `close` it sends no more requests', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket();
  await gateway.streams[0].deliver(welcome);
  connection.close();
  await tick();
  assert.ok(gateway.streams[0].cancelled);
  const sent = gateway.requests.length;
  await world.pass(600_000);
  assert.equal(gateway.requests.length, sent);
});

test('when a node drains, SSE changes to another node: a request first, then a stream', async () => {
  const { world, gateway, connection, received } = await pageWithoutWebSocket();
  const states = [];
  connection.observe(({ state }) => states.push(state));
  const [stream] = gateway.streams;
  await stream.deliver(welcome, snapshot('a', 1, 1), { type: 'goaway', code: 1001, retry: [0, 4] });
  await world.pass(1_999);
  await stream.deliver(step('a', 1, 1, 2));
  assert.deepEqual([gateway.streams.length, received.at(-1).seq], [1, 2]);
  await world.pass(1);
  await tick();
  assert.equal(gateway.requests.at(-2).path, '/healthz');
  assert.ok(stream.cancelled);
  await gateway.streams[1].deliver({ ...welcome, node: 'n2' }, snapshot('a', 1, 3));
  assert.equal(received.at(-1).seq, 3);
  const { transport, reconnects, violations } = connection.status();
  assert.deepEqual([transport, reconnects, violations], ['sse', 1, 0]);
  assert.deepEqual(new Set(states.slice(states.indexOf('live'))), new Set(['live']));
});

test('a page that has received states says so, so that a slower node sends it nothing older', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket();
  assert.equal(gateway.streams[0].resumed, false, 'a new page is sent what the node has');
  await gateway.streams[0].deliver(welcome);
  connection.watch('b', () => {});
  await world.pass(1_000);
  await tick();
  assert.equal(gateway.streams.at(-1).resumed, false);
  await gateway.streams.at(-1).deliver(welcome, snapshot('a', 1, 1));
  connection.watch('c', () => {});
  await world.pass(1_000);
  await tick();
  assert.deepEqual([gateway.streams.at(-1).jobs, gateway.streams.at(-1).resumed], [['a', 'b', 'c'], true]);
});

test('a page that has received states over another transport says so', async () => {
  const { world, gateway } = await pageWithoutWebSocket();
  await gateway.streams[0].deliver(welcome, snapshot('a', 1, 1));
  await gateway.streams[0].end();
  for (let i = 0; i < 20 && gateway.streams.length < 2; i++) {
    if (world.socket.readyState === 0) world.socket.drop(1006);
    await world.pass(5_000);
    await tick();
  }
  assert.equal(gateway.streams[1].resumed, true);
});
