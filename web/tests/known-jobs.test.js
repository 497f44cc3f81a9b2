import assert from 'node:assert/strict';
import { test } from 'node:test';

import { KnownJobs, MAX_JOBS } from '../page/known-jobs.js';

const all = { search: '', prefix: '', status: '' };
const seen = (job, seq, fields = {}) => ({ job, epoch: 1, seq, state: { status: 'running', attempt: 1, created_at: 1, updated_at: 1, ...fields } });
const names = (group) => group.map((known) => known.seen.job);

test('progress never changes the order', () => {
  const known = new KnownJobs();
  known.update(seen('a', 1, { created_at: 1 }));
  known.update(seen('b', 1, { created_at: 2 }));
  known.update(seen('q', 1, { created_at: 9, status: 'queued' }));
  assert.deepEqual(names(known.arrange(all).active), ['b', 'a', 'q']);
  assert.equal(known.update(seen('a', 2, { created_at: 1, updated_at: 99, percent: 50 })), 'updated');
  assert.equal(known.update(seen('b', 2, { created_at: 2, health: 'stalled' })), 'moved');
  assert.deepEqual(names(known.arrange(all).active), ['b', 'a', 'q']);
});

test('a job that ends moves at once, and moves back when it is retried', () => {
  const known = new KnownJobs();
  known.update(seen('a', 1));
  known.update(seen('old', 1, { status: 'failed', finished_at: 5 }));
  assert.equal(known.update(seen('a', 2, { status: 'succeeded', finished_at: 10 })), 'moved');
  const { active, earlier } = known.arrange(all);
  assert.deepEqual([names(active), names(earlier)], [[], ['a', 'old']]);
  known.update(seen('a', 3, { attempt: 2 }));
  assert.deepEqual(names(known.arrange(all).active), ['a'], 'a new attempt is active again');
});

test('the newer state of list and connection is used, in any order of arrival', () => {
  const known = new KnownJobs();
  known.update(seen('a', 5, { status: 'succeeded' }));
  assert.equal(known.update(seen('a', 4)), 'ignored');
  assert.equal(known.arrange(all).earlier[0].look, 'succeeded');
  known.update({ ...seen('a', 1), epoch: 2 });
  assert.equal(known.arrange(all).active[0].look, 'running');
  assert.equal(known.update({ job: 'a', epoch: null, seq: 0, state: null }), 'moved');
  assert.equal(known.has('a'), false);
});

test('filters, searches and counts; lost jobs are counted as stalled', () => {
  const known = new KnownJobs();
  known.update(seen('v:1', 1, { health: 'lost' }));
  known.update(seen('v:2', 1, { health: 'stalled', message: 'waiting for Disk' }));
  known.update(seen('w/3', 1, { phase: 'disk check' }));
  known.update(seen('plain', 1));
  const find = (filter) => {
    const { active, earlier } = known.arrange({ ...all, ...filter });
    return [names(active), names(earlier)];
  };
  assert.deepEqual(find({ prefix: 'v:', status: 'stalled' }), [['v:2'], ['v:1']]);
  assert.deepEqual(find({ search: 'DISK' }), [['v:2', 'w/3'], []]);
  assert.deepEqual(find({ search: 'disk', prefix: 'w/' }), [['w/3'], []]);
  assert.deepEqual([...known.counts({ ...all, prefix: 'v:', status: 'running' })], [['lost', 1], ['stalled', 1]]);
  assert.deepEqual([...known.counts(all)], [['lost', 1], ['stalled', 1], ['running', 2]]);
  assert.deepEqual(known.prefixes(), [['v:', 2], ['w/', 1]]);
});

test('a job that is missing in two complete lists is dropped', () => {
  const known = new KnownJobs();
  known.update(seen('a', 1));
  known.update(seen('b', 1));
  assert.equal(known.removeUnlisted(new Set(['a'])), false);
  known.update(seen('b', 1));
  assert.equal(known.removeUnlisted(new Set(['a'])), false, 'it was seen in between');
  assert.equal(known.removeUnlisted(new Set(['a'])), true);
  assert.deepEqual([known.has('a'), known.has('b')], [true, false]);
});

test('the number of jobs is limited, and active jobs are dropped last', () => {
  const known = new KnownJobs();
  for (let i = 0; i < MAX_JOBS; i++) known.update(seen(`e${i}`, 1, { status: 'succeeded', finished_at: i }));
  known.update(seen('live', 1));
  known.update(seen('live2', 1));
  known.prune();
  assert.deepEqual(['e0', 'e1', 'e2', 'live', 'live2'].map((job) => known.has(job)), [false, false, true, true, true]);
  assert.equal(known.size, MAX_JOBS);
});

test('jobs that a search has found are kept, however old they are', () => {
  const known = new KnownJobs();
  const old = { job: 'old:1', epoch: 1, seq: 1, state: { status: 'failed', finished_at: 1 } };
  for (let i = 0; i < MAX_JOBS; i++) known.update({ job: `a:${i}`, epoch: 1, seq: 1, state: { status: 'succeeded', finished_at: 100 + i } });
  known.addSearchResults([old]);
  known.update(old);
  known.prune();
  assert.ok(known.has('old:1'));
  known.clearSearchResults();
  known.prune();
  assert.ok(!known.has('old:1'));
});
