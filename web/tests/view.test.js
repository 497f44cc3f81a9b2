import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ago, describe, duration, rateText, roundedElapsed, roundedDuration } from '../src/view.js';

const NOW = 1_000;
const viewOf = (state, floor) => describe({ job: 'a', epoch: 1, seq: 1, denied: null, state }, NOW, floor);

test('nothing received, unknown, denied', () => {
  assert.deepEqual([describe(null, NOW).look, describe(null, NOW).figure], ['unknown', '']);
  assert.equal(viewOf(null).figure, 'Not known yet');
  const denied = describe({ job: 'a', epoch: null, seq: 0, state: null, denied: 'too_many_jobs' }, NOW);
  assert.equal(denied.look, 'denied');
  assert.match(denied.message, /more jobs/);
  assert.equal(describe({ job: 'a', epoch: null, seq: 0, state: null, denied: 'toString' }, NOW).look, 'denied');
});

test('a running job', () => {
  const view = viewOf({ status: 'running', attempt: 2, health: 'ok', percent: 37.99, done: 444, total: 1200, unit: 'frames', phase: 'encoding', message: 'scene 3', eta: 30, updated_at: NOW - 10 });
  assert.deepEqual(
    [view.look, view.figure, view.attempt, view.amount, view.time],
    ['running', '37%', 'attempt 2', '444 / 1,200 frames', '20 s left'],
  );
  assert.equal(view.valueText, 'Running, attempt 2, 37%, encoding, scene 3, 444 / 1,200 frames, 20 s left');
  assert.equal(viewOf({ status: 'running', percent: 99.99 }).figure, '99%', '100 is not shown before it is true');
  assert.equal(viewOf({ status: 'running' }).percent, null);
});

test('in a text from right to left, each value keeps its own direction', async () => {
  const { configure } = await import('../src/settings.js');
  const isolated = (text) => `\u2068${text}\u2069`;
  const state = { status: 'running', done: 3, total: 10, unit: 'קבצים', eta: 7, percent: 30 };
  assert.equal(viewOf(state).amount, `${isolated('3 / 10')} ${isolated('קבצים')}`);
  assert.equal(rateText(state, NOW), `${isolated(`${isolated('1')} ${isolated('קבצים')}`)} a second`);
  assert.equal(viewOf({ ...state, unit: 'files' }).amount, '3 / 10 files');
  const children = { expected: 1000, queued: 0, running: 0, succeeded: 409, failed: 3, cancelled: 0 };
  try {
    configure({ words: { left: 'נותרו {time}', at: '{word} ב-{percent}', someFailed: '{n} נכשלו', hours: '{n} שע׳' } });
    assert.equal(viewOf(state).time, `נותרו ${isolated('7 s')}`);
    assert.equal(viewOf({ ...state, health: 'stalled' }).figure, `${isolated('Stalled')} ב-${isolated('30%')}`);
    assert.equal(viewOf({ status: 'running', children }).amount, `${isolated('412 / 1,000')} · ${isolated(`${isolated('3')} נכשלו`)}`);
    assert.equal(duration(7_500), `${isolated(`${isolated('2')} שע׳`)} ${isolated('5 min')}`);
    configure({ locale: 'ar-MA' });
    assert.equal(viewOf({ ...state, unit: 'B', done: 3e6, total: 1e7 }).amount, `${isolated('3,0 / 10,0')} ${isolated('م.ب')}`);
  } finally {
    configure({ locale: undefined, words: undefined });
  }
});

test('a running group without running children says for how long it has had no update', () => {
  const time = (/** @type {object} */ active, /** @type {number} */ ago) =>
    viewOf({ status: 'running', eta: 600, updated_at: NOW - ago, children: { expected: 9, queued: 0, running: 0, succeeded: 3, failed: 0, cancelled: 0, ...active } }).time;
  assert.equal(time({}, 59), '9 min left');
  assert.equal(time({}, 300), 'no update for 5 min');
  assert.equal(time({ running: 1 }, 300), '5 min left');
  assert.equal(time({ queued: 1 }, 300), 'no update for 5 min');
});

