import assert from 'node:assert/strict';
import { test } from 'node:test';

import { KnownJobs, MAX_JOBS } from '../page/known-jobs.js';

const all = { search: '', prefix: '', status: '' };
const jobState = (job, seq, fields = {}) => ({ job, epoch: 1, seq, state: { status: 'running', attempt: 1, created_at: 1, updated_at: 1, ...fields } });
const names = (group) => group.map((knownJobs) => knownJobs.jobState.job);

test('progress never changes the order', () => {
  const knownJobs = new KnownJobs();
  knownJobs.update(jobState('a', 1, { created_at: 1 }));
  knownJobs.update(jobState('b', 1, { created_at: 2 }));
  knownJobs.update(jobState('q', 1, { created_at: 9, status: 'queued' }));
  assert.deepEqual(names(knownJobs.arrange(all).active), ['b', 'a', 'q']);
  assert.equal(knownJobs.update(jobState('a', 2, { created_at: 1, updated_at: 99, percent: 50 })), 'updated');
  assert.equal(knownJobs.update(jobState('b', 2, { created_at: 2, health: 'stalled' })), 'moved');
  assert.deepEqual(names(knownJobs.arrange(all).active), ['b', 'a', 'q']);
});

test('a job that ends moves at once, and moves back when it is retried', () => {
  const knownJobs = new KnownJobs();
  knownJobs.update(jobState('a', 1));
  knownJobs.update(jobState('old', 1, { status: 'failed', finished_at: 5 }));
  assert.equal(knownJobs.update(jobState('a', 2, { status: 'succeeded', finished_at: 10 })), 'moved');
  const { active, earlier } = knownJobs.arrange(all);
  assert.deepEqual([names(active), names(earlier)], [[], ['a', 'old']]);
  knownJobs.update(jobState('a', 3, { attempt: 2 }));
  assert.deepEqual(names(knownJobs.arrange(all).active), ['a'], 'a new attempt is active again');
});

test('the newer state of list and connection is used, in any order of arrival', () => {
  const knownJobs = new KnownJobs();
  knownJobs.update(jobState('a', 5, { status: 'succeeded' }));
  assert.equal(knownJobs.update(jobState('a', 4)), 'ignored');
  assert.equal(knownJobs.arrange(all).earlier[0].look, 'succeeded');
  knownJobs.update({ ...jobState('a', 1), epoch: 2 });
  assert.equal(knownJobs.arrange(all).active[0].look, 'running');
  assert.equal(knownJobs.update({ job: 'a', epoch: null, seq: 0, state: null }), 'moved');
  assert.equal(knownJobs.has('a'), false);
});

test('filters, searches and counts; lost jobs are counted as stalled', () => {
  const knownJobs = new KnownJobs();
  knownJobs.update(jobState('v:1', 1, { health: 'lost' }));
  knownJobs.update(jobState('v:2', 1, { health: 'stalled', message: 'waiting for Disk' }));
  knownJobs.update(jobState('w/3', 1, { phase: 'disk check' }));
  knownJobs.update(jobState('plain', 1));
  const find = (filter) => {
    const { active, earlier } = knownJobs.arrange({ ...all, ...filter });
    return [names(active), names(earlier)];
  };
  assert.deepEqual(find({ prefix: 'v:', status: 'stalled' }), [['v:2'], ['v:1']]);
  assert.deepEqual(find({ search: 'DISK' }), [['v:2', 'w/3'], []]);
  assert.deepEqual(find({ search: 'disk', prefix: 'w/' }), [['w/3'], []]);
  assert.deepEqual([...knownJobs.counts({ ...all, prefix: 'v:', status: 'running' })], [['lost', 1], ['stalled', 1]]);
  assert.deepEqual([...knownJobs.counts(all)], [['lost', 1], ['stalled', 1], ['running', 2]]);
  assert.deepEqual(knownJobs.prefixes(), [['v:', 2], ['w/', 1]]);
});

test('a job that is missing in two complete lists is dropped', () => {
  const knownJobs = new KnownJobs();
  knownJobs.update(jobState('a', 1));
  knownJobs.update(jobState('b', 1));
  assert.equal(knownJobs.removeUnlisted(new Set(['a'])), false);
  knownJobs.update(jobState('b', 1));
  assert.equal(knownJobs.removeUnlisted(new Set(['a'])), false, 'it was seen in between');
  assert.equal(knownJobs.removeUnlisted(new Set(['a'])), true);
  assert.deepEqual([knownJobs.has('a'), knownJobs.has('b')], [true, false]);
});

test('the number of jobs is limited, and active jobs are dropped last', () => {
  const knownJobs = new KnownJobs();
  for (let i = 0; i < MAX_JOBS; i++) knownJobs.update(jobState(`e${i}`, 1, { status: 'succeeded', finished_at: i }));
  knownJobs.update(jobState('live', 1));
  knownJobs.update(jobState('live2', 1));
  knownJobs.removeExcess();
  assert.deepEqual(['e0', 'e1', 'e2', 'live', 'live2'].map((job) => knownJobs.has(job)), [false, false, true, true, true]);
  assert.equal(knownJobs.size, MAX_JOBS);
});

test('jobs that a search has found are kept, however old they are', () => {
  const knownJobs = new KnownJobs();
  const old = { job: 'old:1', epoch: 1, seq: 1, state: { status: 'failed', finished_at: 1 } };
  for (let i = 0; i < MAX_JOBS; i++) knownJobs.update({ job: `a:${i}`, epoch: 1, seq: 1, state: { status: 'succeeded', finished_at: 100 + i } });
  knownJobs.addSearchResults([old]);
  knownJobs.update(old);
  knownJobs.removeExcess();
  assert.ok(knownJobs.has('old:1'));
  knownJobs.clearSearchResults();
  knownJobs.removeExcess();
  assert.ok(!knownJobs.has('old:1'));
});
