import assert from 'node:assert/strict';
import { test } from 'node:test';

import { KnownJobs, MOST, SETTLE } from '../src/page-jobs.js';

const all = { prefix: '', status: '' };
const seen = (job, seq, fields = {}) => ({ job, epoch: 1, seq, state: { status: 'running', attempt: 1, created_at: 1, updated_at: 1, ...fields } });
const names = (group) => group.map((known) => known.seen.job);

test('progress never changes the order', () => {
  const known = new KnownJobs();
  known.learn(seen('a', 1, { created_at: 1 }), 0);
  known.learn(seen('b', 1, { created_at: 2 }), 0);
  known.learn(seen('q', 1, { created_at: 9, status: 'queued' }), 0);
  assert.deepEqual(names(known.arrange(all, 0, 50).active), ['b', 'a', 'q']);
  assert.equal(known.learn(seen('a', 2, { created_at: 1, updated_at: 99, percent: 50 }), 0), false);
  assert.equal(known.learn(seen('b', 2, { created_at: 2, health: 'stalled' }), 0), true);
  assert.deepEqual(names(known.arrange(all, 0, 50).active), ['b', 'a', 'q']);
});

test('a job that ends keeps its place for a moment; one that had ended does not', () => {
  const known = new KnownJobs();
  known.learn(seen('a', 1), 0);
  known.learn(seen('old', 1, { status: 'failed', finished_at: 5 }), 0);
  known.learn(seen('a', 2, { status: 'succeeded', finished_at: 10 }), 10);
  let { active, earlier, settling } = known.arrange(all, 10, 50);
  assert.deepEqual([names(active), names(earlier), settling], [['a'], ['old'], true]);
  ({ active, earlier, settling } = known.arrange(all, 10 + SETTLE, 50));
  assert.deepEqual([names(active), names(earlier), settling], [[], ['a', 'old'], false]);
  known.learn(seen('a', 3, { attempt: 2 }), 20);
  assert.deepEqual(names(known.arrange(all, 20, 50).active), ['a'], 'a new attempt is active again');
});

test('the newer of list and connection counts, whichever comes last', () => {
  const known = new KnownJobs();
  known.learn(seen('a', 5, { status: 'succeeded' }), 0);
  assert.equal(known.learn(seen('a', 4), 0), false);
  assert.equal(known.arrange(all, 0, 50).earlier[0].look, 'succeeded');
  known.learn({ ...seen('a', 1), epoch: 2 }, 0);
  assert.equal(known.arrange(all, 0, 50).active[0].look, 'running');
  assert.equal(known.learn({ job: 'a', epoch: null, seq: 0, state: null }, 0), true);
  assert.equal(known.has('a'), false);
});

test('filters and counts; lost is among the stalled', () => {
  const known = new KnownJobs();
  known.learn(seen('v:1', 1, { health: 'lost' }), 0);
  known.learn(seen('v:2', 1, { health: 'stalled' }), 0);
  known.learn(seen('w:3', 1), 0);
  const { active, earlier } = known.arrange({ prefix: 'v:', status: 'stalled' }, 9, 50);
  assert.deepEqual([names(active), names(earlier)], [['v:2'], ['v:1']]);
  assert.deepEqual([...known.counts('v:')], [['lost', 1], ['stalled', 1]]);
  assert.deepEqual([...known.counts('')], [['lost', 1], ['stalled', 1], ['running', 1]]);
});

test('the page stays bounded, and active jobs are the last to go', () => {
  const known = new KnownJobs();
  for (let i = 0; i < MOST; i++) known.learn(seen(`e${i}`, 1, { status: 'succeeded', finished_at: i }), 0);
  known.learn(seen('live', 1), 0);
  known.learn(seen('live2', 1), 0);
  assert.deepEqual(known.prune(), ['e1', 'e0']);
  assert.deepEqual(known.prune(), []);
});