test('a group shows how many of its children have ended', () => {
  const children = { expected: 1000, queued: 0, running: 8, succeeded: 409, failed: 3, cancelled: 0 };
  const amount = (state) => viewOf({ status: 'running', percent: 41.2, ...state }).amount;
  assert.equal(amount({ children }), '412 / 1,000 · 3 failed');
  assert.equal(amount({ children: { ...children, failed: 0, cancelled: 2 } }), '411 / 1,000 · 2 cancelled');
  assert.equal(amount({ children: { ...children, expected: null } }), '412 · 3 failed');
  assert.equal(amount({ children: { ...children, expected: 412, running: 0 } }), '412 · 3 failed');
});

test('an estimate that has run out is not shown, unless the job is almost done', () => {
  const eta = (eta, percent, floor) => viewOf({ status: 'running', eta, percent, updated_at: NOW - 10 }, floor).time;
  for (const percent of [undefined, 0, 64, 94.9]) assert.deepEqual([11, 10, 6, 1].map((left) => eta(left, percent)), ['1 s left', '', '', ''], String(percent));
  for (const percent of [95, 99.99]) assert.deepEqual([11, 10, 6, 1].map((left) => eta(left, percent)), ['1 s left', 'almost done', 'almost done', '']);
  assert.equal(eta(10, 60, 97), 'almost done', 'by what the bar shows');
});

test('the bar never falls within an attempt', () => {
  assert.equal(viewOf({ status: 'running', percent: 20 }, 40).percent, 40);
  assert.equal(viewOf({ status: 'running', percent: 20 }, 40).figure, '40%');
  assert.equal(viewOf({ status: 'running' }, 40).percent, null);
});

test('health is shown only while the job runs', () => {
  assert.equal(viewOf({ status: 'running', health: 'stalled', percent: 37, updated_at: NOW - 42 }).figure, 'Stalled at 37%');
  assert.equal(viewOf({ status: 'running', health: 'stalled', updated_at: NOW - 42 }).time, 'no update for 42 s');
  assert.equal(viewOf({ status: 'running', health: 'lost' }).word, 'Lost');
  assert.equal(viewOf({ status: 'succeeded', health: 'lost' }).look, 'succeeded');
});

test('ends', () => {
  const ended = { started_at: 900, finished_at: 934 };
  const good = viewOf({ status: 'succeeded', percent: 98, done: 1200, total: 1200, unit: 'frames', phase: 'x', ...ended });
  assert.deepEqual([good.percent, good.figure, good.amount, good.time, good.phase], [100, 'Succeeded', '1,200 frames', 'took 34 s', '']);
  const bad = viewOf({ status: 'failed', percent: 35, message: 'row 7', error: 'ValueError: no', ...ended });
  assert.deepEqual([bad.error, bad.message, bad.time, bad.final], ['ValueError: no', '', 'after 34 s', true]);
  assert.equal(viewOf({ status: 'failed', message: 'row 7' }).message, 'row 7');
});

test('bytes', () => {
  assert.equal(viewOf({ status: 'running', done: 12_400_000, total: 80_000_000, unit: 'bytes' }).amount, '12.4 / 80.0 MB');
  assert.equal(viewOf({ status: 'running', done: 512, unit: 'bytes' }).amount, '512 B');
  assert.equal(viewOf({ status: 'succeeded', done: 2e9, total: 2e9, unit: 'B' }).amount, '2.0 GB');
});

test('times', () => {
  assert.deepEqual(
    [-1, 0.4, 8, 59.6, 80, 120, 599, 840, 3600, 7500, 3599.9, 3 * 86400 + 4 * 3600].map(duration),
    ['less than 1 s', 'less than 1 s', '8 s', '1 min', '1 min 20 s', '2 min', '9 min 59 s', '14 min', '1 h', '2 h 5 min', '1 h', '3 d 4 h'],
  );
  assert.deepEqual([80, 130, 218].map(roundedDuration), ['1 min 20 s', '2 min', '4 min']);
  assert.deepEqual([80, 130, 218].map(roundedElapsed), ['1 min 20 s', '2 min', '3 min']);
  assert.deepEqual([0, 12, 240, 7200, 200_000].map(ago), ['just now', '12 s ago', '4 min ago', '2 h ago', '2 d ago']);
});

