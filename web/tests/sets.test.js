import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConnection } from '../src/connection.js';
import { LOADING, setStore } from '../src/sets.js';
import { fakeWorld, snapshot, tick } from './world.js';

const NO_COUNTS = { queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 };
const QUERY = { prefix: 'a:' };

function liveConnection() {
  const world = fakeWorld();
  const connection = createConnection('ws://gateway.test/ws', world.environment);
  return { world, connection };
}

const set = (id, prev, seq, jobs, more = {}) => ({
  type: 'set', id, prefix: 'a:', epoch: 9, prev, seq, ...(prev === null && { snapshot: true }), total: jobs.length, counts: NO_COUNTS, jobs, ...more,
});
const state = (status, percent) => ({ status, attempt: 1, health: 'ok', percent });
const progress = (job, prev, seq, status = 'running') => ({
  type: 'progress', job, epoch: 5, prev, seq, ...(prev === null && { snapshot: true }), state: state(status, seq),
});
const commandsOf = (world, type) => world.socket.received().filter((command) => command.type === type);

/** A page that watches a set and has received these jobs. */
async function watchedSet(jobs, { onEnd } = {}) {
  const { world, connection } = liveConnection();
  const values = [];
  const store = setStore(QUERY, connection);
  const stop = store.subscribe(() => values.push(store.get()), onEnd);
  await tick();
  world.socket.welcome();
  const [{ id }] = commandsOf(world, 'watch_set');
  world.socket.deliver(set(id, null, 1, jobs), ...jobs.map((job) => progress(job, null, 1)));
  await tick();
  return { world, connection, values, store, stop, id };
}

test('the jobs of a set are known at once, and are not requested by name', async () => {
  const { world, connection, store, values } = await watchedSet(['a:1', 'a:2']);
  assert.deepEqual([...store.get().jobs], ['a:1', 'a:2']);
  assert.equal(store.get().loading, false);
  assert.equal(connection.peek('a:1').state.percent, 1);
  assert.equal(connection.isStale('a:1'), false);
  const received = [];
  connection.watch('a:1', ({ seq }) => received.push(seq));
  await world.pass(1_000);
  world.socket.deliver(progress('a:1', 1, 2));
  assert.deepEqual(received, [1, 2]);
  assert.deepEqual(commandsOf(world, 'sync_subscriptions').filter(({ jobs }) => jobs.length > 0), []);
  assert.equal(values.length, 1);
});

test('values are identical while nothing changes, and shared by all listeners of the set', async () => {
  const { world, connection, store, id } = await watchedSet(['a:1']);
  const other = setStore({ prefix: 'a:' }, connection);
  const before = store.get();
  assert.equal(other.get(), before);
  other.subscribe(() => {});
  world.socket.deliver(progress('a:1', 1, 2));
  assert.equal(store.get(), before);
  world.socket.deliver(set(id, 1, 2, ['a:2', 'a:1'], { total: 7, more: true }));
  assert.deepEqual([...store.get().jobs], ['a:2', 'a:1']);
  assert.deepEqual([store.get().total, store.get().more], [7, true]);
  await tick();
  assert.deepEqual(commandsOf(world, 'watch_set'), [], 'it was requested once');
});

test('a set that does not continue its position is requested again', async () => {
  const { world, store, id } = await watchedSet(['a:1']);
  world.socket.received();
  world.socket.deliver(set(id, 3, 4, ['a:9']));
  assert.deepEqual([...store.get().jobs], ['a:1']);
  assert.deepEqual(commandsOf(world, 'watch_set'), [{ type: 'watch_set', id, prefix: 'a:' }]);
  world.socket.deliver(set(id, 4, 5, ['a:8']));
  world.socket.deliver(set(id, null, 6, ['a:9']));
  assert.deepEqual([...store.get().jobs], ['a:9']);
});

test('a job whose frames do not continue is subscribed by name', async () => {
  const { world, connection } = await watchedSet(['a:1']);
  world.socket.received();
  world.socket.deliver(progress('a:1', 5, 6));
  assert.equal(connection.status().violations, 1);
  await world.pass(500);
  const [{ id, jobs }] = world.socket.received().filter((command) => command.jobs);
  assert.deepEqual(jobs, ['a:1']);
  world.socket.deliver({ type: 'subscriptions', id, added: ['a:1'], removed: [], unchanged: 0, denied: {} }, progress('a:1', null, 7));
  assert.equal(connection.peek('a:1').seq, 7);
});

