/**
 * The protocol `progress.v1` of a browser: the types of its frames, and three pure rules: which frame a client may
 * accept (`acceptsFrame`), after which close code it may reconnect (`mayReconnect`), and with which commands it
 * subscribes to the wanted jobs (`commandsFor`). `docs/protocol.md` is the specification.
 */

import { DO_NOT_RECONNECT, FIRST_FINAL_CODE, LAST_FINAL_CODE, MAX_MESSAGE } from './constants.js';

/**
 * The state of a job. A field without a value is absent.
 * @template [Data=unknown]
 * @typedef {object} State
 * @property {import('./constants.js').Status} status
 * @property {number} [attempt]      the number of the attempt, from 1
 * @property {'ok' | 'stalled' | 'lost'} [health]
 * @property {number} [percent]      0–100; never falls within an attempt
 * @property {number} [done]
 * @property {number} [total]
 * @property {string} [unit]
 * @property {string} [phase]
 * @property {string} [message]
 * @property {string} [error]
 * @property {Data} [data]           data of the application
 * @property {Children} [children]   the number of a group's children in each status
 * @property {number} [weight]       the weight of the job in its group, if not 1
 * @property {string[]} [accepts]    the verbs of the requests that its worker accepts
 * @property {JobRequest} [request]  the newest request
 * @property {number} [eta]          the remaining seconds at `updated_at`
 * @property {number} [lease]        seconds without a report after which the job is stalled
 * @property {number} [created_at]   all times are Unix seconds, by the gateway's clock
 * @property {number} [started_at]
 * @property {number} [updated_at]
 * @property {number} [finished_at]
 */

/**
 * @typedef {object} Children
 * @property {number | null} expected  the total weight of all children; null: not known yet
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
 * @property {number} at            when the gateway accepted it
 * @property {unknown} [args]
 * @property {string} [by]          the subject of the sender's token
 * @property {true} [alone]         the request is not passed on to children that begin later
 * @property {number} [seen_at]     when the worker acknowledged it
 * @property {string} [refused]     the reason if the worker refuses it
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

/** Bytes of a command without its jobs. */
const COMMAND_OVERHEAD = 200;

/**
 * Returns the frames of one WebSocket message, which are separated by line feeds. A line that is not an object with a
 * `type` is given to `onMalformed` instead. If it was a progress frame, the next one of that job does not continue
 * the position, so the job is requested again.
 *
 * @param {string} text
 * @param {(line: string) => void} onMalformed
 * @returns {Frame[]}
 */
export function parseFrames(text, onMalformed) {
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
      // The line is reported below, like every other malformed line.
    }
    onMalformed(line);
  }
  return frames;
}

/**
 * The client's rule, for one job: a snapshot replaces the known state, and any other frame must continue the known
 * position.
 *
 * @param {Position | null} position  null: nothing is known
 * @param {ProgressFrame} frame
 * @returns {boolean}  whether the client may accept the frame; otherwise the client must subscribe again
 */
export function acceptsFrame(position, frame) {
  return (
    frame.snapshot === true ||
    (frame.epoch !== null && frame.epoch === position?.epoch && frame.prev === position.seq && frame.seq > position.seq)
  );
}

/**
 * Returns whether a client may reconnect after this close code. It may not if a new connection would fail for the
 * same reason: the client is in error, or is not allowed to connect.
 *
 * @param {number} code
 */
export function mayReconnect(code) {
  return !DO_NOT_RECONNECT.includes(code) && (code < FIRST_FINAL_CODE || code > LAST_FINAL_CODE);
}

/**
 * Returns the commands that replace the subscriptions `sent` by `wanted`: normally one idempotent
 * `sync_subscriptions`; if that does not fit into one message, the difference in several commands. Jobs in `repeat`
 * are unsubscribed and subscribed again, because only this brings a snapshot. On a new connection (`sent` is null)
 * an empty list is sent as well, so that the gateway acknowledges it.
 *
 * @param {ReadonlySet<string> | null} sent
 * @param {ReadonlySet<string>} wanted
 * @param {ReadonlySet<string>} repeat
 * @param {() => number} nextId
 * @param {number} maxBytes  maximum bytes of a message
 * @returns {Subscribe[]}
 */