test('the rate has the unit of the estimate', () => {
  const pace = (state) => rateText({ status: 'running', percent: 50, eta: 10, ...state }, NOW);
  assert.equal(pace({ done: 60_000, total: 120_000, unit: 'files' }), '6,000 files a second');
  assert.equal(pace({ done: 30e6, total: 60e6, unit: 'bytes' }), '3.0 MB a second');
  assert.equal(pace({ done: 5, total: 100, unit: 'files' }), '5 % a second', 'files of a phase do not count for the whole job');
  assert.equal(pace({ percent: 99, eta: 3_000 }), '0.000333 % a second');
  assert.deepEqual([pace({ eta: undefined }), pace({ status: 'failed' }), pace({ updated_at: NOW - 11 })], ['', '', '']);
});

test('texts and numbers in German, in Chinese, and with replaced texts', async () => {
  const { configure } = await import('../src/settings.js');
  const running = { status: 'running', done: 1_234_567, total: 9_000_000, unit: 'B', percent: 13.7, eta: 100, updated_at: 1_000, attempt: 2 };
  const viewIn = (locale, words, state = running) => {
    configure({ locale, words });
    return describe({ job: 'a', epoch: 1, seq: 1, denied: null, snapshot: true, state }, 1_000);
  };
  try {
    assert.deepEqual([viewIn('en').amount, viewIn('en').time, viewIn('en').attempt], ['1.2 / 9.0 MB', '1 min 40 s left', 'attempt 2']);
    const german = viewIn('de-AT');
    const group = { status: 'running', children: { expected: 1000, queued: 0, running: 0, succeeded: 400, failed: 3, cancelled: 1 } };
    assert.equal(viewIn('de', undefined, group).amount, '404 / 1.000 · 3 fehlgeschlagen · 1 abgebrochen');
    assert.equal(viewIn('zh', undefined, group).amount, '404 / 1,000 · 3 个失败 · 1 个已取消');
    viewIn('de-AT');
    assert.deepEqual([german.amount, german.time, german.attempt, german.figure], ['1,2 / 9,0 MB', 'noch 1 Min. 40 s', '2. Versuch', '13\u00a0%']);
    const chinese = viewIn('zh-Hans-CN');
    assert.deepEqual([chinese.word, chinese.time, chinese.attempt], ['进行中', '剩余 1 分钟 40 秒', '第 2 次尝试']);
    assert.equal(viewIn('en', { failed: 'Oh no' }, { status: 'failed' }).figure, 'Oh no');
    assert.equal(viewIn('fr', undefined, { status: 'running', done: 1234.5, unit: 'rows' }).amount, '1\u202f234,5 rows');
    const { words: english } = (configure({ locale: 'en', words: undefined }), (await import('../src/language.js')).currentLanguage());
    for (const locale of ['de', 'zh']) {
      configure({ locale });
      const { words } = (await import('../src/language.js')).currentLanguage();
      for (const [name, text] of Object.entries(english)) {
        assert.deepEqual(words[name].match(/\{\w+\}/g), text.match(/\{\w+\}/g), `${locale}: ${name}`);
      }
    }
  } finally {
    configure({ locale: undefined, words: undefined });
  }
});

test('the end of a long error is shown, because the reason is there', () => {
  const viewIn = (error) => describe({ job: 'a', epoch: 1, seq: 1, denied: null, snapshot: true, state: { status: 'failed', error } }, 0).error;
  assert.equal(viewIn('disk full\n'), 'disk full');
  const trace = ['Traceback (most recent call last):', ...Array.from({ length: 40 }, (_, i) => `  File "a.py", line ${i}`), 'ValueError: row 8001 has 3 columns'].join('\n');
  assert.match(viewIn(trace), /^…[^]*ValueError: row 8001 has 3 columns$/);
  assert.ok(viewIn(trace).split('\n').length <= 4);
  assert.match(viewIn(`${'x'.repeat(3_000)} no space left`), /^…x+ no space left$/);
});
