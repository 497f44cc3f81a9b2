import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import '../src/fallback.js'; // loaded late by the client; here at once, so that no test waits for a disk
import { setStore } from '../src/sets.js';
import '../src/tokens.js';
import { fakeWorld, jwt, snapshot, step, tick } from './world.js';

const welcome = { type: 'welcome', node: 'n1', time: 1_000 };

/** The mark of a gateway's own answers. */
const OWN = { 'progress-gateway': 'n1', date: 'Thu, 01 Jan 1970 00:16:40 GMT' };

/** A gateway that answers HTTP only; `streams` are held by the test at the other end. */
function httpGateway(world, { events = true } = {}) {
  const gateway = { streams: [], requests: [], jobs: new Map(), sets: new Map(), polls: [], instead: null };
  world.fetch = async (url, { signal, headers }) => {
    const { pathname, searchParams } = new URL(url);
    gateway.requests.push({ path: pathname, headers, searchParams });
    if (gateway.instead) return gateway.instead(pathname);
    if (pathname === '/healthz') return Response.json({ status: 'ok', node: 'n1' }, { headers: OWN });
    if (pathname === '/api/events') {
      const stream = { jobs: searchParams.getAll('job'), set: searchParams.get('set'), signal };
      const body = new ReadableStream({
        start(controller) {
          stream.say = (...frames) => {
            for (const frame of frames) controller.enqueue(new TextEncoder().encode(`id: 1\ndata: ${JSON.stringify(frame)}\n\n`));
            return tick();
          };
          stream.raw = (text) => (controller.enqueue(new TextEncoder().encode(text)), tick());
          stream.end = () => (controller.close(), tick());
        },
        cancel: () => (stream.cancelled = true),
      });
      gateway.streams.push(stream);
      if (!events) stream.say = () => {};
      return new Response(body, { headers: OWN });
    }
    if (pathname === '/api/sets') {
      const { seq, jobs } = gateway.sets.get(searchParams.get('prefix'));
      const etag = `"9-${seq}"`;
      if (headers['if-none-match'] === etag) return new Response(null, { status: 304, headers: OWN });
      return Response.json({ epoch: 9, seq, jobs, ...figures(jobs) }, { headers: { etag, ...OWN } });
    }
    const job = decodeURIComponent(pathname.slice('/api/jobs/'.length));
    gateway.polls.push({ job, wait: searchParams.get('wait') });
    const known = gateway.jobs.get(job);
    if (known === undefined) return problem(404, { detail: 'No worker has reported this job.' });
    const etag = `"1-${known.seq}"`;
    if (headers['if-none-match'] === etag) {
      if (searchParams.has('wait')) await new Promise((resolve) => { gateway.news = resolve; });
      else return new Response(null, { status: 304, headers: OWN });
    }
    const { seq, state, job: other = job } = gateway.jobs.get(job);
    return Response.json({ job: other, epoch: 1, seq, state }, { headers: { etag: `"1-${seq}"`, ...OWN } });
  };
  return gateway;
}

/** What a set says beside its jobs. @param {string[]} jobs */
const figures = ({ length }) => ({ total: length, counts: { queued: 0, running: length, succeeded: 0, failed: 0, cancelled: 0 } });

const problem = (status, fields) =>
  new Response(JSON.stringify({ type: 'about:blank', status, ...fields }), { status, headers: { 'content-type': 'application/problem+json', ...OWN } });

/** A page on which WebSockets are refused, at its first SSE stream. */
async function blocked(options) {
  const world = fakeWorld();
  if (options?.locks) world.environment.locks = options.locks;
  const gateway = httpGateway(world, options);
  const connection = createConnection('ws://gateway.test/ws', { ...world.environment, ...options?.connection });
  const heard = [];
  connection.watch('a', (watched) => heard.push(watched));
  for (const wait of [250, 500]) {
    await tick();
    world.socket.die(1006);
    await world.pass(wait);
  }
  await tick();
  return { world, gateway, connection, heard };
}

test('after two refusals it listens over SSE, and shows the same', async () => {
  const { gateway, connection, heard } = await blocked();
  const [stream] = gateway.streams;
  assert.deepEqual(stream.jobs, ['a']);
  assert.equal(connection.status().state, 'connecting');
  await stream.say(welcome, snapshot('a', 1, 1, { percent: 10 }), step('a', 1, 1, 5, { percent: 50 }));
  assert.deepEqual([connection.status().state, connection.status().transport], ['live', 'sse']);
  assert.deepEqual(heard.map(({ state }) => state.percent), [10, 50]);
  await stream.raw('data: {"type":"progress","job":"a","epoch":1,"prev":5,');
  await stream.raw('"seq":6,"state":{"status":"running","percent":60}}\r\n\r\ndata: nonsense\n\n');
  assert.equal(heard.at(-1).state.percent, 60, 'however the bytes are cut');
  assert.equal(connection.status().violations, 1);
});

