import assert from 'node:assert/strict';
import { test } from 'node:test';

import { History, changesOf } from '../page/history.js';
import { Journal } from '../page/journal.js';
import { INITIAL } from '../src/connection-status.js';

const status = (change) => ({ ...INITIAL, ...change });

test('the journal has each change of the connection, and every ping', () => {
  const journal = new Journal();
  let now = 0;
  const add = (change) => journal.add(status(change), ++now);
  add({});
  add({ state: 'live', node: 'n1' });
  add({ state: 'live', node: 'n1', roundTrip: 12 });
  add({ state: 'live', node: 'n1', roundTrip: 12 });
  add({ state: 'live', node: 'n1', roundTrip: 12, violations: 1, violation: 'a: had 1' });
  add({ state: 'stale', violations: 1 });
  add({ state: 'live', violations: 1 });
  add({ state: 'live', violations: 1, reconnects: 1, node: 'n2' });
  add({ state: 'offline', violations: 1, ending: { code: 1006, reason: 'no pong' }, retryAt: 9 });
  add({ state: 'connecting', violations: 1, transport: 'sse' });
  add({ state: 'offline', stopped: true, violations: 1, ending: { code: 4500, reason: '' }, error: 'x: y' });
  assert.deepEqual(journal.entries.map(({ text }) => text), [
    'Connecting over WebSocket',
    'Live, node n1',
    'Violation: a: had 1',
    'The gateway is not up to date with its broker',
    'The gateway is up to date again',
    'Switched without interruption to WebSocket, node n2',
    'Lost: 1006 no pong',
    'Connecting over Server-Sent Events',
    'Stopped: 4500',
    'Error: x: y',
  ]);
  assert.deepEqual(journal.pings, [12, 12]);
  for (let i = 0; i < 500; i++) {
    add({ state: 'live', roundTrip: i });
    add({ state: 'offline' });
    add({ state: 'offline', roundTrip: i });
  }
  assert.deepEqual([journal.entries.length, journal.pings.length], [100, 60]);
});

const running = (percent, more) => ({ status: 'running', attempt: 1, health: 'ok', percent, updated_at: percent, ...more });

/** Replaces `fetch` for the history of one job. */
async function loadHistory(history, body, ok = true) {
  const { fetch } = globalThis;
  globalThis.fetch = async (url) => {
    assert.match(String(url), /api\/jobs\/video:42\/events\?after=0$/);
    return ok ? Response.json(body) : Response.json({}, { status: 404 });
  };
  try {
    await history.load('video:42', new AbortController().signal);
  } finally {
    globalThis.fetch = fetch;
  }
}

test('the history has the stored events, then the received ones, without duplicates', async () => {
  const history = new History();
  history.add({ job: 'video:42', epoch: 1, seq: 3, state: running(30) });
  await loadHistory(history, { job: 'video:42', epoch: 1, events: [1, 2, 3].map((seq) => ({ seq, state: running(seq * 10) })) });
  history.add({ job: 'video:42', epoch: 1, seq: 3, state: running(30) });
  history.add({ job: 'video:42', epoch: 1, seq: 7, state: running(70) });
  assert.deepEqual(history.events.map(({ seq, percent }) => [seq, percent]), [[1, 10], [2, 20], [3, 30], [7, 70]]);
  assert.ok(history.complete);
  history.add({ job: 'video:42', epoch: 2, seq: 1, state: running(5) });
  assert.deepEqual(history.events.map(({ seq }) => seq), [1], 'another record is another history');
});

test('a gateway without a history, or with part of it', async () => {
  const history = new History();
  history.add({ job: 'video:42', epoch: 1, seq: 3, state: running(30) });
  await loadHistory(history, null, false);
  assert.deepEqual([history.events.length, history.complete], [1, false]);
  await loadHistory(history, { epoch: 1, events: [{ seq: 2, state: running(20) }], gap: { from: 1, to: 1 } });
  assert.deepEqual([history.events.map(({ seq }) => seq), history.complete], [[2, 3], false]);
  for (let seq = 4; seq < 2_000; seq++) history.add({ job: 'video:42', epoch: 1, seq, state: running(40) });
  assert.equal(history.events.length, 600);
});

test('the silence of a worker is shown one lease after its last report', () => {
  const history = new History();
  const state = running(30, { updated_at: 100, lease: 2 });
  history.add({ job: 'a', epoch: 1, seq: 1, state });
  history.add({ job: 'a', epoch: 1, seq: 2, state: { ...state, health: 'stalled' } });
  history.add({ job: 'a', epoch: 1, seq: 3, state: { ...state, health: 'lost' } });
  assert.deepEqual(history.events.map(({ at }) => at), [100, 102, 120]);
});

test('the changes of an event are described', () => {
  const changes = (before, state) => changesOf(before, state).join(', ');
  const at = running(10, { phase: 'p', message: 'm' });
  assert.equal(changes(undefined, at), 'attempt 1, running, 10%, p, m');
  assert.equal(changes(at, { ...at, percent: 11 }), '11%');
  assert.equal(changes(at, { ...at, health: 'stalled' }), 'stalled');
  assert.equal(changes({ ...at, health: 'lost' }, at), 'reporting again');
  assert.equal(changes(at, { ...at, status: 'failed', error: 'why' }), 'failed, why');
  const request = { id: 'r', verb: 'cancel', at: 1, by: 'ada' };
  assert.equal(changes(at, { ...at, request }), 'cancel requested by ada');
  assert.equal(changes({ ...at, request }, { ...at, request: { ...request, seen_at: 2 } }), 'acknowledged by the worker');
  assert.equal(changes({ ...at, request }, { ...at, request: { ...request, seen_at: 2, refused: 'no' } }), 'refused: no');
  assert.equal(changes({ ...at, request: { ...request, seen_at: 2 } }, { ...at, percent: 11, request: { ...request, seen_at: 2 } }), '11%');
  assert.equal(changes(at, at), 'details');
});
