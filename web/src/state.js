/**
 * What follows from a job's state: whether it has ended, its look, percentage, rate and remaining
 * time. Pure.
 */

import { ALMOST_DONE, ETA_GRACE, FINAL } from './constants.js';

/** @import { State } from './protocol.js' */

/**
 * The look of a job: its status, or its health if that is worse, or that there is
 * nothing to show.
 * @typedef {'unknown' | 'queued' | 'running' | 'stalled' | 'lost' | 'succeeded'
 *   | 'failed' | 'cancelled' | 'denied'} Look
 */

/** Whether a job has ended: only a new attempt can follow. @param {{ status: string } | null | undefined} state */
export function isFinal(state) {
  return state != null && FINAL.has(state.status);
}

/**
 * @param {State | null} state
 * @returns {Look}
 */
export function lookOf(state) {
  if (state === null) return 'unknown';
  if (isFinal(state)) return state.status;
  return state.health === 'stalled' || state.health === 'lost' ? state.health : state.status;
}

/**
 * Whether a job with this look has ended or is lost: without a new attempt, or a report of the lost
 * worker, nothing will change.
 * @param {Look} look
 */
export function isOver(look) {
  return look === 'succeeded' || look === 'failed' || look === 'cancelled' || look === 'lost';
}

/**
 * How many seconds are left, by the gateway's estimate. An estimate that has run out was wrong; only
 * of a job that is almost done it was wrong by little, and counts for some seconds more.
 * @param {State | null} state
 * @param {number} now  the gateway's time, Unix seconds
 * @param {number | null} percent
 * @returns {number | null} null: there is no estimate that counts
 */
export function timeLeft(state, now, percent) {
  if (state?.status !== 'running' || state.health === 'stalled' || state.health === 'lost' || state.eta === undefined) return null;
  const left = state.eta - (now - (state.updated_at ?? now));
  const almostDone = percent !== null && percent >= ALMOST_DONE;
  return left >= 1 || (almostDone && left > -ETA_GRACE) ? left : null;
}

/**
 * @param {State | null} state
 * @param {number} floor  the percentage that this attempt has reached already
 * @returns {number | null}  0–100; null: it cannot say
 */
export function percentOf(state, floor) {
  if (state?.status === 'succeeded') return 100;
  return state?.percent === undefined ? null : Math.max(state.percent, floor);
}

/**
 * The rate behind the gateway's own estimate, so that the two never disagree. That is
 * one of the whole job, and `done` may be of a phase: then the rate follows from the percentage alone.
 * @param {State} state
 */
export function rateOf(state) {
  const { done = 0, total = 0, percent, eta } = state;
  if (!eta) return null;
  if (countsAll(state)) return (total - done) / eta;
  return percent === undefined ? null : (100 - percent) / eta;
}

/**
 * Whether `done` of `total` is of the whole job: it is what the percentage says.
 * @param {State} state
 */
export function countsAll({ done, total, percent }) {
  if (done === undefined || !total) return false;
  return percent === undefined || Math.abs(percent - (100 * done) / total) < 0.01; // two decimals
}