test('another wanted set is another stream, and the old one says nothing more', async () => {
  const { world, gateway, connection, heard } = await blocked();
  await gateway.streams[0].say(welcome, snapshot('a', 1, 1));
  connection.watch('b', (watched) => heard.push(watched));
  await world.pass(1_000);
  await tick();
  assert.ok(gateway.streams[0].cancelled);
  assert.deepEqual(gateway.streams[1].jobs, ['a', 'b']);
  await gateway.streams[1].say({ ...welcome, stale: true }, snapshot('a', 1, 3), snapshot('b', 1, 1));
  assert.deepEqual(heard.map(({ job, seq }) => [job, seq]), [['a', 1], ['a', 3], ['b', 1]]);
  assert.equal(connection.status().state, 'stale');
  assert.deepEqual([connection.status().violations, connection.status().reconnects], [0, 0]);
});

test('a stream of many jobs is several; what they do not hold is asked for in turn; no job id is denied', async () => {
  const { world, gateway, connection } = await blocked();
  await gateway.streams[0].say(welcome);
  const denied = new Map();
  for (let i = 0; i < 450; i++) connection.watch(`job:${i}`, ({ job, denied: why }) => denied.set(job, why));
  connection.watch('<no>', ({ job, denied: why }) => denied.set(job, why));
  await world.pass(1_000);
  await tick();
  assert.deepEqual(gateway.streams.slice(1).map(({ jobs }) => jobs.length), [100, 100, 100, 100]);
  assert.equal(denied.get('<no>'), 'invalid_job');
  assert.ok(gateway.polls.some(({ job }) => job === 'job:449'));
  assert.equal([...denied.values()].filter((why) => why === 'too_many_jobs').length, 0);
});

test('nothing wanted: it asks whether the gateway is there', async () => {
  const world = fakeWorld();
  const gateway = httpGateway(world);
  const connection = createConnection('ws://gateway.test/ws', world.environment);
  for (const wait of [250, 500]) {
    world.socket.die(1006);
    await world.pass(wait);
  }
  await tick();
  assert.deepEqual(gateway.requests.map(({ path }) => path), ['/healthz']);
  assert.equal(connection.status().state, 'live');
  world.wake();
  await tick();
  assert.equal(connection.status().roundTrip, 0);
});

test('a stream that a proxy holds back: long polling', async () => {
  const { world, gateway, connection, heard } = await blocked({ events: false });
  gateway.jobs.set('a', { seq: 3, state: { status: 'running', percent: 30 } });
  await world.pass(10_000);
  assert.equal(connection.status().ending.reason, 'no data');
  await world.pass(2_000);
  await tick();
  assert.deepEqual([connection.status().state, connection.status().transport], ['live', 'polling']);
  assert.equal(heard.at(-1).state.percent, 30);
  assert.deepEqual(gateway.polls, [{ job: 'a', wait: null }, { job: 'a', wait: '25' }]);
  gateway.jobs.set('a', { seq: 9, state: { status: 'succeeded' } });
  gateway.news();
  await world.pass(1_000);
  assert.equal(heard.at(-1).state.status, 'succeeded');
  gateway.jobs.set('a', { seq: 10, state: { status: 'running', attempt: 2 } });
  gateway.news();
  await world.pass(1_000);
  assert.equal(heard.at(-1).state.attempt, 2, 'a retry is shown as well');
});

test('polling many jobs: each every two seconds; a job never seen is said once', async () => {
  const { world, gateway, connection, heard } = await blocked({ events: false });
  for (let i = 0; i < 9; i++) connection.watch(`b${i}`, (watched) => heard.push(watched));
  await world.pass(10_000);
  await world.pass(2_000);
  await tick();
  assert.equal(connection.status().transport, 'polling');
  assert.equal(heard.filter(({ state }) => state === null).length, 10);
  gateway.jobs.set('b0', { seq: 1, state: { status: 'running' } });
  await world.pass(2_000);
  await tick();
  assert.equal(heard.at(-1).job, 'b0');
});

