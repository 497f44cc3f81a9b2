/** Server-Sent Events: the wanted jobs are received in several streams, one for each lock. */

import { ABNORMAL, MAX_STREAM_JOBS, NO_POSITIONS, PING_INTERVAL } from './http-constants.js';
import { pollJobs } from './polling.js';
import { mergeStates, RESPONSE_TIMEOUT, setParameters } from './request-cycle.js';

/** @import { RequestCycle } from './request-cycle.js' */

/** Milliseconds without data after which a stream is lost. The gateway pings after 25 s. */
const SILENCE_TIMEOUT = (PING_INTERVAL + 15) * 1000;
/** Bytes of the URL's query. Every proxy accepts a request head of this size. */
const MAX_URL_BYTES = 4_000;

/** Runs a cycle with streams; jobs and sets without a lock are polled. @param {RequestCycle} cycle */
export async function stream(cycle) {
  /** @type {string[][]} */
  const chunks = [];
  let bytesLeft = 0;
  for (const job of cycle.jobs) {
    const size = encodeURIComponent(job).length + 5;
    if (size > bytesLeft || (chunks.at(-1)?.length ?? MAX_STREAM_JOBS) >= MAX_STREAM_JOBS) {
      chunks.push([]);
      bytesLeft = MAX_URL_BYTES;
    }
    bytesLeft -= size;
    chunks.at(-1)?.push(job);
  }
  const sets = [...cycle.sets];
  const merged = sets.length > 0 ? { ...cycle, emit: mergeStates(cycle.emit) } : cycle;
  const streams = await cycle.locks.acquire(sets.length + chunks.length);
  const otherSets = sets.splice(streams);
  const polledJobs = chunks.splice(streams - sets.length).flat();
  return Promise.all([
    ...sets.map((set) => streamJobs(setParameters('set', set), { ...merged, emit: withId(set.id, merged.emit) })),
    ...chunks.map((jobs) => streamJobs(jobs.map((job) => ['job', job]), merged)),
    ...otherSets.map((set) => pollJobs([], merged, { wantsStream: true, set })),
    ...(polledJobs.length > 0 ? [pollJobs(polledJobs, merged, { wantsStream: true })] : []),
  ]);
}

/** Adds the id of a set to its frames, which have none over HTTP. @param {string} id @param {RequestCycle['emit']} emit @returns {RequestCycle['emit']} */
function withId(id, emit) {
  return (frame) => emit('prefix' in frame ? { ...frame, id } : frame);
}

/**
 * Reads one stream. When it ends, the transport ends, except if the gateway has denied everything in this stream for
 * lack of quota: then the other streams continue.
 * @param {string[][]} parameters @param {RequestCycle} cycle
 */
async function streamJobs(parameters, { resumed, request, signal, emit, end, environment, events, maxHz }) {
  const query = new URLSearchParams(parameters);
  if (maxHz !== undefined) query.set('max_hz', String(maxHz));
  if (resumed) query.set('lastEventId', NO_POSITIONS); // the gateway sends nothing older
  const { response } = await request(`api/events?${query}`, RESPONSE_TIMEOUT);
  if (!response.ok || response.body === null) return end(ABNORMAL, `answered with ${response.status}`);
  const requested = parameters.filter(([name]) => name === 'job' || name === 'set').map(([, value]) => value);
  let denied = 0;
  const reader = response.body.getReader();
  signal.addEventListener('abort', () => void reader.cancel().catch(() => {}));
  const decoder = new TextDecoder();
  let buffer = '';
  let hasData = false;
  for (;;) {
    // A proxy that buffers a stream until its end forwards nothing.
    const timer = environment.setTimeout(
      () => signal.aborted || end(ABNORMAL, hasData ? 'silence' : 'no data', !hasData),
      hasData ? SILENCE_TIMEOUT : RESPONSE_TIMEOUT,
    );
    const { done, value } = await reader.read().finally(() => environment.clearTimeout(timer));
    if (signal.aborted) return;
    if (done) return denied < requested.length ? end(ABNORMAL, 'the stream ended', !hasData) : undefined;
    hasData = true;
    buffer += decoder.decode(value, { stream: true });
    const lines = buffer.split(/\r?\n/);
    buffer = lines.pop() ?? '';
    for (const line of lines) {
      if (!line.startsWith('data:') || signal.aborted) continue;
      try {
        const frame = JSON.parse(line.slice(5));
        if (frame.type === 'subscriptions') denied += Object.keys(frame.denied).filter((job) => requested.includes(job)).length;
        if (frame.type === 'error' && 'prefix' in frame) denied += 1;
        emit(frame);
      } catch {
        events.onMalformed(line);
      }
    }
  }
}
