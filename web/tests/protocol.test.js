import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

import { backoff } from '../src/backoff.js';
import { acceptsFrame, commandsFor, hello, mayReconnect, parseFrames, retryWindow } from '../src/protocol.js';
import { MAX_MESSAGE } from '../src/constants.js';
import { snapshot, step } from './world.js';

test('a snapshot is accepted at any position', () => {
  for (const position of [null, { epoch: null, seq: 0 }, { epoch: 5, seq: 9 }]) {
    assert.equal(acceptsFrame(position, snapshot('a', 3, 4)), true);
    assert.equal(acceptsFrame(position, snapshot('a', null, 0)), true);
  }
});

test('another frame must continue the position', () => {
  const position = { epoch: 5, seq: 9 };
  assert.equal(acceptsFrame(position, step('a', 5, 9, 10)), true);
  assert.equal(acceptsFrame(position, step('a', 5, 9, 90)), true, 'conflated');
  for (const [epoch, prev, seq] of [[5, 8, 10], [5, 10, 11], [6, 9, 10], [5, 9, 9], [5, 9, 3], [5, null, 10]]) {
    assert.equal(acceptsFrame(position, step('a', epoch, prev, seq)), false);
  }
  assert.equal(acceptsFrame(null, step('a', 5, 9, 10)), false);
  assert.equal(acceptsFrame({ epoch: null, seq: 0 }, step('a', null, 0, 1)), false);
});

test('frames are split at line feeds; malformed ones are reported', () => {
  const bad = [];
  const frames = parseFrames('{"type":"ping"}\n{"type":"pong"}\nnonsense\n3\n{"x":1}\nnull\n', (line) => bad.push(line));
  assert.deepEqual(frames, [{ type: 'ping' }, { type: 'pong' }]);
  assert.deepEqual(bad, ['nonsense', '3', '{"x":1}', 'null']);
});

test('every close code of the table has its effect', async () => {
  const law = await readFile(new URL('../../docs/protocol.md', import.meta.url), 'utf8');
  const rows = [...law.matchAll(/^\| (\d{4}) \| [^|]+ \| (yes|no) \|/gm)];
  assert.ok(rows.length >= 12);
  for (const [, code, back] of rows) assert.equal(mayReconnect(Number(code)), back === 'yes', code);
});

test('which close codes forbid a reconnect', () => {
  for (const code of [1000, 1001, 1005, 1006, 1011, 1012, 1013, 4000, 4001, 4499]) assert.ok(mayReconnect(code), `${code}`);
  for (const code of [1002, 1003, 1007, 1008, 1009, 4500, 4504, 4999]) assert.ok(!mayReconnect(code), `${code}`);
});

const ids = () => {
  let id = 0;
  return () => ++id;
};
const none = new Set();

test('a changed set of jobs is one command; an equal one is none', () => {
  assert.deepEqual(commandsFor(none, new Set(['a', 'b']), none, ids(), MAX_MESSAGE), [
    { type: 'sync_subscriptions', id: 1, jobs: ['a', 'b'] },
  ]);
  assert.deepEqual(commandsFor(new Set(['a', 'b']), new Set(['b', 'a']), none, ids(), MAX_MESSAGE), []);
  assert.deepEqual(commandsFor(new Set(['a']), none, none, ids(), MAX_MESSAGE), [{ type: 'sync_subscriptions', id: 1, jobs: [] }]);
});

test('on a new connection the whole set is sent, even if it is empty', () => {
  assert.deepEqual(commandsFor(null, none, none, ids(), MAX_MESSAGE), [{ type: 'sync_subscriptions', id: 1, jobs: [] }]);
  assert.deepEqual(commandsFor(null, new Set(['a']), none, ids(), MAX_MESSAGE), [{ type: 'sync_subscriptions', id: 1, jobs: ['a'] }]);
});

test('requesting a job again is unsubscribing and subscribing', () => {
  const both = new Set(['a', 'b']);
  assert.deepEqual(commandsFor(both, both, new Set(['a', 'gone']), ids(), MAX_MESSAGE), [
    { type: 'unsubscribe', id: 1, jobs: ['a'] },
    { type: 'sync_subscriptions', id: 2, jobs: ['a', 'b'] },
  ]);
});

test('no command is larger than the limit, and together they have the same effect', () => {
  const job = (i) => `${i}`.padStart(200, 'x');
  const many = new Set(Array.from({ length: 900 }, (_, i) => job(i)));
  const fewer = new Set([...many].slice(100));
  fewer.add('new');
  for (const [known, wanted] of [[none, many], [null, many], [many, fewer]]) {
    const has = new Set(known);
    for (const command of commandsFor(known, wanted, none, ids(), MAX_MESSAGE)) {
      assert.ok(JSON.stringify(command).length < 65_536);
      if (command.type === 'subscribe') command.jobs.forEach((j) => has.add(j));
      else command.jobs.forEach((j) => has.delete(j));
      assert.notEqual(command.type, 'sync_subscriptions');
    }
    assert.deepEqual(has, wanted);
  }
});

test('hello has the known positions, as far as they fit', () => {
  const limit = { maxBytes: MAX_MESSAGE };
  assert.equal(hello([['a', null], ['b', { epoch: null, seq: 0 }]], limit), null);
  assert.deepEqual(hello([['a', { epoch: 3, seq: 4 }]], limit), { type: 'hello', positions: { a: [3, 4] } });
  assert.deepEqual(hello([], { ...limit, token: 't' }), { type: 'hello', token: 't' });
  const many = Array.from({ length: 1000 }, (_, i) => [`${i}`.padStart(200, 'x'), { epoch: 1e15, seq: i }]);
  const text = JSON.stringify(hello(many, limit));
  assert.ok(text.length < MAX_MESSAGE && text.length > MAX_MESSAGE - 600);
});

test('only a valid retry window is used', () => {
  assert.deepEqual(retryWindow([0.5, 5]), [0.5, 5]);
  for (const bad of [undefined, null, 3, [], [1], [5, 1], [-1, 2], ['1', '2'], [0, Infinity]]) assert.equal(retryWindow(bad), null);
});

test('backoff: full jitter from 0.5 s to 20 s, never below the window of the gateway', () => {
  assert.equal(backoff(0, null, 0.5), 250);
  assert.equal(backoff(1, null, 0.5), 500);
  assert.equal(backoff(50, null, 0.5), 10_000);
  for (let n = 0; n < 30; n++) assert.equal(backoff(n, null, 0), 0, 'full jitter reaches down to nothing');
  assert.equal(backoff(0, [2, 10], 0), 2000);
  assert.equal(backoff(0, [2, 10], 0.5), 6000);
  assert.equal(backoff(9, [2, 10], 0), 2000);
  assert.equal(backoff(9, [30, 90], 0.5), 60_000, 'a longer window is kept');
  assert.ok(backoff(3, [0, 0], 0.9) > 1000, 'no busy loop');
});
