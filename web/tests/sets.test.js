import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import { LOADING, setStore } from '../src/sets.js';
import { fakeWorld, snapshot, tick } from './world.js';

const NONE = { queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 };
const QUERY = { prefix: 'a:' };

function live() {
  const world = fakeWorld();
  const connection = createConnection('ws://gateway.test/ws', world.environment);
  return { world, connection };
}

const set = (id, prev, seq, jobs, more = {}) => ({
  type: 'set', id, prefix: 'a:', epoch: 9, prev, seq, ...(prev === null && { snapshot: true }), total: jobs.length, counts: NONE, jobs, ...more,
});
const state = (status, percent) => ({ status, attempt: 1, health: 'ok', percent });
const progress = (job, prev, seq, status = 'running') => ({
  type: 'progress', job, epoch: 5, prev, seq, ...(prev === null && { snapshot: true }), state: state(status, seq),
});
const said = (world, type) => world.socket.heard().filter((command) => command.type === type);

/** A page that watches a set and has been shown these jobs. */
async function watching(jobs, { onEnd } = {}) {
  const { world, connection } = live();
  const values = [];
  const store = setStore(QUERY, connection);
  const stop = store.subscribe(() => values.push(store.get()), onEnd);
  await tick();
  world.socket.welcome();
  const [{ id }] = said(world, 'watch_set');
  world.socket.say(set(id, null, 1, jobs), ...jobs.map((job) => progress(job, null, 1)));
  await tick();
  return { world, connection, values, store, stop, id };
}

test('what a set shows is known at once, and its jobs are not asked for by name', async () => {
  const { world, connection, store, values } = await watching(['a:1', 'a:2']);
  assert.deepEqual([...store.get().jobs], ['a:1', 'a:2']);
  assert.equal(store.get().loading, false);
  assert.equal(connection.peek('a:1').state.percent, 1);
  assert.equal(connection.isStale('a:1'), false);
  const heard = [];
  connection.watch('a:1', ({ seq }) => heard.push(seq));
  await world.pass(1_000);
  world.socket.say(progress('a:1', 1, 2));
  assert.deepEqual(heard, [1, 2]);
  assert.deepEqual(said(world, 'sync_subscriptions').filter(({ jobs }) => jobs.length > 0), []);
  assert.equal(values.length, 1);
});

test('values are equal by identity while nothing changes, and shared by all who ask for the same', async () => {
  const { world, connection, store, id } = await watching(['a:1']);
  const other = setStore({ prefix: 'a:' }, connection);
  const before = store.get();
  assert.equal(other.get(), before);
  other.subscribe(() => {});
  world.socket.say(progress('a:1', 1, 2));
  assert.equal(store.get(), before);
  world.socket.say(set(id, 1, 2, ['a:2', 'a:1'], { total: 7, more: true }));
  assert.deepEqual([...store.get().jobs], ['a:2', 'a:1']);
  assert.deepEqual([store.get().total, store.get().more], [7, true]);
  await tick();
  assert.deepEqual(said(world, 'watch_set'), [], 'it was asked for once');
});

test('a set that does not continue what is known is asked for anew', async () => {
  const { world, store, id } = await watching(['a:1']);
  world.socket.heard();
  world.socket.say(set(id, 3, 4, ['a:9']));
  assert.deepEqual([...store.get().jobs], ['a:1']);
  assert.deepEqual(said(world, 'watch_set'), [{ type: 'watch_set', id, prefix: 'a:' }]);
  world.socket.say(set(id, 4, 5, ['a:8']));
  world.socket.say(set(id, null, 6, ['a:9']));
  assert.deepEqual([...store.get().jobs], ['a:9']);
});

test('a job whose frames do not continue is subscribed to by its name', async () => {
  const { world, connection } = await watching(['a:1']);
  world.socket.heard();
  world.socket.say(progress('a:1', 5, 6));
  assert.equal(connection.status().violations, 1);
  await world.pass(500);
  const [{ id, jobs }] = world.socket.heard().filter((command) => command.jobs);
  assert.deepEqual(jobs, ['a:1']);
  world.socket.say({ type: 'subscriptions', id, added: ['a:1'], removed: [], unchanged: 0, denied: {} }, progress('a:1', null, 7));
  assert.equal(connection.peek('a:1').seq, 7);
});