test('each end of a job that was shown is reported once, also if others have displaced it', async () => {
  const ends = [];
  const { world, id, connection } = await watchedSet(['a:1', 'a:2'], { onEnd: ({ job, alreadyOver }) => ends.push([job, alreadyOver]) });
  world.socket.deliver(progress('a:2', 1, 2, 'failed'), set(id, 1, 2, ['a:1']));
  assert.deepEqual(ends, [['a:2', false]]);
  world.socket.deliver(set(id, 2, 3, ['a:3']), progress('a:3', null, 1, 'succeeded'));
  assert.deepEqual(ends, [['a:2', false]], 'what had ended before is not reported');
  world.socket.deliver(progress('a:1', null, 9, 'succeeded'));
  assert.deepEqual(ends, [['a:2', false], ['a:1', false]]);
  await world.pass(40_000);
  assert.equal(connection.peek('a:1'), null, 'and then it is let go');
});

test('an ended job that leaves the set is not requested by name while its bar is removed', async () => {
  const { world, connection, id } = await watchedSet(['a:1', 'a:2']);
  const unwatch = connection.watch('a:1', () => {});
  await world.pass(1_000); // so that the next change of the subscriptions is sent immediately
  world.socket.deliver(progress('a:1', 1, 2, 'succeeded'), set(id, 1, 2, ['a:2']));
  await world.pass(20);
  unwatch();
  await world.pass(1_000);
  assert.deepEqual(commandsOf(world, 'sync_subscriptions').filter(({ jobs }) => jobs.length > 0), []);
  world.socket.deliver(set(id, 2, 3, ['a:1', 'a:2']), progress('a:1', null, 4, 'failed'));
  assert.equal(connection.peek('a:1').state.status, 'failed');
});

test('after a reconnect a set begins with a snapshot, and jobs that it has lost are requested by name', async () => {
  const { world, connection, store, id } = await watchedSet(['a:1', 'a:2']);
  world.socket.deliver(set(id, 1, 2, ['a:3', 'a:2']), progress('a:3', null, 1));
  world.socket.drop();
  await world.pass(10_000);
  world.socket.welcome();
  await tick();
  const commands = world.socket.received();
  assert.deepEqual(Object.keys(commands.find(({ type }) => type === 'hello').positions).sort(), ['a:1', 'a:2', 'a:3']);
  assert.equal(commands.filter(({ type }) => type === 'watch_set').length, 1);
  assert.equal(connection.isStale('a:2'), true, 'nothing was received of it on this connection');
  world.socket.deliver({ ...set(id, null, 1, ['a:2']), epoch: 10 });
  assert.equal(connection.isStale('a:2'), false, 'of which nothing follows is up to date');
  assert.deepEqual([...store.get().jobs], ['a:2']);
  await world.pass(500);
  assert.deepEqual(commandsOf(world, 'sync_subscriptions').at(-1).jobs.sort(), ['a:1', 'a:3'], 'they may still end');
});

test('a set ends with its last listener, but not for a component that is mounted again at once', async () => {
  const { world, store, stop, id } = await watchedSet(['a:1']);
  stop();
  stop();
  const again = store.subscribe(() => {});
  await tick();
  assert.deepEqual(commandsOf(world, 'unwatch_set'), []);
  again();
  await tick();
  assert.deepEqual(commandsOf(world, 'unwatch_set'), [{ type: 'unwatch_set', id }]);
  assert.equal(store.get(), LOADING);
});

test('a denied set has the reason, and is requested again if a quota was used up', async () => {
  const { world, store, id } = await watchedSet([]);
  world.socket.received();
  world.socket.deliver({ type: 'error', id, code: 'node_full', message: 'full' });
  assert.equal(store.get().denied, 'node_full');
  await world.pass(10_000);
  assert.equal(commandsOf(world, 'watch_set').length, 1);
  world.socket.deliver(set(id, null, 1, ['a:1']));
  assert.equal(store.get().denied, null);
});

