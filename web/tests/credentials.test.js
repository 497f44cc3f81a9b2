/**
 * Credentials that change at any moment: while a token is requested, while a transport is opened,
 * before the answer to `hello`, between two connections, and while another connection is opened
 * beside the current one. In any order, the page ends up with the user who was configured last,
 * with a token requested after the last `renew`, and shows nothing that this user may not see.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
// The client loads these modules on demand. They are imported here, so that no test waits for the disk.
import '../src/http-transports.js';
import '../src/tokens.js';
import { fakeWorld, jwt, seeded, snapshot, step, tick } from './world.js';

const GATEWAY_URL = 'ws://gateway.test/ws';
const ANN = jwt({ sub: 'ann' });
const BEN = jwt({ sub: 'ben' });

/** A page that watches job `a`, with tokens of these providers in turn. */
function page(token) {
  const world = fakeWorld();
  const connection = createConnection(GATEWAY_URL, { ...world.environment, token });
  connection.watch('a', () => {});
  return { world, connection, configure: (token) => connection.configure({ url: GATEWAY_URL, token }) };
}

/** The page, connected as Ann, shows job `a`. */
async function pageOfAnn(token = ANN) {
  const ann = page(token);
  await tick();
  ann.world.socket.welcome();
  ann.world.socket.deliver({ type: 'subscriptions', id: 1, denied: {} }, snapshot('a', 1, 1));
  ann.world.socket.received();
  return ann;
}

/** The token that each open socket was sent last. */
const tokens = ({ sockets }) =>
  sockets.filter(({ closed }) => !closed).map(({ sent }) => sent.filter(({ token }) => token).at(-1)?.token);

test('another user, and back again while the connection is being opened', async () => {
  const { world, configure } = await pageOfAnn();
  configure(BEN);
  await tick(); // the token is known, the socket is not open yet
  configure(ANN);
  await tick();
  world.socket.welcome();
  assert.deepEqual(tokens(world), [ANN]);
});

test('a token that is requested again while a connection is opened is the one that is sent', async () => {
  let calls = 0;
  const { world, connection } = await pageOfAnn(() => jwt({ sub: 'ann', n: ++calls }));
  world.socket.drop();
  await world.pass(500); // the second token is known, the socket is not open yet
  await connection.renew();
  await tick();
  world.socket.welcome();
  assert.deepEqual(tokens(world), [jwt({ sub: 'ann', n: 3 })]);
  assert.equal(connection.peek('a').seq, 1, 'the same person: nothing is forgotten');
});

test('a second connection is not used with an earlier token', async () => {
  const { world, connection, configure } = await pageOfAnn();
  world.socket.deliver({ type: 'goaway', code: 1001, retry: [0, 2] });
  await world.pass(1_000); // the next connection is being opened
  configure(BEN);
  await world.pass(0);
  for (const socket of world.sockets) if (!socket.closed) socket.welcome();
  assert.deepEqual(tokens(world), [BEN]);
  assert.equal(connection.peek('a'), null);
});

test('the answer of an earlier request for a token never replaces that of a later one', async () => {
  const answers = [];
  const { world, connection, configure } = await pageOfAnn();
  configure(() => new Promise((resolve) => answers.push(resolve)));
  void connection.renew();
  await tick();
  answers[1](jwt({ sub: 'ann', n: 2 }));
  await tick();
  answers[0](jwt({ sub: 'ann', n: 1 }));
  await tick();
  assert.deepEqual(tokens(world), [jwt({ sub: 'ann', n: 2 })]);
});

test('new credentials that arrive while earlier ones are refused are tried', async (t) => {
  t.mock.method(console, 'warn', () => {});
  const { world, configure } = await pageOfAnn();
  let resolveToken;
  configure(() => new Promise((resolve) => { resolveToken = resolve; }));
  world.socket.drop(4502, 'revoked');
  resolveToken(jwt({ sub: 'ann', n: 2 }));
  await tick();
  resolveToken(jwt({ sub: 'ann', n: 3 }));
  await tick();
  world.socket.welcome();
  assert.deepEqual(tokens(world), [jwt({ sub: 'ann', n: 3 })]);
});

