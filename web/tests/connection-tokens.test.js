/** A connection with a token: when it is requested, sent and renewed, and what a refusal does. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

// The client loads these modules on demand. They are imported here, so that no test waits for the disk.
import '../src/tokens.js';
import { GATEWAY_URL, answerCommands, liveConnection, startConnection, typesOf, connectionWithToken } from './connected.js';
import { jwt, snapshot, tick } from './world.js';

test('a refusal is explained once in the console, and in the status', async (t) => {
  const warn = t.mock.method(console, 'warn', () => {});
  const { world, connection } = startConnection();
  const refuse = () => {
    world.socket.open();
    world.socket.drop(4501, "add it to the gateway's --origins: https://shop.example");
  };
  refuse();
  assert.match(connection.status().ending.reason, /--origins: https:\/\/shop.example/);
  connection.retry();
  refuse();
  assert.equal(warn.mock.callCount(), 1);
  assert.match(warn.mock.calls[0].arguments[0], /4501.*--origins: https:\/\/shop.example/);
});

test('a token that has expired when it is sent is explained once, one that expires in use is not', async (t) => {
  const warn = t.mock.method(console, 'warn', () => {});
  const why = 'the token expired at 2026-11-29T15:57:47Z, its `exp`';
  const { world, connection } = connectionWithToken(() => jwt({ exp: 1 }));
  await tick();
  for (let times = 0; times < 3; times++) {
    world.socket.welcome(); // which is received before the answer to `hello`
    world.socket.drop(4100, why);
    assert.deepEqual([connection.status().ending.code, connection.status().stopped, connection.status().error], [4100, false, `closed with 4100: ${why}`]);
    for (const { length } = world.sockets; world.sockets.length === length; ) await world.pass(250);
  }
  world.socket.welcome();
  await world.pass(5_000);
  world.socket.drop(4100, 'token expired');
  assert.deepEqual(warn.mock.calls.map(({ arguments: [line] }) => line), [`progress-gateway (${connection.url}): closed with 4100: ${why}`]);
});

test('a token is requested before each connection, and sent first', async () => {
  let calls = 0;
  const { world, connection } = connectionWithToken(async () => jwt({ n: ++calls }));
  connection.watch('a', () => {});
  assert.equal(world.sockets.length, 0);
  await tick();
  world.socket.welcome();
  assert.deepEqual(world.socket.received(), [{ type: 'hello', token: jwt({ n: 1 }) }, { type: 'sync_subscriptions', id: 1, jobs: ['a'] }]);
  world.socket.deliver(snapshot('a', 1, 3));
  world.socket.drop(4100, 'token expired');
  await world.pass(1_000);
  world.socket.welcome();
  assert.deepEqual(world.socket.received()[0], { type: 'hello', token: jwt({ n: 2 }), positions: { a: [1, 3] } });
});

test('a token as text, and no token', async () => {
  const { world } = connectionWithToken(jwt({}));
  await tick();
  world.socket.welcome();
  assert.deepEqual(world.socket.received()[0], { type: 'hello', token: jwt({}) });
  const none = connectionWithToken(() => null);
  await tick();
  none.world.socket.welcome();
  assert.deepEqual(typesOf(none.world.socket.received()), ['sync_subscriptions']);
});

test('a provider that fails, or never answers, is called again', async () => {
  const answers = [() => Promise.reject(new Error('login down')), () => { throw new Error('broken'); }, () => new Promise(() => {}), () => jwt({})];
  const { world, connection } = connectionWithToken(() => answers.shift()());
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
  assert.equal(connection.status().transport, 'websocket', 'a refused login does not mean that WebSockets are blocked');
});

test('a token with an expiry is renewed on the open connection', async () => {
  let minted = 0;
  const { world, connection } = connectionWithToken(() => jwt({ exp: world_now() + 600 + minted++ }));
  function world_now() { return 1_000; }
  await tick();
  world.socket.welcome({ time: 1_000 });
  world.socket.received();
  for (let i = 0; i < 21; i++) {
    await world.pass(25_000);
    world.socket.deliver({ type: 'pong' });
  }
  assert.equal(minted, 1);
  await world.pass(20_000);
  assert.equal(minted, 2);
  const [renewal] = world.socket.received().filter(({ type }) => type === 'hello');
  assert.deepEqual(renewal, { type: 'hello', token: jwt({ exp: 1_601 }) });
  assert.equal(world.sockets.length, 1);
  assert.equal(connection.status().state, 'live');
});

test('after the announcement that its token has expired, it sends a new one at once', async () => {
  let calls = 0;
  const { world, connection } = connectionWithToken(() => jwt({ n: ++calls }));
  await tick();
  world.socket.welcome();
  world.socket.received();
  world.socket.deliver({ type: 'error', code: 'token_expired', message: 'say hello with a new token' });
  await tick();
  assert.deepEqual(world.socket.received(), [{ type: 'hello', token: jwt({ n: 2 }) }]);
  assert.deepEqual([connection.status().state, connection.status().error], ['live', null]);
});

test('a token that arrives after `close` opens no connection', async () => {
  let resolveToken;
  const { world, connection } = connectionWithToken(() => new Promise((resolve) => { resolveToken = resolve; }));
  await tick();
  connection.close();
  resolveToken(jwt({}));
  await world.pass(60_000);
  assert.equal(world.sockets.length, 0);
});

test('a text that is not a token is never sent: the page of a proxy, the answer of a login', async (t) => {
  t.mock.method(console, 'warn', () => {});
  const answers = ['<html>502 Bad Gateway</html>', '{"detail":"Not authenticated"}', jwt({})];
  const { world, connection } = connectionWithToken(async () => answers.shift());
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

test('after a failed renewal the old token is kept, and the renewal is repeated', async (t) => {
  t.mock.method(console, 'warn', () => {});
  const answers = [jwt({ exp: 1_060 }), () => { throw new Error('502'); }, '<html>', jwt({ exp: 2_000 })];
  const { world, connection } = connectionWithToken(() => { const next = answers.shift(); return typeof next === 'function' ? next() : next; });
  await tick();
  world.socket.welcome({ time: 1_000 });
  world.socket.received();
  for (const wait of [25_000, 25_000, 12_000]) {
    await world.pass(wait);
    world.socket.deliver({ type: 'pong' });
  }
  const hellos = world.socket.received().filter(({ type }) => type === 'hello');
  assert.deepEqual(hellos, [{ type: 'hello', token: jwt({ exp: 2_000 }) }]);
  assert.deepEqual([world.sockets.length, connection.status().state], [1, 'live']);
});

test('if the gateway refuses a new token, the old one is kept, and another is requested', async (t) => {
  const warn = t.mock.method(console, 'warn', () => {});
  let calls = 0;
  const { world, connection } = connectionWithToken(() => jwt({ exp: 2_000, n: ++calls }));
  await tick();
  world.socket.welcome({ time: 1_000 });
  await connection.renew();
  world.socket.drop(4500, 'the signature is of no key here');
  assert.match(warn.mock.calls[0].arguments[0], /no key here/);
  await world.pass(500);
  await tick();
  world.socket.welcome({ time: 1_000 });
  assert.equal(world.socket.received()[0].token, jwt({ exp: 2_000, n: 1 }));
  await world.pass(8_000);
  assert.equal(world.socket.received().at(-1).token, jwt({ exp: 2_000, n: 3 }));
  world.socket.drop(4502, 'revoked');
  assert.ok(connection.status().stopped);
});

test("another user's token drops all states and reconnects; one of the same user is sent", async () => {
  const { world, connection } = connectionWithToken(jwt({ sub: 'ann', n: 1 }));
  const received = [];
  connection.watch('a', (watched) => received.push(watched));
  await tick();
  world.socket.welcome();
  world.socket.deliver(snapshot('a', 1, 1));
  world.socket.received();
  connection.configure({ url: GATEWAY_URL, token: jwt({ sub: 'ann', n: 2 }) });
  await tick();
  assert.deepEqual(world.socket.received(), [{ type: 'hello', token: jwt({ sub: 'ann', n: 2 }) }]);
  assert.equal(received.length, 1);

  connection.configure({ url: GATEWAY_URL, token: jwt({ sub: 'ben' }) });
  await tick();
  assert.equal(world.sockets[0].closed.code, 1000);
  assert.deepEqual([received.at(-1).state, connection.peek('a')], [null, null]);
  await tick();
  world.socket.welcome();
  assert.deepEqual(world.socket.received()[0], { type: 'hello', token: jwt({ sub: 'ben' }) });
});

test('late credentials connect a connection that was refused before', async (t) => {
  t.mock.method(console, 'warn', () => {});
  const { world, connection } = startConnection();
  world.socket.welcome();
  world.socket.drop(4500, 'unauthorized');
  assert.ok(connection.status().stopped);
  connection.configure({ url: 'ws://elsewhere.test/ws', token: jwt({}) });
  await tick();
  assert.deepEqual([world.socket.url, connection.url], ['ws://elsewhere.test/ws', 'ws://elsewhere.test/ws']);
  world.socket.welcome();
  assert.equal(connection.status().state, 'live');
});

test('logout drops all states, and disconnects until there are new credentials', async () => {
  const { world, connection } = connectionWithToken(() => jwt({ sub: 'ann' }));
  connection.watch('a', () => {});
  await tick();
  world.socket.welcome();
  world.socket.deliver(snapshot('a', 1, 1));
  connection.logout();
  world.wake();
  await world.pass(600_000);
  assert.deepEqual([world.sockets.length, connection.peek('a'), connection.status().stopped], [1, null, true]);
  await connection.renew();
  await tick();
  assert.equal(world.sockets.length, 2);
});
