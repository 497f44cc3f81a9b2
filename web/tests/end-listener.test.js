import assert from 'node:assert/strict';
import { test } from 'node:test';

import { endListener } from '../src/end-listener.js';

const endsOf = (...states) => {
  const ends = [];
  const listener = endListener((end) => ends.push([end.attempt, end.state.status, end.alreadyOver]));
  for (const state of states) listener({ job: 'a', state });
  return ends;
};
const at = (status, attempt = 1, more) => ({ status, attempt, ...more });

test('the end of each attempt is reported once', () => {
  assert.deepEqual(endsOf(at('running'), at('failed'), at('failed'), at('running', 2), at('succeeded', 2), at('succeeded', 2)), [
    [1, 'failed', false],
    [2, 'succeeded', false],
  ]);
  assert.deepEqual(endsOf(at('running'), at('failed'), at('succeeded', 2)).length, 2, 'also one of which nothing else was received');
});

test('an end before the first state has `alreadyOver`', () => {
  assert.deepEqual(endsOf(at('failed'), at('running', 2), at('succeeded', 2)), [[1, 'failed', true], [2, 'succeeded', false]]);
  assert.deepEqual(endsOf(null, at('succeeded')), [[1, 'succeeded', false]], 'nobody had reported on it');
});

test('a record that is created again after its end was reported', () => {
  const end = at('succeeded', 1, { finished_at: 10 });
  assert.deepEqual(endsOf(at('running'), end, null, end).length, 1, 'the same, restored');
  assert.deepEqual(endsOf(at('running'), end, null, at('succeeded', 1, { finished_at: 90 })).length, 2, 'another day');
});
