import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TransportChoice } from '../src/transport-choice.js';

const fail = (choice, times) => Array.from({ length: times }, () => (choice.blocked(), choice.index));

test('the first transport is tried twice, each other one once, then all again', () => {
  assert.deepEqual(fail(new TransportChoice(3), 9), [0, 1, 2, 0, 0, 1, 2, 0, 0]);
});

test('if the first transport has worked before, it is tried more often', () => {
  const choice = new TransportChoice(3);
  choice.succeeded();
  assert.deepEqual(fail(choice, 5), [0, 0, 0, 1, 2]);
});

test('success resets the failures, and after a loss the first transport is tried again', () => {
  const choice = new TransportChoice(3);
  choice.blocked();
  choice.succeeded();
  choice.lost();
  assert.equal(choice.index, 0);
  fail(choice, 4);
  assert.equal(choice.index, 1);
  choice.succeeded();
  choice.lost();
  assert.equal(choice.index, 0);
  assert.deepEqual(fail(choice, 1), [1], 'once is enough: it was blocked before');
  choice.useBest();
  assert.equal(choice.index, 0);
});
