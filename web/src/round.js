/** What `sse.js` and `polling.js` have in common: a round of requests, for the jobs that are wanted now. */

/** @import { Environment } from './environment.js' */
/** @import { Lanes } from './lanes.js' */
/** @import { Frame, WatchSet } from './protocol.js' */
/** @import { TransportEvents } from './connect.js' */

/** The timeout of a connection attempt, as for a WebSocket. */
export const FIRST_ANSWER = 10_000;

/**
 * Delivers the frames of some jobs until `signal`, because other jobs are wanted.
 * @typedef {object} Round
 * @property {string[]} jobs
 * @property {WatchSet[]} sets
 * @property {AbortSignal} signal
 * @property {Lanes} lanes
 * @property {number | undefined} maxHz
 * @property {(path: string, deadline: number, headers?: Record<string, string>) => Promise<Answer>} request
 * @property {(ms: number) => Promise<void>} pause
 * @property {(answer: Answer) => void} welcome
 * @property {(frame: Frame) => void} emit
 * @property {() => void} again  restart the round
 * @property {(code: number, reason: string, blocked?: boolean) => void} end
 * @property {Environment} environment
 * @property {TransportEvents} events
 */

/** @typedef {{ response: Response, node: string, time: number }} Answer */

/** @param {string} name  the parameter of the prefix @param {WatchSet} set @returns {string[][]} */
export function queryOf(name, { prefix, statuses, limit }) {
  return [[name, prefix], ...(statuses ? [['statuses', statuses.join()]] : []), ...(limit !== undefined ? [['limit', String(limit)]] : [])];
}