test('the refusal of an earlier token does not discard the new one', async (t) => {
  t.mock.method(console, 'warn', () => {});
  const { world, configure } = await pageOfAnn();
  configure(jwt({ sub: 'ann', n: 2 }));
  await tick();
  world.socket.drop(4500, 'the first was refused');
  for (let tries = 0; tries < 2; tries++) {
    await world.pass(1_000);
    world.socket.welcome();
    if (tokens(world)[0] === ANN) world.socket.drop(4500, 'it is refused again');
  }
  assert.deepEqual(tokens(world), [jwt({ sub: 'ann', n: 2 })]);
});

test('a token that was kept after a failed renewal is not sent for another user', async (t) => {
  t.mock.method(console, 'warn', () => {});
  let calls = 0;
  const { world, connection, configure } = await pageOfAnn(() => jwt({ sub: 'ann', n: ++calls }));
  await connection.renew();
  world.socket.drop(4500, 'the new one is refused');
  await world.pass(1_000);
  world.socket.welcome();
  assert.deepEqual(tokens(world), [jwt({ sub: 'ann', n: 1 })]);
  let resolveToken;
  configure(() => new Promise((resolve) => { resolveToken = resolve; }));
  world.socket.drop();
  await world.pass(1_000);
  resolveToken(BEN);
  await tick();
  world.socket.welcome();
  assert.deepEqual([tokens(world), connection.peek('a')], [[BEN], null]);
});

test('a token that was kept after a failed renewal is not sent after it has expired', async (t) => {
  t.mock.method(console, 'warn', () => {});
  const exp = 60; // the gateway's time is 0 at the first welcome
  let calls = 0;
  let isDown = false;
  const { world, connection } = await pageOfAnn(async () => {
    if (isDown) throw new Error('down');
    return jwt({ sub: 'ann', n: ++calls, exp: calls === 1 ? exp : exp + 9_999 });
  });
  await connection.renew();
  isDown = true;
  world.socket.drop(4500, 'the new one is refused');
  await world.pass(1_000);
  world.socket.welcome({ time: 3 });
  assert.deepEqual(tokens(world), [jwt({ sub: 'ann', n: 1, exp })]);
  isDown = false;
  for (let seconds = 0; seconds < 90; seconds++) {
    if (!world.socket.closed) world.socket.drop();
    await world.pass(1_000);
  }
  while (world.socket.closed) await world.pass(100);
  await tick();
  world.socket.welcome({ time: 99 });
  assert.deepEqual(tokens(world), [jwt({ sub: 'ann', n: calls, exp: exp + 9_999 })]);
});

test('after a logout nothing connects, whatever was pending', async () => {
  const { world, connection, configure } = await pageOfAnn();
  let resolveToken;
  configure(() => new Promise((resolve) => { resolveToken = resolve; }));
  connection.logout();
  resolveToken(BEN);
  await world.pass(60_000);
  assert.deepEqual(tokens(world), []);

  const loggedOutEarly = page(ANN);
  loggedOutEarly.configure(undefined);
  loggedOutEarly.connection.logout();
  await loggedOutEarly.world.pass(60_000);
  assert.deepEqual(tokens(loggedOutEarly.world), []);
});

test('a setting that changes before the welcome is not sent before the token', async () => {
  const { world, connection } = page(ANN);
  await tick();
  world.socket.open();
  connection.configure({ url: GATEWAY_URL, token: ANN, maxHz: 5 });
  world.socket.welcome();
  assert.deepEqual(world.socket.received()[0], { type: 'hello', token: ANN, max_hz: 5 });
});

// -- any order, any timing, each transport -------------------------------------------

/** The jobs that each user may see. */
const RIGHTS = { ann: ['a', 'c'], ben: ['b', 'c'] };
const JOBS = ['a', 'b', 'c'];
const GATEWAY_HEADERS = { 'progress-gateway': 'n' };

/**
 * A gateway that requires tokens, behind a proxy that allows some transports, with random delays.
 */
class Gateway {
  seq = 1;
  /** The claims of the last token that was accepted. */
  claims = null;
  /** The open connections and requests. */
  open = new Set();

  constructor(world, random, transport) {
    Object.assign(this, { world, random, transport });
    world.connected = (socket) => this.accept(socket);
    world.fetch = (url, options) => this.answer(new URL(url), options);
  }

  later(callback) {
    this.world.environment.setTimeout(callback, this.random() * 60);
  }

  /** @returns {any} the claims of a good token, or null */
  check(token) {
    const claims = JSON.parse(atob(token?.split('.')[1] ?? btoa('{"bad":true}')));
    return claims.bad ? null : (this.claims = claims);
  }

