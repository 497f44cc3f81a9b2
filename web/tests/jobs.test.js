import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Jobs } from '../src/jobs.js';
import { seeded, snapshot, step } from './world.js';

/** Whether a frame was accepted, or could not be judged. */
const isAccepted = (violation) => violation === null;

const subscribed = (...names) => {
  const jobs = new Jobs({ now: () => 0 });
  const received = [];
  for (const name of names) jobs.add(name, (watched) => received.push(watched));
  jobs.onSent({ type: 'sync_subscriptions', id: 1, jobs: names }, new Set(names));
  jobs.onReply(1, {});
  return { jobs, received };
};

test('a frame that does not continue is a violation, and the job is requested again', () => {
  const { jobs, received } = subscribed('a');
  assert.ok(isAccepted(jobs.apply(snapshot('a', 1, 3))));
  assert.ok(!isAccepted(jobs.apply(step('a', 1, 4, 5))));
  assert.deepEqual([...jobs.collect().repeat], ['a']);
  assert.deepEqual(jobs.positions(), [['a', null]]);
  assert.equal(received.at(-1).seq, 3, 'what was shown stays shown');
  assert.ok(isAccepted(jobs.apply(step('a', 1, 5, 6))), 'until the answer, nothing more is proved');
  assert.equal(received.at(-1).seq, 3);
  assert.ok(isAccepted(jobs.apply(snapshot('a', 1, 6))));
  assert.equal(received.at(-1).seq, 6);
});

test('a subscription without a snapshot is a violation, but only after the answer', () => {
  const jobs = new Jobs({ now: () => 0 });
  jobs.add('a', () => {});
  jobs.onSent({ type: 'sync_subscriptions', id: 7, jobs: ['a'] }, new Set(['a']));
  assert.ok(isAccepted(jobs.apply(step('a', 1, 2, 3))));
  jobs.onReply(7, {});
  assert.ok(!isAccepted(jobs.apply(step('a', 1, 3, 4))));
});

test('values are frozen, and a listener that throws does not affect the others', (t) => {
  t.mock.method(console, 'error', () => {});
  const { jobs, received } = subscribed();
  jobs.add('a', () => { throw new Error('broken'); });
  jobs.add('a', (watched) => received.push(watched));
  jobs.apply(snapshot('a', 1, 1));
  assert.ok(Object.isFrozen(received[0]));
  assert.equal(jobs.peek('a'), received[0]);
});

test('a denial is reported, and a snapshot ends it', () => {
  const { jobs, received } = subscribed('a');
  jobs.onReply(1, { a: 'too_many_jobs' });
  jobs.onReply(1, { a: 'too_many_jobs' });
  assert.deepEqual(received.map((w) => w.denied), ['too_many_jobs']);
  jobs.apply(snapshot('a', 1, 1));
  assert.equal(received.at(-1).denied, null);
});

test('unwatching and watching again before the next command loses nothing', () => {
  const jobs = new Jobs({ now: () => 0 });
  const listener = () => {};
  jobs.add('a', listener);
  jobs.add('a', () => {});
  assert.equal(jobs.remove('a', listener), false);
  jobs.apply(snapshot('a', 1, 1));
  assert.equal(jobs.remove('a', listener), false, 'twice does no harm');
  assert.equal(jobs.peek('a').seq, 1);
});

test('another connection begins without the states of jobs that are not watched', () => {
  const jobs = new Jobs({ now: () => 0 });
  const listener = () => {};
  for (const job of ['a', 'b']) {
    jobs.add(job, listener);
    jobs.onSent({ id: 1, jobs: [job] }, new Set([job]));
    jobs.apply(snapshot(job, 1, 5));
  }
  jobs.remove('b', listener);
  assert.equal(jobs.peek('b').seq, 5, 'for a component that is mounted again');
  assert.deepEqual(jobs.positions(), [['a', { epoch: 1, seq: 5 }]]);
  assert.equal(jobs.peek('b'), null, 'its node may be behind');
});

test('a correct gateway never causes a violation, and the client ends with the newest state', () => {
  // A model: one job, updates, conflation, new epochs, lost connections, late frames.
  for (let seed = 0; seed < 2000; seed++) {
    const random = seeded(seed);
    const jobs = new Jobs({ now: () => 0 });
    let lastWatched = null;
    jobs.add('a', (watched) => { lastWatched = watched; });
    let epoch = 100, seq = 0, id = 0;
    let cursor = null; // the position that the gateway has sent
    let wire = [];
    const connect = () => {
      wire = []; // frames in flight are lost
      const [, position] = jobs.positions()[0];
      jobs.onSent({ type: 'sync_subscriptions', id: ++id, jobs: ['a'] }, new Set(['a']));
      wire.push({ answers: id });
      cursor = position !== null && position.epoch === epoch ? { ...position } : null;
      emit();
    };
    const emit = () => {
      if (seq === 0) { if (cursor === null) wire.push(snapshot('a', null, 0)); cursor = { epoch: null, seq: 0 }; return; }
      if (cursor?.epoch !== epoch) wire.push(snapshot('a', epoch, seq, { done: seq }));
      else if (cursor.seq < seq) wire.push(step('a', epoch, cursor.seq, seq, { done: seq }));
      cursor = { epoch, seq };
    };
    const deliver = (n) => {
      for (const frame of wire.splice(0, n)) {
        if (frame.answers) jobs.onReply(frame.answers, {});
        else assert.ok(isAccepted(jobs.apply(frame)), `seed ${seed}`);
      }
    };
    connect();
    for (let i = 0; i < 60; i++) {
      const chance = random();
      if (chance < 0.5) seq += 1;
      else if (chance < 0.75) emit();
      else if (chance < 0.9) deliver(1 + Math.floor(random() * 3));
      else if (chance < 0.97) connect();
      else { epoch += 1; seq = 1; }
    }
    emit();
    deliver(Infinity);
    assert.deepEqual([lastWatched.epoch, lastWatched.seq], seq === 0 ? [null, 0] : [epoch, seq], `seed ${seed}`);
    if (seq > 0) assert.equal(lastWatched.state.done, seq);
  }
});

test('every frame that a defective gateway loses is detected and repaired', () => {
  for (let seed = 0; seed < 500; seed++) {
    const random = seeded(seed);
    const { jobs } = subscribed('a');
    jobs.apply(snapshot('a', 1, 1));
    let gaps = 0, violations = 0, lastSeq = 1, id = 1;
    for (let seq = 2; seq < 60; seq++) {
      if (random() < 0.2 && seq < 58) continue; // lost
      if (lastSeq !== seq - 1) gaps += 1;
      if (!isAccepted(jobs.apply(step('a', 1, seq - 1, seq)))) {
        violations += 1;
        jobs.collect();
        jobs.onSent({ type: 'subscribe', id: ++id, jobs: ['a'] }, new Set(['a']));
        jobs.onReply(id, {});
        jobs.apply(snapshot('a', 1, seq));
      }
      lastSeq = seq;
      assert.equal(jobs.peek('a').seq, seq);
    }
    assert.equal(violations, gaps);
  }
});
