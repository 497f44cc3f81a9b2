/**
 * The wire contract `progress.v1`, seen from a browser: the shapes of its
 * frames, and the three pure rules that follow from them — which frame a client
 * may accept (`judge`), after which ending it may come back (`mayReturn`), and
 * which commands turn the set of jobs the gateway knows into the one wanted
 * (`commandsFor`). No socket, clock or DOM here. `docs/protocol.md` is the law.
 */

/**
 * The state of a job. A field that is not known is absent.
 * @typedef {object} State
 * @property {'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled'} status
 * @property {number} [attempt]      which try this is, from 1
 * @property {'ok' | 'stalled' | 'lost'} [health]
 * @property {number} [percent]      0–100; never falls within an attempt
 * @property {number} [done]
 * @property {number} [total]
 * @property {string} [unit]
 * @property {string} [phase]
 * @property {string} [message]
 * @property {string} [error]
 * @property {unknown} [data]
 * @property {string} [parent]
 * @property {number} [eta]          seconds left as of `updated_at`
 * @property {number} [lease]        seconds the worker may be silent
 * @property {number} [created_at]   times are Unix seconds, by the gateway's clock
 * @property {number} [started_at]
 * @property {number} [updated_at]
 * @property {number} [finished_at]
 */

/** @typedef {{ epoch: number | null, seq: number }} Position */

/** @typedef {[min: number, max: number]} RetryWindow  seconds */

/**
 * @typedef {object} Progress
 * @property {'progress'} type
 * @property {string} job
 * @property {number | null} epoch
 * @property {number | null} prev
 * @property {number} seq
 * @property {boolean} [snapshot]
 * @property {State | null} state
 */

/**
 * @typedef {Progress
 *   | { type: 'welcome', node: string, time: number, stale?: boolean, retry?: unknown }
 *   | { type: 'feed', stale: boolean }
 *   | { type: 'subscriptions', id: unknown, added: string[], removed: string[], unchanged: number, denied: Record<string, string> }
 *   | { type: 'error', id?: unknown, code: string, message: string }
 *   | { type: 'goaway', code: number, retry?: unknown }
 *   | { type: 'ping' }
 *   | { type: 'pong' }
 * } Frame
 */

/** @typedef {{ type: 'sync_subscriptions' | 'subscribe' | 'unsubscribe', id: number, jobs: string[] }} Subscribe */
/** @typedef {{ type: 'hello', token?: string, positions?: Record<string, [number, number]> }} Hello */
/** @typedef {Subscribe | Hello | { type: 'ping' } | { type: 'pong' }} Command */

export const SUBPROTOCOL = 'progress.v1';

/** The gateway ends a connection over a message of 64 KiB, for good (1009): stay well below. */
export const MESSAGE_LIMIT = 60_000;

/** The close code of a token that is over: a new one opens the door. */
export const TOKEN_EXPIRED = 4100;

/** Close codes below 4000 after which the same would only happen again. */
const FOR_GOOD = new Set([1002, 1003, 1007, 1008, 1009]);

/** The statuses that absorb everything but a new attempt. */
export const FINAL = new Set(['succeeded', 'failed', 'cancelled']);

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
 * @param {Progress} frame
 * @returns {'accept' | 'violation'}
 */
export function judge(position, frame) {
  if (frame.snapshot === true) return 'accept';
  const continues =
    position !== null &&
    position.epoch !== null &&
    frame.epoch === position.epoch &&
    frame.prev === position.seq &&
    frame.seq > position.seq;
  return continues ? 'accept' : 'violation';
}

/**
 * May a client come back after this close code? No for what would only happen
 * again (the client is wrong, or not welcome); yes for everything else, codes
 * made up by proxies included.
 *
 * @param {number} code
 */
export function mayReturn(code) {
  return !FOR_GOOD.has(code) && (code < 4500 || code > 4999);
}

/**
 * The commands that turn `known` into `wanted`: normally the one idempotent
 * `sync_subscriptions`; the difference in slices where the whole set would not
 * fit into one message. `fresh` are jobs the gateway must answer anew, although
 * it knows them: only leaving and joining again brings a snapshot. On a new line
 * (`known` is null) an empty set is said as well: it is what makes silence mean something.
 *
 * @param {ReadonlySet<string> | null} known
 * @param {ReadonlySet<string>} wanted
 * @param {ReadonlySet<string>} fresh
 * @param {() => number} nextId
 * @returns {Subscribe[]}
 */
export function commandsFor(known, wanted, fresh, nextId) {
  const has = known ?? new Set();
  const again = [...fresh].filter((job) => has.has(job) && wanted.has(job));
  const left = [...has].filter((job) => !wanted.has(job));
  const joined = [...wanted].filter((job) => !has.has(job) || fresh.has(job));
  const whole = slice(wanted);
  /** @type {(type: Subscribe['type'], slices: string[][]) => Subscribe[]} */
  const say = (type, slices) => slices.map((jobs) => ({ type, id: nextId(), jobs }));
  if (whole.length > 1) {
    return [...say('unsubscribe', slice(again)), ...say('unsubscribe', slice(left)), ...say('subscribe', slice(joined))];
  }
  const changed = known === null || left.length + joined.length > 0;
  return [...say('unsubscribe', slice(again)), ...(changed ? say('sync_subscriptions', [[...wanted]]) : [])];
}

/**
 * `hello` with as many positions as one message holds. A job left out is
 * answered with a snapshot: dearer, but just as right.
 *
 * @param {Iterable<[job: string, position: Position | null]>} positions
 * @param {string | null} [token]
 * @returns {Hello | null}  null if there is nothing to say
 */
export function hello(positions, token = null) {
  /** @type {Record<string, [number, number]>} */
  const said = {};
  let room = MESSAGE_LIMIT - (token?.length ?? 0);
  for (const [job, position] of positions) {
    if (position === null || position.epoch === null) continue;
    room -= `${job}${position.epoch}${position.seq}`.length + 7;
    if (room < 0) break;
    said[job] = [position.epoch, position.seq];
  }
  const some = Object.keys(said).length > 0;
  if (token === null && !some) return null;
  return { type: 'hello', ...(token !== null && { token }), ...(some && { positions: said }) };
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
 * @returns {string[][]}
 */
function slice(jobs) {
  /** @type {string[][]} */
  const slices = [];
  let room = 0;
  for (const job of jobs) {
    const size = encodedLength(job);
    if (size > room || slices.length === 0) {
      slices.push([]);
      room = MESSAGE_LIMIT;
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