  frame(job, { sub }, cursor) {
    if (!RIGHTS[sub].includes(job)) return cursor === 0 ? null : snapshot(job, null, 0);
    if (cursor === this.seq) return null;
    return cursor > 0 ? step(job, 1, cursor, this.seq, { percent: this.seq }) : snapshot(job, 1, this.seq, { percent: this.seq });
  }

  report() {
    this.seq += 1;
    for (const session of this.open) session.flush();
  }

  accept(socket) {
    if (this.transport !== 'websocket') return this.later(() => socket.drop(1006));
    let claims = null;
    let positions = {};
    const cursors = new Map();
    const inOrder = [];
    const session = {
      flush: () => {
        for (const [job, cursor] of cursors) {
          const frame = this.frame(job, claims, cursor);
          if (frame !== null) socket.deliver(frame);
          cursors.set(job, frame?.seq ?? cursor);
        }
      },
      goaway: () => socket.deliver({ type: 'goaway', code: 1001, retry: [0, 1] }),
      disconnect: (code = 1006) => {
        this.open.delete(session);
        if (!socket.closed) socket.drop(code);
      },
    };
    const execute = (command) => {
      if (!this.open.has(session) || socket.closed) return this.open.delete(session);
      if (command.token !== undefined) {
        claims = this.check(command.token);
        // everything again, with the new permissions
        for (const job of cursors.keys()) cursors.set(job, null);
      }
      if (claims === null) return session.disconnect(4500);
      if (command.type === 'hello') positions = command.positions ?? {};
      if (command.jobs !== undefined) {
        for (const job of command.jobs) if (!cursors.has(job)) cursors.set(job, positions[job]?.[1] ?? null);
        socket.deliver({ type: 'subscriptions', id: command.id, denied: {} });
      }
      if (command.type === 'ping') socket.deliver({ type: 'pong' });
      session.flush();
    };
    socket.onsend = (command) => {
      inOrder.push(command);
      this.later(() => execute(inOrder.shift()));
    };
    this.open.add(session);
    this.later(() => this.open.has(session) && socket.welcome({ retry: [0, 1] }));
  }

  async answer({ pathname, searchParams }, { signal, headers }) {
    await new Promise((resolve) => this.later(resolve));
    signal.throwIfAborted();
    if (pathname === '/healthz') return Response.json({ status: 'ok' }, { headers: GATEWAY_HEADERS });
    const claims = this.check(headers.authorization?.slice('Bearer '.length));
    if (claims === null) return Response.json({ close_code: 4500, detail: 'refused' }, { status: 401, headers: GATEWAY_HEADERS });
    if (pathname === '/api/events') return new Response(this.stream(searchParams.getAll('job'), claims), { headers: GATEWAY_HEADERS });
    const job = pathname.slice('/api/jobs/'.length);
    const frame = this.frame(job, claims, null);
    const body = frame.epoch === null ? {} : { job, epoch: 1, seq: frame.seq, state: frame.state };
    return Response.json(body, { status: frame.epoch === null ? 404 : 200, headers: GATEWAY_HEADERS });
  }

