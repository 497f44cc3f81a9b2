/**
 * Pure functions of a job's state: whether the job has ended, its look, percentage, rate and remaining time.
 */

import { ALMOST_DONE, ETA_GRACE, FINAL } from './constants.js';

/** @import { State } from './protocol.js' */

/**
 * The look of a job: its status; its health if that is worse; `unknown` or `denied` if there is no state.
 * @typedef {'unknown' | 'queued' | 'running' | 'stalled' | 'lost' | 'succeeded'
 *   | 'failed' | 'cancelled' | 'denied'} Look
 */

/** Returns whether a job has ended: only a new attempt can follow. @param {{ status: string } | null | undefined} state */
export function isFinal(state) {
  return state != null && FINAL.has(state.status);
}

/**
 * Returns the look of a state.
 * @param {State | null} state
 * @returns {Look}
 */
export function lookOf(state) {
  if (state === null) return 'unknown';
  if (isFinal(state)) return state.status;
  return state.health === 'stalled' || state.health === 'lost' ? state.health : state.status;
}

/**
 * Returns whether a job with this look has ended or is lost. It changes only if a new attempt begins or the lost
 * worker reports again.
 * @param {Look} look
 */
export function isOver(look) {
  return look === 'succeeded' || look === 'failed' || look === 'cancelled' || look === 'lost';
}

/**
 * Returns the remaining seconds, by the gateway's estimate. An estimate that has reached zero is dropped; for a job
 * above `ALMOST_DONE` percent it stays for `ETA_GRACE` seconds.
 * @param {State | null} state
 * @param {number} now  the gateway's time, Unix seconds
 * @param {number | null} percent
 * @returns {number | null} null: there is no estimate, or it was dropped
 */
export function timeLeft(state, now, percent) {
  if (state?.status !== 'running' || state.health === 'stalled' || state.health === 'lost' || state.eta === undefined) return null;
  const remaining = state.eta - (now - (state.updated_at ?? now));
  const almostDone = percent !== null && percent >= ALMOST_DONE;
  return remaining >= 1 || (almostDone && remaining > -ETA_GRACE) ? remaining : null;
}

/**
 * Returns the percentage of a job.
 * @param {State | null} state
 * @param {number} floor  the percentage that this attempt has already reached
 * @returns {number | null}  0–100; null: unknown
 */
export function percentOf(state, floor) {
  if (state?.status === 'succeeded') return 100;
  return state?.percent === undefined ? null : Math.max(state.percent, floor);
}

/**
 * Returns the rate that follows from the gateway's estimate, so that both are consistent. The estimate is for the
 * whole job. If `done` counts only one phase, the rate is in percent a second.
 * @param {State} state
 */
export function rateOf(state) {
  const { done = 0, total = 0, percent, eta } = state;
  if (!eta) return null;
  if (countsWholeJob(state)) return (total - done) / eta;
  return percent === undefined ? null : (100 - percent) / eta;
}

/**
 * Returns whether `done` of `total` counts the whole job: then their quotient is the percentage.
 * @param {State} state
 */
export function countsWholeJob({ done, total, percent }) {
  if (done === undefined || !total) return false;
  return percent === undefined || Math.abs(percent - (100 * done) / total) < 0.01; // two decimals
}
