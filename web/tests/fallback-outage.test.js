/** After an outage, behind a proxy that blocks WebSockets and keeps streams back until they end. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import { httpGateway } from './http-gateway.js';
import { fakeWorld, seeded } from './world.js';

const OUTAGE = 600_000;
const JOBS = ['a', 'b', 'c', 'd', 'e'];

/** A page that polls five jobs. */
async function behindProxy(seed) {
  const world = fakeWorld({ random: seeded(seed) });
  const gateway = httpGateway(world, { events: false });
  for (const job of JOBS) gateway.jobs.set(job, { seq: 3, state: { status: 'running' } });
  world.connected = (socket) => queueMicrotask(() => socket.drop(1006));
  const connection = createConnection('ws://gateway.test/ws', world.environment);
  for (const job of JOBS) connection.watch(job, () => {});
  const until = async (state, most) => {
    let waited = 0;
    for (; connection.status().state !== state && waited < most; waited += 500) await world.pass(500);
    return waited;
  };
  return { world, gateway, connection, until };
}

for (const seed of [1, 2, 3, 4, 5]) {
  test(`a page is back within 20 s, and sends one request at a time until then, seed ${seed}`, async () => {
    const { world, gateway, connection, until } = await behindProxy(seed);
    await until('live', 60_000);
    assert.equal(connection.status().transport, 'polling');
    gateway.override = () => Promise.reject(new TypeError('refused'));
    await until('offline', 60_000);
    const [requests, sockets] = [gateway.requests.length, world.sockets.length];
    let attempts = 0;
    let before = '';
    const stop = connection.observe(({ state }) => {
      if (state === 'connecting' && before !== state) attempts += 1;
      before = state;
    });
    await world.pass(OUTAGE);
    stop();
    assert.ok(attempts > 40);
    assert.equal(gateway.requests.length + world.sockets.length - requests - sockets, attempts);
    gateway.override = null;
    assert.ok((await until('live', OUTAGE)) <= 20_000);
  });
}

test('a page that is opened during the outage is back within 50 s', async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const { world, gateway, until } = await behindProxy(seed);
    gateway.override = () => Promise.reject(new TypeError('refused'));
    await world.pass(OUTAGE);
    gateway.override = null;
    assert.ok((await until('live', OUTAGE)) <= 50_000);
  }
});

test('if streams are kept back from now on, the page polls without a pause', async () => {
  const { gateway, connection, until } = await behindProxy(1);
  await until('live', 60_000);
  const paths = gateway.requests.map(({ path }) => path);
  assert.deepEqual(paths.slice(0, 3), ['/healthz', '/api/events', '/healthz']);
  assert.equal(connection.status().transport, 'polling');
});
