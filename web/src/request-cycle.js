/** The interface between `http-transports.js` and `sse.js` or `polling.js`: a cycle of requests for the jobs that are wanted now. */

/** @import { Environment } from './environment.js' */
/** @import { TransportEvents } from './open-transport.js' */
/** @import { Frame, WatchSet } from './protocol.js' */
/** @import { RequestLocks } from './request-locks.js' */

/** Milliseconds until the first response must have arrived, as for a WebSocket. */
export const RESPONSE_TIMEOUT = 10_000;

/**
 * One cycle delivers the frames of its jobs and sets, until `signal` ends it, because others are wanted.
 * @typedef {object} RequestCycle
 * @property {string[]} jobs
 * @property {WatchSet[]} sets
 * @property {boolean} resumed  whether the page has received states before, perhaps from a faster node
 * @property {AbortSignal} signal
 * @property {RequestLocks} locks
 * @property {number | undefined} maxHz
 * @property {(path: string, timeout: number, headers?: Record<string, string>) => Promise<GatewayResponse>} request
 * @property {(ms: number) => Promise<void>} pause
 * @property {(response: GatewayResponse) => void} welcome
 * @property {(frame: Frame) => void} emit
 * @property {() => void} restart  begins a new cycle
 * @property {(code: number, reason: string, blocked?: boolean) => void} end
 * @property {Environment} environment
 * @property {TransportEvents} events
 */

/** @typedef {{ response: Response, node: string, time: number }} GatewayResponse */

/** Returns the URL parameters of a set. @param {string} name  the parameter for the prefix @param {WatchSet} set @returns {string[][]} */
export function setParameters(name, { prefix, statuses, limit }) {
  return [[name, prefix], ...(statuses ? [['statuses', statuses.join()]] : []), ...(limit !== undefined ? [['limit', String(limit)]] : [])];
}

/**
 * Merges the frames of jobs that are requested several times (for sets, and by name). An event that is not newer than
 * what another response has delivered is dropped, and a frame that does not continue the position becomes a snapshot.
 * @param {RequestCycle['emit']} emit
 * @returns {RequestCycle['emit']}
 */
export function mergeStates(emit) {
  /** @type {Map<string, { epoch: number, seq: number }>} */
  const positions = new Map();
  return (frame) => {
    if (frame.type !== 'progress') return emit(frame);
    const { job, seq, prev, snapshot } = frame;
    const epoch = frame.epoch ?? 0; // an unknown job has no epoch
    const position = positions.get(job);
    if (position !== undefined && seq > 0 && (epoch < position.epoch || (epoch === position.epoch && seq <= position.seq))) return;
    positions.set(job, { epoch, seq });
    emit(!snapshot && (position?.epoch !== epoch || position.seq !== prev) ? { ...frame, prev: null, snapshot: true } : frame);
  };
}