export function commandsFor(sent, wanted, repeat, nextId, maxBytes) {
  const subscribed = sent ?? new Set();
  const rejoining = [...repeat].filter((job) => subscribed.has(job) && wanted.has(job));
  const removed = [...subscribed].filter((job) => !wanted.has(job));
  const added = [...wanted].filter((job) => !subscribed.has(job) || repeat.has(job));
  const wantedChunks = splitJobs(wanted, maxBytes);
  /** @type {(type: Subscribe['type'], chunks: string[][]) => Subscribe[]} */
  const makeCommands = (type, chunks) => chunks.map((jobs) => ({ type, id: nextId(), jobs }));
  const unsubscribes = makeCommands('unsubscribe', splitJobs(rejoining, maxBytes));
  if (wantedChunks.length > 1) return [...unsubscribes, ...makeCommands('unsubscribe', splitJobs(removed, maxBytes)), ...makeCommands('subscribe', splitJobs(added, maxBytes))];
  const changed = sent === null || removed.length + added.length > 0;
  return [...unsubscribes, ...(changed ? makeCommands('sync_subscriptions', [[...wanted]]) : [])];
}

/**
 * Returns `hello` with as many positions as fit into one message. For every other job the gateway sends a snapshot,
 * which costs more, and has the same result.
 *
 * @param {Iterable<[job: string, position: Position | null]>} positions
 * @param {{ token?: string | null, maxHz?: number | undefined, maxBytes?: number }} [options]
 * @returns {Hello | null}  null: it would be empty
 */
export function hello(positions, { token = null, maxHz, maxBytes = MAX_MESSAGE } = {}) {
  /** @type {Record<string, [number, number]>} */
  const sentPositions = {};
  let bytesLeft = maxBytes - COMMAND_OVERHEAD - (token?.length ?? 0);
  for (const [job, position] of positions) {
    if (position === null || position.epoch === null) continue;
    bytesLeft -= `${job}${position.epoch}${position.seq}`.length + 7;
    if (bytesLeft < 0) break;
    sentPositions[job] = [position.epoch, position.seq];
  }
  const hasPositions = Object.keys(sentPositions).length > 0;
  if (token === null && maxHz === undefined && !hasPositions) return null;
  return { type: 'hello', ...(token !== null && { token }), ...(maxHz && { max_hz: maxHz }), ...(hasPositions && { positions: sentPositions }) };
}

/**
 * Returns the retry window of a frame, if it is valid.
 * @param {unknown} value  the `retry` of a frame
 * @returns {RetryWindow | null}
 */
export function retryWindow(value) {
  if (!Array.isArray(value)) return null;
  const [min, max] = value;
  return Number.isFinite(min) && Number.isFinite(max) && min >= 0 && max >= min ? [min, max] : null;
}

/**
 * Splits jobs into lists that each fit into one message.
 * @param {Iterable<string>} jobs
 * @param {number} maxBytes
 * @returns {string[][]}
 */
function splitJobs(jobs, maxBytes) {
  /** @type {string[][]} */
  const chunks = [];
  let bytesLeft = 0;
  for (const job of jobs) {
    const size = encodedLength(job);
    if (size > bytesLeft || chunks.length === 0) {
      chunks.push([]);
      bytesLeft = maxBytes - COMMAND_OVERHEAD;
    }
    bytesLeft -= size;
    chunks.at(-1)?.push(job);
  }
  return chunks;
}

/**
 * Returns the maximum bytes of a job in a list, including the comma. Job ids are ASCII. An attribute in a page may
 * contain any text, of which a character has at most six bytes in JSON; the gateway denies it as `invalid_job`.
 * @param {string} job
 */
function encodedLength(job) {
  return (/^[\w.:/@-]*$/.test(job) ? job.length : job.length * 6) + 3;
}
