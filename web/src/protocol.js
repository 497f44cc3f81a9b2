/**
 * The wire contract `progress.v1`, seen from a browser: the shapes of its
 * frames, and the three pure rules that follow from them: which frame a client
 * may accept (`accepts`), after which close code it may reconnect (`mayReconnect`), and
 * which commands turn the set of jobs the gateway knows into the one wanted
 * (`commandsFor`). No socket, clock or DOM here. `docs/protocol.md` is the specification.
 */

import { DO_NOT_RECONNECT, FIRST_FINAL_CODE, LAST_FINAL_CODE, MAX_MESSAGE } from './constants.js';

/**
 * The state of a job. A field that is not known is absent.
 * @template [Data=unknown]
 * @typedef {object} State
 * @property {import('./constants.js').Status} status
 * @property {number} [attempt]      which try this is, from 1
 * @property {'ok' | 'stalled' | 'lost'} [health]
 * @property {number} [percent]      0–100; never falls within an attempt
 * @property {number} [done]
 * @property {number} [total]
 * @property {string} [unit]
 * @property {string} [phase]
 * @property {string} [message]
 * @property {string} [error]
 * @property {Data} [data]           the application's own
 * @property {Children} [children]   of a group: how many children are in which status
 * @property {number} [weight]       what it counts in the group above it, if not 1
 * @property {string[]} [accepts]    what may be asked of its worker
 * @property {JobRequest} [request]  what was asked last
 * @property {number} [eta]          seconds left as of `updated_at`
 * @property {number} [lease]        seconds the worker may be silent
 * @property {number} [created_at]   times are Unix seconds, by the gateway's clock
 * @property {number} [started_at]
 * @property {number} [updated_at]
 * @property {number} [finished_at]
 */

/**
 * @typedef {object} Children
 * @property {number | null} expected  the weight of all children; null: not known yet
 * @property {number} queued
 * @property {number} running
 * @property {number} succeeded
 * @property {number} failed
 * @property {number} cancelled
 */

/**
 * @typedef {object} JobRequest
 * @property {string} id
 * @property {string} verb
 * @property {number} at            when the gateway took it
 * @property {unknown} [args]
 * @property {string} [by]          the subject of the token it came with
 * @property {true} [alone]         children that begin later are not asked
 * @property {number} [seen_at]     when the worker acknowledged it
 * @property {string} [refused]     why the worker does not do it
 */

/** @typedef {{ epoch: number | null, seq: number }} Position */

/** @typedef {[min: number, max: number]} RetryWindow  seconds */

/**
 * @typedef {object} ProgressFrame
 * @property {'progress'} type
 * @property {string} job
 * @property {number | null} epoch
 * @property {number | null} prev
 * @property {number} seq
 * @property {boolean} [snapshot]
 * @property {State | null} state
 */

/**
 * @typedef {object} SetFrame
 * @property {'set'} type
 * @property {string | number} [id]
 * @property {string} prefix
 * @property {number} epoch
 * @property {number | null} prev
 * @property {number} seq
 * @property {boolean} [snapshot]
 * @property {number} total
 * @property {Record<import('./constants.js').Status, number>} counts
 * @property {boolean} [more]
 * @property {string[]} jobs
 */

/**
 * @typedef {ProgressFrame
 *   | SetFrame
 *   | { type: 'welcome', node: string, time: number, limits?: { message?: number }, stale?: boolean, retry?: unknown }
 *   | { type: 'feed', stale: boolean }
 *   | { type: 'subscriptions', id: unknown, added: string[], removed: string[], unchanged: number, denied: Record<string, string> }
 *   | { type: 'error', id?: unknown, code: string, message: string }
 *   | { type: 'goaway', code: number, retry?: unknown }
 *   | { type: 'ping' }
 *   | { type: 'pong', time?: number }
 * } Frame
 */

/** @typedef {{ type: 'sync_subscriptions' | 'subscribe' | 'unsubscribe', id: number, jobs: string[] }} Subscribe */
/** @typedef {{ type: 'hello', token?: string, max_hz?: number, positions?: Record<string, [number, number]> }} Hello */
/** @typedef {{ type: 'watch_set', id: string, prefix: string, statuses?: string[], limit?: number }} WatchSet */
/** @typedef {Subscribe | Hello | WatchSet | { type: 'unwatch_set', id: string } | { type: 'ping', time: true } | { type: 'pong' }} Command */

/** The least that a command needs beside its jobs. */
const ENVELOPE = 200;

/**
 * The frames of one WebSocket message: several may be joined by a line feed.
 * What is not an object with a `type` is handed to `malformed` and left out; if
 * it was a progress frame, the next one of that job does not continue, and heals it.
 *
 * @param {string} text
 * @param {(line: string) => void} malformed
 * @returns {Frame[]}
 */
export function parseFrames(text, malformed) {
  const frames = [];
  for (const line of text.split('\n')) {
    if (line === '') continue;
    try {
      const frame = JSON.parse(line);
      if (typeof frame?.type === 'string') {
        frames.push(frame);
        continue;
      }
    } catch {
      // counted below, like every other line that is no frame
    }
    malformed(line);
  }
  return frames;
}