  stream(jobs, claims) {
    const cursors = new Map(jobs.map((job) => [job, null]));
    let session;
    return new ReadableStream({
      cancel: () => void this.open.delete(session),
      start: (controller) => {
        if (this.transport === 'polling') return; // a proxy buffers it
        const deliver = (frame) => controller.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(frame)}\n\n`));
        session = {
          flush: () => {
            for (const [job, cursor] of cursors) {
              const frame = this.frame(job, claims, cursor);
              if (frame !== null) deliver(frame);
              cursors.set(job, frame?.seq ?? cursor);
            }
          },
          goaway: () => deliver({ type: 'goaway', code: 1001, retry: [0, 1] }),
          disconnect: () => {
            this.open.delete(session);
            controller.close();
          },
        };
        this.open.add(session);
        deliver({ type: 'welcome', node: 'n', time: 0 });
        session.flush();
      },
    });
  }
}

async function runRandomScenario(seed, transport) {
  const random = seeded(seed);
  const pick = (...choices) => choices[Math.floor(random() * choices.length)];
  const world = fakeWorld({ random });
  const gateway = new Gateway(world, random, transport);
  /** The tokens that were requested so far. */
  let calls = 0;
  let reliable = false;
  /** The user who was configured last. */
  let person = 'ann';
  /** Whether the page knows the user already; otherwise the answer with which it will. */
  let userIsKnown = true;
  let decisiveCall = 0;
  const provider = (sub) => {
    if (random() < 0.2) return jwt({ sub, n: ++calls });
    return async () => {
      const n = ++calls;
      if (random() < 0.8) await new Promise((resolve) => void world.environment.setTimeout(resolve, random() * 200));
      const chance = reliable ? 1 : random();
      userIsKnown ||= n === decisiveCall;
      if (chance < 0.1) throw new Error('the login answers 502');
      return jwt({ sub, n, ...(chance < 0.25 && { bad: true }), ...(random() < 0.3 && { exp: 60 + world.environment.now() / 1000 }) });
    };
  };
  let lastProvider = provider(person);
  const connection = createConnection(GATEWAY_URL, { ...world.environment, token: lastProvider });
  for (const job of JOBS) connection.watch(job, () => {});
  /** @returns whether it has requested a token at once */
  const requestsTokenAtOnce = (change) => {
    decisiveCall = calls + 1;
    change();
    return calls >= decisiveCall;
  };
  const configure = (sub) => {
    lastProvider = provider(sub);
    userIsKnown &&= person === sub;
    person = sub;
    const asking = requestsTokenAtOnce(() => connection.configure({ url: GATEWAY_URL, token: lastProvider }));
    userIsKnown ||= !asking;
  };
  let renewedAt = 0;
  const renew = () => {
    renewedAt = typeof lastProvider === 'string' ? 0 : calls;
    requestsTokenAtOnce(() => connection.renew());
  };
  const logout = () => {
    // Like `logout` of `settings.js`.
    if (typeof lastProvider === 'string') connection.configure({ url: GATEWAY_URL, token: (lastProvider = undefined) });
    connection.logout();
  };
  const check = (when) => {
    if (!userIsKnown) return;
    const hidden = person === 'ann' ? 'b' : 'a';
    assert.equal(connection.peek(hidden)?.state ?? null, null, `${when}: ${person} sees ${hidden}`);
  };

  if (random() < 0.8) await world.pass(transport === 'polling' ? 20_000 : 2_000);
  for (let i = 0; i < 12; i++) {
    const act = pick(
      () => configure('ann'),
      () => configure('ben'),
      () => configure(person),
      renew,
      logout,
      () => connection.retry(),
      () => gateway.report(),
      () => [...gateway.open].forEach((session) => session.disconnect()),
      () => [...gateway.open].forEach((session) => session.goaway()),
      () => world.wake(),
    );
    act();
    await world.pass(random() * pick(0, 0, 30, 100, 300, 3_000));
    await tick();
    check(`after step ${i}`);
  }

  reliable = true;
  const loggedOut = random() < 0.2;
  if (loggedOut) logout();
  else if (lastProvider === undefined || random() < 0.7) configure(pick('ann', 'ben'));
  else renew();
  // A failed provider may be called again up to ten seconds later, and a probe follows after some
  // more.
  await world.pass(60_000);
  if (loggedOut) {
    assert.deepEqual([connection.status().stopped, world.sockets.filter(({ closed, onclose }) => !closed && onclose).length], [true, 0]);
    for (const job of JOBS) assert.equal(connection.peek(job), null);
    return;
  }
  gateway.report();
  await world.pass(5_000);
  assert.match(connection.status().state, /live/);
  assert.equal(gateway.claims.sub, person);
  assert.ok(gateway.claims.n > renewedAt, 'a token from before the last `renew`');
  check('at the end');
  for (const job of RIGHTS[person]) assert.equal(connection.peek(job)?.seq, gateway.seq, job);
  assert.equal(connection.status().violations, 0);
  connection.close();
}

for (const transport of ['websocket', 'sse', 'polling']) {
  test(`credentials in any order and at any time: ${transport}`, async (t) => {
    t.mock.method(console, 'warn', () => {});
    const only = process.env['SEED'];
    const seeds = only === undefined ? Array.from({ length: transport === 'websocket' ? 400 : 60 }, (_, i) => i) : [Number(only)];
    for (const seed of seeds) {
      await runRandomScenario(seed, transport).catch((error) => {
        error.message = `seed ${seed}: ${error.message}`;
        throw error;
      });
    }
  });
}
