/** Server-Sent Events: the wanted jobs in several streams, as many as there are lanes. */

import { ABNORMAL, MAX_STREAM_JOBS, PING_INTERVAL } from './http-constants.js';
import { pollSome } from './polling.js';
import { FIRST_ANSWER, queryOf } from './round.js';

/** @import { Round } from './round.js' */

/** The gateway pings after 25 s of silence. */
const SILENCE = (PING_INTERVAL + 15) * 1000;
/** The size of a request head that every proxy accepts. */
const STREAM_BYTES = 4_000;

/** @param {Round} round */
export async function stream(round) {
  /** @type {string[][]} */
  const slices = [];
  let room = 0;
  for (const job of round.jobs) {
    const size = encodeURIComponent(job).length + 5;
    if (size > room || (slices.at(-1)?.length ?? MAX_STREAM_JOBS) >= MAX_STREAM_JOBS) {
      slices.push([]);
      room = STREAM_BYTES;
    }
    room -= size;
    slices.at(-1)?.push(job);
  }
  const sets = [...round.sets];
  const once = sets.length > 0 ? { ...round, emit: inOrder(round.emit) } : round;
  const streams = await round.lanes.acquire(sets.length + slices.length);
  const otherSets = sets.splice(streams);
  const rest = slices.splice(streams - sets.length).flat();
  return Promise.all([
    ...sets.map((set) => streamSome(queryOf('set', set), { ...once, emit: named(set.id, once.emit) })),
    ...slices.map((jobs) => streamSome(jobs.map((job) => ['job', job]), once)),
    ...otherSets.map((set) => pollSome([], once, false, set)),
    ...(rest.length > 0 ? [pollSome(rest, once)] : []),
  ]);
}

/**
 * Filters frames of jobs that are in several streams (of sets, and by name): events that one stream
 * has delivered are dropped in the others, and frames that do not continue the position are changed.
 * @param {Round['emit']} emit
 * @returns {Round['emit']}
 */
function inOrder(emit) {
  /** @type {Map<string, { epoch: number | null, seq: number }>} */
  const delivered = new Map();
  return (frame) => {
    if (frame.type !== 'progress') return emit(frame);
    const { job, epoch, seq, prev, snapshot } = frame;
    const before = delivered.get(job);
    if (before !== undefined && before.epoch === epoch && seq <= before.seq && seq > 0) return;
    delivered.set(job, { epoch, seq });
    emit(!snapshot && (before?.epoch !== epoch || before.seq !== prev) ? { ...frame, prev: null, snapshot: true } : frame);
  };
}

/** Over HTTP a set has no id. @param {string} id @param {Round['emit']} emit @returns {Round['emit']} */
function named(id, emit) {
  return (frame) => emit('prefix' in frame ? { ...frame, id } : frame);
}

/**
 * One stream, until it ends, and the transport with it: unless the gateway had no room for all that
 * the stream asked for, because the others have done nothing to end with it.
 * @param {string[][]} parameters @param {Round} round
 */
async function streamSome(parameters, { request, signal, emit, end, environment, events, maxHz }) {
  const query = new URLSearchParams(parameters);
  if (maxHz !== undefined) query.set('max_hz', String(maxHz));
  const { response } = await request(`api/events?${query}`, FIRST_ANSWER);
  if (!response.ok || response.body === null) return end(ABNORMAL, `answered with ${response.status}`);
  const wanted = parameters.filter(([name]) => name === 'job' || name === 'set').map(([, value]) => value);
  let denied = 0;
  const reader = response.body.getReader();
  signal.addEventListener('abort', () => void reader.cancel().catch(() => {}));
  const decoder = new TextDecoder();
  let rest = '';
  let heard = false;
  for (;;) {
    // A proxy that buffers a stream until its end forwards nothing.
    const timer = environment.setTimeout(
      () => signal.aborted || end(ABNORMAL, heard ? 'silence' : 'no data', !heard),
      heard ? SILENCE : FIRST_ANSWER,
    );
    const { done, value } = await reader.read().finally(() => environment.clearTimeout(timer));
    if (signal.aborted) return;
    if (done) return denied < wanted.length ? end(ABNORMAL, 'the stream ended', !heard) : undefined;
    heard = true;
    rest += decoder.decode(value, { stream: true });
    const lines = rest.split(/\r?\n/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (!line.startsWith('data:') || signal.aborted) continue;
      try {
        const frame = JSON.parse(line.slice(5));
        if (frame.type === 'subscriptions') denied += Object.keys(frame.denied).filter((job) => wanted.includes(job)).length;
        if (frame.type === 'error' && 'prefix' in frame) denied += 1;
        emit(frame);
      } catch {
        events.malformed(line);
      }
    }
  }
}