test('a gateway that is down fails them all, and is dialled on as before', async () => {
  const world = fakeWorld();
  const connection = createConnection('ws://gateway.test/ws', world.environment);
  connection.watch('a', () => {});
  const seen = new Set();
  connection.observe(({ state, transport }) => state === 'connecting' && seen.add(transport));
  for (let i = 0; i < 20; i++) {
    if (connection.status().transport === 'websocket' && connection.status().state === 'connecting') world.socket.die(1006);
    await world.pass(10_000);
    await tick();
  }
  assert.deepEqual([...seen], ['websocket', 'sse', 'polling']);
  assert.ok(world.sockets.length > 6);
});

test('back to a WebSocket as soon as one gets through, from where we are', async () => {
  const { world, gateway, connection, heard } = await blocked();
  const [stream] = gateway.streams;
  await stream.say(welcome, snapshot('a', 1, 1));
  await world.pass(15_000);
  assert.equal(world.sockets.length, 3);
  world.socket.die(1006);
  await stream.say(step('a', 1, 1, 2));
  assert.equal(heard.at(-1).seq, 2, 'the attempt disturbs nothing');
  await world.pass(29_000);
  assert.equal(world.sockets.length, 3, 'and the next one waits longer');
  await stream.say({ type: 'ping' });
  await world.pass(1_000);
  assert.equal(world.sockets.length, 4);
  world.socket.welcome();
  assert.deepEqual(world.socket.heard(), [
    { type: 'hello', positions: { a: [1, 2] } },
    { type: 'sync_subscriptions', id: 2, jobs: ['a'] },
  ]);
  await tick();
  assert.ok(stream.cancelled);
  assert.deepEqual([connection.status().state, connection.status().transport], ['live', 'websocket']);
  world.socket.say({ type: 'subscriptions', id: 2, denied: {} }, step('a', 1, 2, 3));
  assert.equal(heard.at(-1).seq, 3);
  assert.equal(connection.status().violations, 0);
});

