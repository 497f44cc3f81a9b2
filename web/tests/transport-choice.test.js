import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TransportChoice } from '../src/transport-choice.js';

const fail = (choice, times, reachable = false) => Array.from({ length: times }, () => (choice.onBlocked(reachable), choice.index));

test('a WebSocket is tried twice, then HTTP and WebSockets in turn', () => {
  assert.deepEqual(fail(new TransportChoice(), 7), [0, 1, 0, 1, 0, 1, 0]);
});

test('if a WebSocket worked last, it is tried more often', () => {
  const choice = new TransportChoice();
  choice.onSuccess();
  assert.deepEqual(fail(choice, 10), [0, 0, 0, 1, 0, 0, 0, 0, 1, 0]);
});

test('if the gateway answers over HTTP, a transport that fails is replaced by the next one', () => {
  const choice = new TransportChoice();
  fail(choice, 2);
  assert.deepEqual(fail(choice, 2, true), [2, 0]);
  assert.deepEqual(fail(choice, 1), [1]);
});

test('during an outage the transport is used that worked last', () => {
  for (const index of [1, 2]) {
    const choice = new TransportChoice();
    choice.index = index;
    choice.onSuccess();
    assert.deepEqual(fail(choice, 9), Array(9).fill(index));
    choice.index = 0;
    choice.onSuccess();
    assert.deepEqual(fail(choice, 4), [0, 0, 0, 1]);
  }
});
