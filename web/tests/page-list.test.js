import assert from 'node:assert/strict';
import { test } from 'node:test';

import { JobList } from '../src/page-list.js';

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

test('a search reads on over empty pages, and no further than it has to', async (t) => {
  const asked = answering(t, [], [], ['video:1'], ['video:2']);
  const found = [];
  await new JobList(100).find('video:', (jobs) => found.push(...jobs) > 0);
  assert.deepEqual(asked, [null, '1', '2']);
  assert.deepEqual(found, [{ job: 'video:1' }]);
});

test('a search for what there is not ends with the list', async (t) => {
  const asked = answering(t, [], []);
  await new JobList(100).find('video:', () => false);
  assert.deepEqual(asked, [null, '1']);
});