test('each end of a job that was shown is told once, also when others have displaced it', async () => {
  const ends = [];
  const { world, id, connection } = await watching(['a:1', 'a:2'], { onEnd: ({ job, alreadyOver }) => ends.push([job, alreadyOver]) });
  world.socket.say(progress('a:2', 1, 2, 'failed'), set(id, 1, 2, ['a:1']));
  assert.deepEqual(ends, [['a:2', false]]);
  world.socket.say(set(id, 2, 3, ['a:3']), progress('a:3', null, 1, 'succeeded'));
  assert.deepEqual(ends, [['a:2', false]], 'what had ended before is not told');
  world.socket.say(progress('a:1', null, 9, 'succeeded'));
  assert.deepEqual(ends, [['a:2', false], ['a:1', false]]);
  await world.pass(40_000);
  assert.equal(connection.peek('a:1'), null, 'and then it is let go');
});

test('after a lost connection it begins with a snapshot, and what is not shown any more is asked for by name', async () => {
  const { world, connection, store, id } = await watching(['a:1', 'a:2']);
  world.socket.say(set(id, 1, 2, ['a:3', 'a:2']), progress('a:3', null, 1));
  world.socket.die();
  await world.pass(10_000);
  world.socket.welcome();
  await tick();
  const commands = world.socket.heard();
  assert.deepEqual(Object.keys(commands.find(({ type }) => type === 'hello').positions).sort(), ['a:1', 'a:2', 'a:3']);
  assert.equal(commands.filter(({ type }) => type === 'watch_set').length, 1);
  assert.equal(connection.isStale('a:2'), true, 'nothing was heard of it on this connection');
  world.socket.say({ ...set(id, null, 1, ['a:2']), epoch: 10 });
  assert.equal(connection.isStale('a:2'), false, 'of which nothing follows is up to date');
  assert.deepEqual([...store.get().jobs], ['a:2']);
  await world.pass(500);
  assert.deepEqual(said(world, 'sync_subscriptions').at(-1).jobs.sort(), ['a:1', 'a:3'], 'they may still end');
});

test('it ends when nobody watches, but not for a component that is mounted again at once', async () => {
  const { world, store, stop, id } = await watching(['a:1']);
  stop();
  stop();
  const again = store.subscribe(() => {});
  await tick();
  assert.deepEqual(said(world, 'unwatch_set'), []);
  again();
  await tick();
  assert.deepEqual(said(world, 'unwatch_set'), [{ type: 'unwatch_set', id }]);
  assert.equal(store.get(), LOADING);
});

test('what is refused says why, and is asked for again where there is no room', async () => {
  const { world, store, id } = await watching([]);
  world.socket.heard();
  world.socket.say({ type: 'error', id, code: 'node_full', message: 'full' });
  assert.equal(store.get().denied, 'node_full');
  await world.pass(10_000);
  assert.equal(said(world, 'watch_set').length, 1);
  world.socket.say(set(id, null, 1, ['a:1']));
  assert.equal(store.get().denied, null);
});

test('a job in a set that there is no room for is asked for by its name', async () => {
  const { world, connection } = await watching(['a:1', 'a:2']);
  world.socket.heard();
  world.socket.say({ type: 'subscriptions', id: null, added: [], removed: [], unchanged: 0, denied: { 'a:1': 'node_full' } });
  assert.equal(connection.peek('a:1').denied, 'node_full');
  await world.pass(2_000);
  const [{ id, jobs }] = world.socket.heard().filter((command) => command.jobs);
  assert.deepEqual(jobs, ['a:1']);
  world.socket.say({ type: 'subscriptions', id, denied: {} }, snapshot('a:1', 1, 3));
  assert.deepEqual([connection.peek('a:1').seq, connection.peek('a:1').denied], [3, null]);
  await world.pass(60_000);
  assert.deepEqual(said(world, 'sync_subscriptions'), []);
});

test('what was refused is not asked for again when nobody watches it any more', async () => {
  const { world, stop, id } = await watching([]);
  world.socket.heard();
  world.socket.say({ type: 'error', id, code: 'node_full', message: 'full' });
  stop();
  await world.pass(20_000);
  assert.deepEqual(said(world, 'watch_set'), []);
});

test('another person sees nothing of it', async () => {
  const { world, connection, store } = await watching(['a:1']);
  connection.logout();
  assert.equal(store.get(), LOADING);
  assert.equal(connection.peek('a:1')?.state ?? null, null);
  await world.pass(1_000);
});