/**
 * The client's rule, for one job. A snapshot replaces whatever is there; any
 * other frame must continue exactly what is there.
 *
 * @param {Position | null} position  null: nothing is known
 * @param {ProgressFrame} frame
 * @returns {boolean}  whether the client may take it; otherwise it must ask anew
 */
export function accepts(position, frame) {
  return (
    frame.snapshot === true ||
    (position !== null &&
      position.epoch !== null &&
      frame.epoch === position.epoch &&
      frame.prev === position.seq &&
      frame.seq > position.seq)
  );
}

/**
 * May a client reconnect after this close code? No where the same would only happen
 * again (the client is wrong, or not allowed in); yes for everything else, codes
 * made up by proxies included.
 *
 * @param {number} code
 */
export function mayReconnect(code) {
  return !DO_NOT_RECONNECT.includes(code) && (code < FIRST_FINAL_CODE || code > LAST_FINAL_CODE);
}

/**
 * The commands that turn `known` into `wanted`: normally the one idempotent
 * `sync_subscriptions`; the difference in slices where the whole set would not
 * fit into one message. `fresh` are jobs the gateway must answer anew, although
 * it knows them: only leaving and joining again brings a snapshot. On a new connection
 * (`known` is null) an empty set is sent as well: its answer says that nothing is missing.
 *
 * @param {ReadonlySet<string> | null} known
 * @param {ReadonlySet<string>} wanted
 * @param {ReadonlySet<string>} fresh
 * @param {() => number} nextId
 * @param {number} limit  bytes that a message may have
 * @returns {Subscribe[]}
 */
export function commandsFor(known, wanted, fresh, nextId, limit) {
  const has = known ?? new Set();
  const again = [...fresh].filter((job) => has.has(job) && wanted.has(job));
  const left = [...has].filter((job) => !wanted.has(job));
  const joined = [...wanted].filter((job) => !has.has(job) || fresh.has(job));
  const whole = slice(wanted, limit);
  /** @type {(type: Subscribe['type'], slices: string[][]) => Subscribe[]} */
  const say = (type, slices) => slices.map((jobs) => ({ type, id: nextId(), jobs }));
  const rejoined = say('unsubscribe', slice(again, limit));
  if (whole.length > 1) return [...rejoined, ...say('unsubscribe', slice(left, limit)), ...say('subscribe', slice(joined, limit))];
  const changed = known === null || left.length + joined.length > 0;
  return [...rejoined, ...(changed ? say('sync_subscriptions', [[...wanted]]) : [])];
}

/**
 * `hello` with as many positions as one message holds. A job left out is
 * answered with a snapshot: dearer, but just as right.
 *
 * @param {Iterable<[job: string, position: Position | null]>} positions
 * @param {{ token?: string | null, maxHz?: number | undefined, limit?: number }} [more]
 * @returns {Hello | null}  null if there is nothing to say
 */
export function hello(positions, { token = null, maxHz, limit = MAX_MESSAGE } = {}) {
  /** @type {Record<string, [number, number]>} */
  const known = {};
  let room = limit - ENVELOPE - (token?.length ?? 0);
  for (const [job, position] of positions) {
    if (position === null || position.epoch === null) continue;
    room -= `${job}${position.epoch}${position.seq}`.length + 7;
    if (room < 0) break;
    known[job] = [position.epoch, position.seq];
  }
  const some = Object.keys(known).length > 0;
  if (token === null && maxHz === undefined && !some) return null;
  return { type: 'hello', ...(token !== null && { token }), ...(maxHz && { max_hz: maxHz }), ...(some && { positions: known }) };
}

/**
 * @param {unknown} value  the `retry` of a frame
 * @returns {RetryWindow | null}
 */
export function retryWindow(value) {
  if (!Array.isArray(value)) return null;
  const [min, max] = value;
  return Number.isFinite(min) && Number.isFinite(max) && min >= 0 && max >= min ? [min, max] : null;
}

/**
 * Lists of jobs that each fit into one message.
 * @param {Iterable<string>} jobs
 * @param {number} limit
 * @returns {string[][]}
 */
function slice(jobs, limit) {
  /** @type {string[][]} */
  const slices = [];
  let room = 0;
  for (const job of jobs) {
    const size = encodedLength(job);
    if (size > room || slices.length === 0) {
      slices.push([]);
      room = limit - ENVELOPE;
    }
    room -= size;
    slices.at(-1)?.push(job);
  }
  return slices;
}

/**
 * Bytes of a job in a list, comma included. Job ids are ASCII; an attribute in a
 * page may hold anything, and the gateway will say `invalid_job`: six bytes a
 * character is then the most it can be.
 * @param {string} job
 */
function encodedLength(job) {
  return (/^[\w.:/@-]*$/.test(job) ? job.length : job.length * 6) + 3;
}
