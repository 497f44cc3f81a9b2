/** Responses that are not a gateway's, or belong to another request. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import { GATEWAY_HEADERS, pageWithoutWebSocket, httpGateway, problem, welcome } from './http-gateway.js';
import { fakeWorld, snapshot, tick } from './world.js';

const PAGES = {
  "nginx's 404": () => new Response('<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1></center><hr><center>nginx/1.24.0</center></body></html>', { status: 404, headers: { 'content-type': 'text/html' } }),
  "Traefik's 404": () => new Response('404 page not found\n', { status: 404, headers: { 'content-type': 'text/plain; charset=utf-8' } }),
  "HAProxy's 503": () => new Response('<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>', { status: 503 }),
  "Cloudflare's 502": () => new Response('<!DOCTYPE html><title>shop.example | 502: Bad gateway</title>', { status: 502, headers: { server: 'cloudflare', 'content-type': 'text/html' } }),
  "Cloudflare's 429": () => new Response('error code: 1015', { status: 429, headers: { server: 'cloudflare', 'retry-after': '30' } }),
  "nginx's 504": () => new Response('<html><head><title>504 Gateway Time-out</title></head></html>', { status: 504, headers: { 'content-type': 'text/html' } }),
  'an empty 204': () => new Response(null, { status: 204 }),
  "another application's stream": () => new Response('data: {"type":"welcome","node":"x","time":1}\n\n', { headers: { 'content-type': 'text/event-stream' } }),
  "a proxy's 401 with a field like ours": () => new Response('{"status":401,"close_code":4500,"detail":"sign in"}', { status: 401, headers: { 'content-type': 'application/problem+json' } }),
  'a firewall\'s 403': () => new Response('Forbidden', { status: 403 }),
  "another application's problem": () => new Response('{"type":"about:blank","status":404}', { status: 404, headers: { 'content-type': 'application/problem+json' } }),
  "another application's JSON": () => Response.json({}),
  'a captive portal': () => new Response('<html>Welcome to the airport</html>', { headers: { 'content-type': 'text/html' } }),
  'a login': () => new Response('{"detail":"Not authenticated"}', { status: 401, headers: { 'content-type': 'application/json' } }),
};

for (const [name, answer] of Object.entries(PAGES)) {
  test(`${name} in the gateway's place changes nothing that is shown, and is not "live"`, async () => {
    for (const events of [true, false]) {
      const { world, gateway, connection, received } = await pageWithoutWebSocket({ events });
      gateway.jobs.set('a', { seq: 3, state: { status: 'running', percent: 45 } });
      if (events) await gateway.streams[0].deliver(welcome, snapshot('a', 1, 3, { percent: 45 }));
      else await world.pass(12_000);
      await tick();
      assert.deepEqual([connection.status().state, received.at(-1)?.state.percent], ['live', 45], `${events}`);
      gateway.override = answer;
      const shown = received.length;
      const states = new Set();
      if (events) await gateway.streams[0].end();
      else gateway.answerLongPoll();
      connection.observe(({ state }) => states.add(state));
      for (let i = 0; i < 40; i++) {
        await world.pass(1_000);
        if (connection.status().transport === 'websocket' && connection.status().state === 'connecting') world.socket.drop(1006);
        await tick();
        if (i > 2) states.delete('live'); // the moment before it was detected
        if (i > 4) assert.ok(connection.isStale('a') && connection.status().state !== 'live');
      }
      assert.equal(received.length, shown, 'the bar stays as it is');
      assert.equal(connection.status().stopped, false, 'and is tried on');
      gateway.override = null;
      const before = gateway.streams.length;
      gateway.jobs.set('a', { seq: 4, state: { status: 'running', percent: 50 } });
      for (let i = 0; i < 60 && connection.status().state !== 'live'; i++) {
        await world.pass(1_000);
        if (connection.status().transport === 'websocket' && connection.status().state === 'connecting') world.socket.drop(1006);
        if (gateway.streams.length > before) await gateway.streams.at(-1).deliver(welcome, snapshot('a', 1, 4, { percent: 50 }));
      }
      assert.deepEqual([received.at(-1).state.percent, connection.isStale('a')], [50, false]);
      connection.close();
    }
  });
}

test('an id is sent unchanged, and an answer for another job is dropped', async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket({ events: false });
  const seen = [];
  for (const job of ['a/../b', '..', 'x//y', 'c/d', 'e/events', 'f']) connection.watch(job, (watched) => seen.push(watched));
  gateway.jobs.set('b', { seq: 1, state: { status: 'running' } });
  gateway.jobs.set('c/d', { seq: 1, state: { status: 'running' } });
  gateway.jobs.set('e/events', { seq: 1, state: { status: 'queued' } });
  // like a proxy that rewrites paths
  gateway.jobs.set('f', { seq: 1, state: { status: 'running' }, job: 'g' });
  await world.pass(12_000);
  await tick();
  const of = (name) => seen.filter(({ job }) => job === name).at(-1);
  for (const job of ['a/../b', '..', 'x//y']) assert.equal(of(job).denied, 'invalid_job', job);
  assert.deepEqual([of('c/d').state.status, of('e/events').state.status, of('f')], ['running', 'queued', undefined]);
  assert.ok(!gateway.polls.some(({ job }) => job === 'b'));
  assert.ok(!gateway.requests.some(({ path }) => path === '/api/jobs/e/events'), 'which is a history');
});

test("the gateway's own 503 is not an outage of the gateway, but states are stale", async () => {
  const { world, gateway, connection } = await pageWithoutWebSocket({ events: false });
  gateway.jobs.set('a', { seq: 3, state: { status: 'running', percent: 45 } });
  await world.pass(12_000);
  await tick();
  assert.equal(connection.status().state, 'live');
  gateway.override = () => problem(503, { detail: 'The broker does not answer; try again.' });
  gateway.answerLongPoll();
  await world.pass(4_000);
  assert.equal(connection.status().state, 'stale');
  gateway.override = null;
  await world.pass(4_000);
  assert.equal(connection.status().state, 'live');
});

test('a page of a forbidden origin gets the reason from /healthz, because a browser hides it', async (t) => {
  t.mock.method(console, 'warn', () => {});
  const world = fakeWorld();
  const gateway = httpGateway(world);
  gateway.override = (path) => {
    if (path !== '/healthz') throw new TypeError('Failed to fetch');
    return Response.json({ status: 'ok', close_code: 4501, detail: "add it to the gateway's --origins: https://shop.example" }, { headers: GATEWAY_HEADERS });
  };
  const connection = createConnection('ws://gateway.test/ws', world.environment);
  connection.watch('a', () => {});
  for (const wait of [250, 500]) {
    await tick();
    world.socket.drop(1006);
    await world.pass(wait);
  }
  await tick();
  assert.deepEqual([connection.status().stopped, connection.status().ending.code], [true, 4501]);
});
