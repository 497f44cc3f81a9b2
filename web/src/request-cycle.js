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
