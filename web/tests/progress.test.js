import assert from 'node:assert/strict';
import { test } from 'node:test';

import './window.js'; // first
import { createConnection } from '../src/connection.js';
import { jobStore, progressOf } from '../src/progress.js';
import { fakeWorld, snapshot, step } from './world.js';

// The animation frames, which run when the test calls them.
let frames = [];
globalThis.document = { visibilityState: 'visible' };
globalThis.requestAnimationFrame = (callback) => frames.push(callback);
const paint = () => frames.splice(0).forEach((callback) => callback());

const NOW = 1_000;
const live = { connection: 'live', stale: false };
const progressAt = (state, { freshness = live, now = NOW, floor } = {}) =>
  progressOf('a', { job: 'a', epoch: 1, seq: 1, denied: null, snapshot: true, state }, freshness, now, floor);

test('nothing received, unknown, denied', () => {
  const nothing = progressOf('a', null, live, NOW);
  assert.deepEqual([nothing.status, nothing.loading, nothing.percent, nothing.stale], ['unknown', true, null, false]);
  assert.deepEqual([progressAt(null).status, progressAt(null).loading], ['unknown', false]);
  const denied = progressOf('a', { job: 'a', epoch: null, seq: 0, denied: 'too_many_jobs', snapshot: true, state: null }, live, NOW);
  assert.deepEqual([denied.status, denied.error], ['denied', 'too_many_jobs']);
});

test('a running job with all fields', () => {
  const at = { status: 'running', attempt: 2, percent: 40, done: 40, total: 100, unit: 'frames', phase: 'p', message: 'm', eta: 30, updated_at: NOW - 10, health: 'ok', data: 1 };
  assert.deepEqual({ ...progressAt(at) }, {
    job: 'a', status: 'running', loading: false, final: false, percent: 40, done: 40, total: 100, unit: 'frames', attempt: 2,
    phase: 'p', message: 'm', error: null, eta: 20, rate: 2, health: 'ok', data: 1, stale: false, connection: 'live',
  });
  assert.equal(progressAt({ ...at, done: undefined, total: undefined }).rate, 2, 'percent a second');
  assert.equal(progressAt({ ...at, percent: 70 }).rate, 1, 'and if `done` is of one of several phases');
  assert.deepEqual([progressAt(at, { now: NOW + 20 }).eta, progressAt(at, { now: NOW + 20 }).rate], [null, null], 'the estimate was wrong, and the rate with it');
  assert.deepEqual([20, 24, 25].map((later) => progressAt({ ...at, percent: 96 }, { now: NOW + later }).eta), [0, 0, null]);
  for (const health of ['stalled', 'lost']) assert.deepEqual([progressAt({ ...at, health }).eta, progressAt({ ...at, health }).rate], [null, null]);
  assert.equal(progressAt({ status: 'running' }).rate, null);
});

test('percent never falls within an attempt, and success is 100', () => {
  assert.equal(progressAt({ status: 'running', percent: 10 }, { floor: 30 }).percent, 30);
  assert.equal(progressAt({ status: 'succeeded', percent: 98 }).percent, 100);
  assert.equal(progressAt({ status: 'failed', percent: 40, error: 'why' }).error, 'why');
});

test('a final state is never stale', () => {
  assert.equal(progressAt({ status: 'running' }, { freshness: { connection: 'offline', stale: true } }).stale, true);
  assert.equal(progressAt({ status: 'failed' }, { freshness: { connection: 'offline', stale: true } }).stale, false);
});

function page() {
  const world = fakeWorld();
  const connection = createConnection('ws://gateway.test/ws', world.environment);
  world.socket.welcome({ time: 1_000 });
  return { world, connection };
}

test('a store reports changes once a frame, and keeps its value in between', () => {
  const { world, connection } = page();
  const store = jobStore('a', connection);
  assert.equal(store.get().loading, true);
  let changes = 0;
  const unsubscribe = store.subscribe(() => changes++);
  assert.equal(jobStore('a', connection), store, 'one for all who ask');
  world.socket.deliver({ type: 'subscriptions', id: 1, denied: {} }, snapshot('a', 1, 1, { percent: 10 }), step('a', 1, 1, 2, { percent: 30 }));
  assert.equal(changes, 0);
  paint();
  assert.equal(changes, 1);
  const value = store.get();
  assert.equal(value.percent, 30);
  world.socket.deliver({ type: 'pong' });
  paint();
  assert.equal(store.get(), value, 'nothing changed');
  unsubscribe();
  unsubscribe();
  assert.notEqual(jobStore('a', connection), store);
});

test('a bar restarts with a new attempt or a new record, and only then', () => {
  const { world, connection } = page();
  const store = jobStore('a', connection);
  const unsubscribe = store.subscribe(() => {});
  const percents = [];
  for (const frame of [
    snapshot('a', 1, 1, { percent: 70 }),
    snapshot('a', 1, 1, { percent: 60 }),
    step('a', 1, 1, 2, { attempt: 2, percent: 5 }),
    snapshot('a', 2, 1, { attempt: 2, percent: 1 }),
  ]) {
    world.socket.deliver(frame);
    paint();
    percents.push(store.get().percent);
  }
  assert.deepEqual(percents, [70, 70, 5, 1]);
  unsubscribe();
});

test('changes of two hundred jobs are reported in one frame', () => {
  const { world, connection } = page();
  let changes = 0;
  const unsubscribes = Array.from({ length: 200 }, (_, i) => jobStore(`j${i}`, connection).subscribe(() => changes++));
  paint();
  for (let i = 0; i < 200; i++) world.socket.deliver(snapshot(`j${i}`, 1, 1), step(`j${i}`, 1, 1, 2));
  assert.equal(frames.length, 1);
  paint();
  assert.equal(changes, 200);
  for (const unsubscribe of unsubscribes) unsubscribe();
});