test('a job of a set that exceeds a quota is requested by name', async () => {
  const { world, connection } = await watchedSet(['a:1', 'a:2']);
  world.socket.received();
  world.socket.deliver({ type: 'subscriptions', id: null, added: [], removed: [], unchanged: 0, denied: { 'a:1': 'node_full' } });
  assert.equal(connection.peek('a:1').denied, 'node_full');
  await world.pass(2_000);
  const [{ id, jobs }] = world.socket.received().filter((command) => command.jobs);
  assert.deepEqual(jobs, ['a:1']);
  world.socket.deliver({ type: 'subscriptions', id, denied: {} }, snapshot('a:1', 1, 3));
  assert.deepEqual([connection.peek('a:1').seq, connection.peek('a:1').denied], [3, null]);
  await world.pass(60_000);
  assert.deepEqual(commandsOf(world, 'sync_subscriptions'), []);
});

test('a denied set without listeners is not requested again', async () => {
  const { world, stop, id } = await watchedSet([]);
  world.socket.received();
  world.socket.deliver({ type: 'error', id, code: 'node_full', message: 'full' });
  stop();
  await world.pass(20_000);
  assert.deepEqual(commandsOf(world, 'watch_set'), []);
});

test('another user does not see the set', async () => {
  const { world, connection, store } = await watchedSet(['a:1']);
  connection.logout();
  assert.equal(store.get(), LOADING);
  assert.equal(connection.peek('a:1')?.state ?? null, null);
  await world.pass(1_000);
});

test('a job that is also watched by name is subscribed again when the set displaces it', async () => {
  const { world, connection, id } = await watchedSet(['a:1']);
  const received = [];
  const unwatch = connection.watch('a:1', ({ seq }) => received.push(seq));
  await world.pass(1_000);
  world.socket.received();
  world.socket.deliver(set(id, 1, 2, ['a:2']), progress('a:2', null, 1));
  await world.pass(1_000);
  assert.deepEqual(commandsOf(world, 'sync_subscriptions').map(({ jobs }) => jobs), [['a:1']]);
  world.socket.deliver(progress('a:1', null, 3));
  assert.deepEqual(received, [1, 3]);
  unwatch();
  await world.pass(1_000);
  assert.deepEqual(commandsOf(world, 'sync_subscriptions').map(({ jobs }) => jobs), [[]], 'the set receives its end');
  connection.watch('a:1', () => {});
  await world.pass(1_000);
  assert.deepEqual(commandsOf(world, 'sync_subscriptions').map(({ jobs }) => jobs), [['a:1']], 'watched later');
});

test('a job that another set still shows is not subscribed by name', async () => {
  const { world, connection, id } = await watchedSet(['a:1']);
  setStore({ prefix: 'a:', limit: 9 }, connection).subscribe(() => {});
  await world.pass(1_000);
  const [{ id: otherId }] = commandsOf(world, 'watch_set');
  world.socket.deliver(set(otherId, null, 1, ['a:1']));
  connection.watch('a:1', () => {});
  await world.pass(1_000);
  world.socket.received();
  world.socket.deliver(set(id, 1, 2, []));
  await world.pass(1_000);
  world.socket.deliver(set(id, null, 3, []));
  await world.pass(1_000);
  assert.deepEqual(commandsOf(world, 'sync_subscriptions'), []);
  world.socket.deliver(set(otherId, 1, 2, []));
  await world.pass(1_000);
  assert.deepEqual(commandsOf(world, 'sync_subscriptions').map(({ jobs }) => jobs), [['a:1']]);
});

test('a set that is one too many is requested again when another one has ended', async () => {
  const { world, connection, stop } = await watchedSet([]);
  const store = setStore({ prefix: 'b:' }, connection);
  store.subscribe(() => {});
  await tick();
  const [{ id }] = commandsOf(world, 'watch_set');
  const tooMany = { type: 'error', id, code: 'too_many_sets', message: 'over 10 sets' };
  world.socket.deliver(tooMany);
  await world.pass(12_000);
  assert.deepEqual(commandsOf(world, 'watch_set'), []);
  assert.equal(store.get().denied, 'too_many_sets');
  stop();
  await tick();
  assert.deepEqual(commandsOf(world, 'watch_set').map((command) => command.id), [id]);
});

test('a set is not one too many if the one that it replaces ends just after it was requested', async () => {
  const { world, connection, stop } = await watchedSet([]);
  stop();
  const store = setStore({ prefix: 'b:' }, connection);
  store.subscribe(() => {});
  await tick();
  const [{ id }] = commandsOf(world, 'watch_set');
  world.socket.deliver({ type: 'error', id, code: 'too_many_sets', message: 'over 10 sets' });
  assert.deepEqual(commandsOf(world, 'watch_set').map((command) => command.id), [id]);
  assert.equal(store.get().denied, null);
});
