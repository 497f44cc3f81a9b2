import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Ladder } from '../src/ladder.js';

const fail = (ladder, times) => Array.from({ length: times }, () => (ladder.blocked(), ladder.step));

test('two failures, then each other transport once, then again', () => {
  assert.deepEqual(fail(new Ladder(3), 9), [0, 1, 2, 0, 0, 1, 2, 0, 0]);
});

test('where the best has worked, it is trusted longer', () => {
  const ladder = new Ladder(3);
  ladder.passed();
  assert.deepEqual(fail(ladder, 5), [0, 0, 0, 1, 2]);
});

test('what lives forgives, and what is lost is tried from the best again', () => {
  const ladder = new Ladder(3);
  ladder.blocked();
  ladder.passed();
  ladder.lost();
  assert.equal(ladder.step, 0);
  fail(ladder, 4);
  assert.equal(ladder.step, 1);
  ladder.passed();
  ladder.lost();
  assert.equal(ladder.step, 0);
  assert.deepEqual(fail(ladder, 1), [1], 'once is enough: it was blocked before');
  ladder.climb();
  assert.equal(ladder.step, 0);
});
