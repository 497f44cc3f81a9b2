/** A gateway that can be reached by plain HTTP only, for the tests of the fallback. */

import { createConnection } from '../src/connection.js';
// The client loads these modules on demand. They are imported here, so that no test waits for the disk.
import '../src/http-transports.js';
import '../src/tokens.js';
import { fakeWorld, tick } from './world.js';

export const welcome = { type: 'welcome', node: 'n1', time: 1_000 };

/** The header of a gateway's own responses. */
export const GATEWAY_HEADERS = { 'progress-gateway': 'n1', date: 'Thu, 01 Jan 1970 00:16:40 GMT' };

/** A gateway that supports HTTP only; the test writes to its `streams`. */
export function httpGateway(world, { events = true } = {}) {
  const gateway = { streams: [], requests: [], jobs: new Map(), sets: new Map(), polls: [], override: null };
  world.fetch = async (url, { signal, headers }) => {
    const { pathname, searchParams } = new URL(url);
    gateway.requests.push({ path: pathname, headers, searchParams });
    if (gateway.override) return gateway.override(pathname);
    if (pathname === '/healthz') return Response.json({ status: 'ok', node: 'n1' }, { headers: GATEWAY_HEADERS });
    if (pathname === '/api/events') {
      const stream = { jobs: searchParams.getAll('job'), set: searchParams.get('set'), resumed: searchParams.has('lastEventId'), signal };
      const body = new ReadableStream({
        start(controller) {
          stream.deliver = (...frames) => {
            for (const frame of frames) controller.enqueue(new TextEncoder().encode(`id: 1\ndata: ${JSON.stringify(frame)}\n\n`));
            return tick();
          };
          stream.deliverText = (text) => (controller.enqueue(new TextEncoder().encode(text)), tick());
          stream.end = () => (controller.close(), tick());
        },
        cancel: () => (stream.cancelled = true),
      });
      gateway.streams.push(stream);
      if (!events) stream.deliver = () => {};
      return new Response(body, { headers: GATEWAY_HEADERS });
    }
    if (pathname === '/api/sets') {
      const { seq, jobs } = gateway.sets.get(searchParams.get('prefix'));
      const etag = `"9-${seq}"`;
      if (headers['if-none-match'] === etag) return new Response(null, { status: 304, headers: GATEWAY_HEADERS });
      return Response.json({ epoch: 9, seq, jobs, ...setFields(jobs) }, { headers: { etag, ...GATEWAY_HEADERS } });
    }
    const job = decodeURIComponent(pathname.slice('/api/jobs/'.length));
    gateway.polls.push({ job, wait: searchParams.get('wait') });
    if (gateway.full && searchParams.has('wait')) return problem(503, { code: 'node_full', detail: 'No room.' });
    const known = gateway.jobs.get(job);
    if (known === undefined) return problem(404, { detail: 'No worker has reported this job.' });
    const etag = `"1-${known.seq}"`;
    if (headers['if-none-match'] === etag) {
      if (searchParams.has('wait')) await new Promise((resolve) => { gateway.answerLongPoll = resolve; });
      else return new Response(null, { status: 304, headers: GATEWAY_HEADERS });
    }
    const { seq, state, job: other = job } = gateway.jobs.get(job);
    return Response.json({ job: other, epoch: 1, seq, state }, { headers: { etag: `"1-${seq}"`, ...GATEWAY_HEADERS } });
  };
  return gateway;
}

/** The fields of a set besides its jobs. @param {string[]} jobs */
export const setFields = ({ length }) => ({ total: length, counts: { queued: 0, running: length, succeeded: 0, failed: 0, cancelled: 0 } });

export const problem = (status, fields) =>
  new Response(JSON.stringify({ type: 'about:blank', status, ...fields }), { status, headers: { 'content-type': 'application/problem+json', ...GATEWAY_HEADERS } });

/** A page without WebSockets that has opened its first SSE stream. */
export async function pageWithoutWebSocket(options) {
  const world = fakeWorld();
  if (options?.locks) world.environment.locks = options.locks;
  const gateway = httpGateway(world, options);
  const connection = createConnection('ws://gateway.test/ws', { ...world.environment, ...options?.connection });
  const received = [];
  connection.watch('a', (watched) => received.push(watched));
  for (const wait of [250, 500]) {
    await tick();
    world.socket.drop(1006);
    await world.pass(wait);
  }
  await tick();
  return { world, gateway, connection, received };
}