test('the stream ends while a WebSocket is tried beside it: the next in turn, and no longer that', async () => {
  const { world, gateway, connection } = await blocked({ events: false });
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

test('another network is a reason to try at once', async () => {
  const { world, gateway } = await blocked();
  await gateway.streams[0].say(welcome);
  world.wake();
  assert.equal(world.sockets.length, 3);
});

test('a silent stream ends after 40 s', async () => {
  const { world, gateway, connection } = await blocked();
  await gateway.streams[0].say(welcome);
  await world.pass(39_000);
  assert.equal(connection.status().state, 'live');
  await world.pass(1_000);
  assert.equal(connection.status().ending.reason, 'silence');
});

test('the token goes in a header; what refuses it is the same as over a WebSocket', async (t) => {
  t.mock.method(console, 'warn', () => {});
  let n = 0;
  const { world, gateway, connection } = await blocked({ connection: { token: () => jwt({ n: ++n }) } });
  assert.equal(gateway.requests.at(-1).headers.authorization, `Bearer ${jwt({ n: 3 })}`);
  await gateway.streams[0].say(welcome);
  for (const [status, code, stops] of [[401, 4100, false], [401, 4502, true]]) {
    gateway.instead = () => problem(status, { close_code: code, detail: 'this is why' });
    connection.watch(`b${code}`, () => {});
    for (let i = 0; i < 9 && connection.status().ending?.code !== code; i++) {
      await world.pass(1_000);
      if (connection.status().transport === 'websocket' && world.socket.closed === null) world.socket.die(1006);
      await tick();
    }
    assert.deepEqual([connection.status().ending, connection.status().stopped], [{ code, reason: 'this is why' }, stops]);
  }
});

const PAGES = {
  "nginx's 404": () => new Response('<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1></center><hr><center>nginx/1.24.0</center></body></html>', { status: 404, headers: { 'content-type': 'text/html' } }),
  "Traefik's 404": () => new Response('404 page not found\n', { status: 404, headers: { 'content-type': 'text/plain; charset=utf-8' } }),
  "HAProxy's 503": () => new Response('<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>', { status: 503 }),
  "Cloudflare's 502": () => new Response('<!DOCTYPE html><title>shop.example | 502: Bad gateway</title>', { status: 502, headers: { server: 'cloudflare', 'content-type': 'text/html' } }),
  'a firewall\'s 403': () => new Response('Forbidden', { status: 403 }),
  "another application's problem": () => new Response('{"type":"about:blank","status":404}', { status: 404, headers: { 'content-type': 'application/problem+json' } }),
  "another application's JSON": () => Response.json({}),
  'a captive portal': () => new Response('<html>Welcome to the airport</html>', { headers: { 'content-type': 'text/html' } }),
  'a login': () => new Response('{"detail":"Not authenticated"}', { status: 401, headers: { 'content-type': 'application/json' } }),
};

for (const [name, answer] of Object.entries(PAGES)) {
  test(`${name} in the gateway's place changes nothing that is shown, and is not "live"`, async () => {
    for (const events of [true, false]) {
      const { world, gateway, connection, heard } = await blocked({ events });
      gateway.jobs.set('a', { seq: 3, state: { status: 'running', percent: 45 } });
      if (events) await gateway.streams[0].say(welcome, snapshot('a', 1, 3, { percent: 45 }));
      else await world.pass(12_000);
      await tick();
      assert.deepEqual([connection.status().state, heard.at(-1)?.state.percent], ['live', 45], `${events}`);
      gateway.instead = answer;
      const told = heard.length;
      const states = new Set();
      if (events) await gateway.streams[0].end();
      else gateway.news();
      connection.observe(({ state }) => states.add(state));
      for (let i = 0; i < 40; i++) {
        await world.pass(1_000);
        if (connection.status().transport === 'websocket' && connection.status().state === 'connecting') world.socket.die(1006);
        await tick();
        if (i > 2) states.delete('live'); // the moment before it noticed
        if (i > 4) assert.ok(connection.isStale('a') && connection.status().state !== 'live');
      }
      assert.equal(heard.length, told, 'the bar stays as it is');
      assert.equal(connection.status().stopped, false, 'and is tried on');
      gateway.instead = null;
      const before = gateway.streams.length;
      gateway.jobs.set('a', { seq: 4, state: { status: 'running', percent: 50 } });
      for (let i = 0; i < 60 && connection.status().state !== 'live'; i++) {
        await world.pass(1_000);
        if (connection.status().transport === 'websocket' && connection.status().state === 'connecting') world.socket.die(1006);
        if (gateway.streams.length > before) await gateway.streams.at(-1).say(welcome, snapshot('a', 1, 4, { percent: 50 }));
      }
      assert.deepEqual([heard.at(-1).state.percent, connection.isStale('a')], [50, false]);
      connection.close();
    }
  });
}

test('an id is asked for as it is, and an answer for another job is dropped', async () => {
  const { world, gateway, connection } = await blocked({ events: false });
  const seen = [];
  for (const job of ['a/../b', '..', 'x//y', 'c/d', 'e/events', 'f']) connection.watch(job, (watched) => seen.push(watched));
  gateway.jobs.set('b', { seq: 1, state: { status: 'running' } });
  gateway.jobs.set('c/d', { seq: 1, state: { status: 'running' } });
  gateway.jobs.set('e/events', { seq: 1, state: { status: 'queued' } });
  gateway.jobs.set('f', { seq: 1, state: { status: 'running' }, job: 'g' }); // as a proxy would have it that rewrites paths
  await world.pass(12_000);
  await tick();
  const of = (name) => seen.filter(({ job }) => job === name).at(-1);
  for (const job of ['a/../b', '..', 'x//y']) assert.equal(of(job).denied, 'invalid_job', job);
  assert.deepEqual([of('c/d').state.status, of('e/events').state.status, of('f')], ['running', 'queued', undefined]);
  assert.ok(!gateway.polls.some(({ job }) => job === 'b'));
  assert.ok(!gateway.requests.some(({ path }) => path === '/api/jobs/e/events'), 'which is a history');
});

test("the gateway's own 503 is no outage of the gateway: what is shown may be out of date", async () => {
  const { world, gateway, connection } = await blocked({ events: false });
  gateway.jobs.set('a', { seq: 3, state: { status: 'running', percent: 45 } });
  await world.pass(12_000);
  await tick();
  assert.equal(connection.status().state, 'live');
  gateway.instead = () => problem(503, { detail: 'The broker does not answer; try again.' });
  gateway.news();
  await world.pass(4_000);
  assert.equal(connection.status().state, 'stale');
  gateway.instead = null;
  await world.pass(4_000);
  assert.equal(connection.status().state, 'live');
});

/** The Web Locks of one browser, for all its tabs. */
function fakeLocks() {
  const held = new Set();
  return {
    held,
    async request(name, { ifAvailable }, callback) {
      assert.ok(ifAvailable);
      await null;
      if (held.has(name)) return callback(null);
      held.add(name);
      await callback({ name });
      held.delete(name);
    },
  };
}

test('eight tabs hold no more than four requests open; the others ask again and again', async () => {
  const locks = fakeLocks();
  const tabs = [];
  for (let i = 0; i < 8; i++) tabs.push(await blocked({ locks }));
  for (const { gateway } of tabs) gateway.jobs.set('a', { seq: 3, state: { status: 'running', percent: 30 } });
  for (const { world, gateway } of tabs) {
    await world.pass(100);
    await gateway.streams[0]?.say(welcome, snapshot('a', 1, 3, { percent: 30 }));
    await world.pass(2_000);
    await tick();
  }
  assert.equal(tabs.filter(({ gateway }) => gateway.streams.length > 0).length, 4);
  for (const { connection, heard } of tabs) assert.deepEqual([connection.status().state, heard.at(-1).state.percent], ['live', 30]);
  assert.ok(tabs.every(({ gateway }) => gateway.polls.every(({ wait }) => wait === null)));

  tabs[0].world.hide();
  await tick();
  assert.equal(locks.held.size, 3, 'a hidden tab lets go of its stream');
  await tabs[7].world.pass(4_000);
  await tick();
  assert.equal(tabs[7].gateway.streams.length, 1, 'and another one has it');
  tabs[0].gateway.jobs.set('a', { seq: 4, state: { status: 'succeeded' } });
  await tabs[0].world.pass(11_000);
  assert.equal(tabs[0].heard.at(-1).state.status, 'succeeded', 'hidden, it hears of the end all the same');
  for (const { connection } of tabs) connection.close();
  await tick();
  assert.equal(locks.held.size, 0);
});

test('maxHz is asked of a stream as well', async () => {
  const { gateway } = await blocked({ connection: { maxHz: 2 } });
  assert.equal(gateway.requests.at(-1).searchParams.get('max_hz'), '2');
});

test('a page of a forbidden origin, where a browser says only that something failed, is told by /healthz', async (t) => {
  t.mock.method(console, 'warn', () => {});
  const world = fakeWorld();
  const gateway = httpGateway(world);
  gateway.instead = (path) => {
    if (path !== '/healthz') throw new TypeError('Failed to fetch');
    return Response.json({ status: 'ok', close_code: 4501, detail: 'start the gateway with --origins https://shop.example' }, { headers: OWN });
  };
  const connection = createConnection('ws://gateway.test/ws', world.environment);
  connection.watch('a', () => {});
  for (const wait of [250, 500]) {
    await tick();
    world.socket.die(1006);
    await world.pass(wait);
  }
  await tick();
  assert.deepEqual([connection.status().stopped, connection.status().ending.code], [true, 4501]);
});

test('hung up, it asks for nothing more', async () => {
  const { world, gateway, connection } = await blocked();
  await gateway.streams[0].say(welcome);
  connection.close();
  await tick();
  assert.ok(gateway.streams[0].cancelled);
  const asked = gateway.requests.length;
  await world.pass(600_000);
  assert.equal(gateway.requests.length, asked);
});

test('a node that leaves is followed over SSE as well: asked who else is there, then listened to', async () => {
  const { world, gateway, connection, heard } = await blocked();
  const states = [];
  connection.observe(({ state }) => states.push(state));
  const [stream] = gateway.streams;
  await stream.say(welcome, snapshot('a', 1, 1), { type: 'goaway', code: 1001, retry: [0, 4] });
  await world.pass(1_999);
  await stream.say(step('a', 1, 1, 2));
  assert.deepEqual([gateway.streams.length, heard.at(-1).seq], [1, 2]);
  await world.pass(1);
  await tick();
  assert.equal(gateway.requests.at(-2).path, '/healthz');
  assert.ok(stream.cancelled);
  await gateway.streams[1].say({ ...welcome, node: 'n2' }, snapshot('a', 1, 3));
  assert.equal(heard.at(-1).seq, 3);
  const { transport, reconnects, violations } = connection.status();
  assert.deepEqual([transport, reconnects, violations], ['sse', 1, 0]);
  assert.deepEqual(new Set(states.slice(states.indexOf('live'))), new Set(['live']));
});

/** Over HTTP a set has no id. */
const set = (prev, seq, jobs) => ({ type: 'set', prefix: 'u:', epoch: 9, prev, seq, ...(prev === null && { snapshot: true }), jobs, ...figures(jobs) });

test('a set over SSE is a stream of its own, and brings the jobs that it shows', async () => {
  const { world, gateway, connection } = await blocked();
  await gateway.streams[0].say(welcome, snapshot('a', 1, 1));
  const store = setStore({ prefix: 'u:', statuses: ['running'], limit: 5 }, connection);
  const stop = store.subscribe(() => {});
  await world.pass(1_000);
  await tick();
  assert.ok(gateway.streams[0].cancelled);
  const [ofSet, named] = gateway.streams.slice(1);
  assert.deepEqual([ofSet.set, ofSet.jobs, named.set, named.jobs], ['u:', [], null, ['a']]);
  const { searchParams } = gateway.requests.find(({ searchParams }) => searchParams.has('set'));
  assert.deepEqual([searchParams.get('statuses'), searchParams.get('limit')], ['running', '5']);
  await ofSet.say(welcome, set(null, 1, ['u:1']), snapshot('u:1', 1, 1, { percent: 10 }));
  await named.say(welcome, snapshot('a', 1, 1));
  const heard = [];
  connection.watch('u:1', ({ seq }) => heard.push(seq));
  await world.pass(1_000);
  assert.deepEqual([[...store.get().jobs], heard], [['u:1'], [1]]);
  await ofSet.say(step('u:1', 1, 1, 2), set(1, 2, ['u:2', 'u:1']), snapshot('u:2', 1, 1));
  assert.deepEqual([[...store.get().jobs], heard, connection.peek('u:2').seq], [['u:2', 'u:1'], [1, 2], 1]);
  assert.equal(gateway.streams.length, 3, 'what a set shows is not asked for by its name');
  stop();
  await world.pass(1_000);
  await tick();
  assert.ok(ofSet.cancelled);
  assert.deepEqual(gateway.streams.at(-1).jobs, ['a', 'u:1'], 'now it is');
  assert.equal(connection.status().violations, 0);
});

test('what the streams of two sets tell of a job is told once, in order', async () => {
  const { world, gateway, connection } = await blocked();
  await gateway.streams[0].say(welcome, snapshot('a', 1, 1));
  const heard = [];
  connection.watch('u:1', ({ seq }) => heard.push(seq));
  for (const prefix of ['u:', 'u']) setStore({ prefix }, connection).subscribe(() => {});
  await world.pass(1_000);
  await tick();
  const show = set(null, 1, ['u:1']);
  await gateway.streams.findLast(({ set }) => set === 'u:').say(welcome, show); // so `u:1` is not asked for by its name
  await world.pass(1_000);
  await tick();
  const [one, other, named] = gateway.streams.slice(-3);
  assert.deepEqual([one.set, other.set, named.jobs], ['u:', 'u', ['a']]);
  await one.say(welcome, show, snapshot('u:1', 1, 3), step('u:1', 1, 3, 5));
  await other.say(welcome, { ...show, prefix: 'u' }, snapshot('u:1', 1, 4), step('u:1', 1, 4, 6));
  await one.say(step('u:1', 1, 5, 6), step('u:1', 1, 6, 7));
  await other.say(step('u:1', 1, 6, 7));
  assert.deepEqual(heard, [3, 5, 6, 7]);
  assert.equal(connection.status().violations, 0);
});

test('a set by polling: which jobs it shows, then each of them', async () => {
  const { world, gateway, connection } = await blocked({ events: false });
  gateway.jobs.set('u:1', { seq: 1, state: { status: 'running', percent: 10 } });
  gateway.sets.set('u:', { seq: 1, jobs: ['u:1'] });
  const store = setStore({ prefix: 'u:' }, connection);
  store.subscribe(() => {});
  await world.pass(12_000);
  await tick();
  assert.equal(connection.status().transport, 'polling');
  assert.deepEqual([[...store.get().jobs], store.get().total, connection.peek('u:1').state.percent], [['u:1'], 1, 10]);
  gateway.jobs.set('u:2', { seq: 1, state: { status: 'running', percent: 20 } });
  gateway.sets.set('u:', { seq: 2, jobs: ['u:2', 'u:1'] });
  await world.pass(4_000);
  await tick();
  assert.deepEqual([[...store.get().jobs], connection.peek('u:2').state.percent], [['u:2', 'u:1'], 20]);
  const before = store.get();
  gateway.jobs.set('u:1', { seq: 2, state: { status: 'running', percent: 30 } });
  await world.pass(4_000);
  await tick();
  assert.equal(store.get(), before, 'the set is the same');
  assert.equal(connection.peek('u:1').state.percent, 30);
});
