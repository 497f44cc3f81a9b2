import assert from 'node:assert/strict';
import { test } from 'node:test';

import { JobList } from '../page/list.js';

/** A gateway that checks a few jobs for each page of its list. */
function answering(t, ...pages) {
  const requested = [];
  t.mock.method(globalThis, 'fetch', async (url) => {
    requested.push(url.searchParams.get('after'));
    const jobs = pages[requested.length - 1].map((job) => ({ job }));
    return Response.json({ jobs, next: requested.length < pages.length ? String(requested.length) : null });
  });
  return requested;
}

const all = () => true;

test('a search continues over empty pages until it has enough jobs', async (t) => {
  const many = Array.from({ length: 200 }, (_, i) => `video:${i}`);
  const requested = answering(t, [], [], ['video:x'], many, ['video:y']);
  const found = [];
  await new JobList(100).search({ prefix: 'video:', status: '' }, (jobs) => found.push(...jobs), all);
  assert.deepEqual(requested, [null, '1', '2', '3']);
  assert.equal(found.length, 201);
});

test('a search without results ends with the list; a cancelled search ends at once', async (t) => {
  const requested = answering(t, [], []);
  await new JobList(100).search({ prefix: 'video:', status: 'failed' }, (jobs) => assert.deepEqual(jobs, []), () => requested.length < 2);
  assert.deepEqual(requested, [null, '1']);
});
