import assert from 'node:assert/strict';
import { test } from 'node:test';

import { endListener } from '../src/ends.js';

const heard = (...states) => {
  const ends = [];
  const listener = endListener((end) => ends.push([end.attempt, end.state.status, end.alreadyOver]));
  for (const state of states) listener({ job: 'a', state });
  return ends;
};
const at = (status, attempt = 1, more) => ({ status, attempt, ...more });

test('each attempt that ends is told once', () => {
  assert.deepEqual(heard(at('running'), at('failed'), at('failed'), at('running', 2), at('succeeded', 2), at('succeeded', 2)), [
    [1, 'failed', false],
    [2, 'succeeded', false],
  ]);
  assert.deepEqual(heard(at('running'), at('failed'), at('succeeded', 2)).length, 2, 'also one of which nothing else was heard');
});

test('what was over before says so', () => {
  assert.deepEqual(heard(at('failed'), at('running', 2), at('succeeded', 2)), [[1, 'failed', true], [2, 'succeeded', false]]);
  assert.deepEqual(heard(null, at('succeeded')), [[1, 'succeeded', false]], 'nobody had reported on it');
});

test('a record that is made anew after its end was told', () => {
  const end = at('succeeded', 1, { finished_at: 10 });
  assert.deepEqual(heard(at('running'), end, null, end).length, 1, 'the same, restored');
  assert.deepEqual(heard(at('running'), end, null, at('succeeded', 1, { finished_at: 90 })).length, 2, 'another day');
});
