import assert from 'node:assert/strict';
import { test } from 'node:test';

import { JobList } from '../page/list.js';

/** A gateway that looks at a few jobs for each page of its list. */
function answering(t, ...pages) {
  const asked = [];
  t.mock.method(globalThis, 'fetch', async (url) => {
    asked.push(url.searchParams.get('after'));
    const jobs = pages[asked.length - 1].map((job) => ({ job }));
    return Response.json({ jobs, next: asked.length < pages.length ? String(asked.length) : null });
  });
  return asked;
}

const all = () => true;

test('a search reads on over empty pages, until it has a page of jobs', async (t) => {
  const many = Array.from({ length: 200 }, (_, i) => `video:${i}`);
  const asked = answering(t, [], [], ['video:x'], many, ['video:y']);
  const found = [];
  await new JobList(100).find({ prefix: 'video:', status: '' }, (jobs) => found.push(...jobs), all);
  assert.deepEqual(asked, [null, '1', '2', '3']);
  assert.equal(found.length, 201);
});

test('a search for what there is not ends with the list; one that nobody wants any more ends at once', async (t) => {
  const asked = answering(t, [], []);
  await new JobList(100).find({ prefix: 'video:', status: 'failed' }, (jobs) => assert.deepEqual(jobs, []), () => asked.length < 2);
  assert.deepEqual(asked, [null, '1']);
});
