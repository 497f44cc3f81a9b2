/**
 * Sends a request to a job's worker, through the gateway. It is a separate chunk that is loaded on
 * demand. It does not import modules of the core, or of the fallback: see `load.js`.
 */

import { pathOf } from './job-path.js';

/** @import { Credentials } from './settings.js' */

/** Milliseconds until the request is aborted. */
const TIMEOUT = 10_000;

/**
 * @typedef {object} RequestOptions
 * @property {unknown} [args]      JSON for the worker, at most 1 KiB
 * @property {number} [attempt]    the attempt of the request; if another one has begun, the gateway refuses it
 * @property {string | URL | undefined} [gateway]
 */

/** @typedef {{ id: string, epoch: number, seq: number, attempt: number, applied: boolean }} RequestAnswer */

/** The gateway has refused a request, or has not answered; `message` is the explanation. */
export class RequestError extends Error {
  /**
   * @param {string} message
   * @param {{ status?: number, code?: string | null, cause?: unknown }} [details]
   */
  constructor(message, { status = 0, code = null, cause } = {}) {
    super(message, { cause });
    this.name = 'RequestError';
    /** The HTTP status; 0: there was no response, so the request may or may not have arrived. */
    this.status = status;
    /** `not_accepted`, `final` (the job has ended), `stale_attempt` or another code of the gateway. */
    this.code = code;
  }
}

/**
 * Sends a request once.
 *
 * @param {Credentials} credentials
 * @param {string} job
 * @param {string} verb
 * @param {RequestOptions} [options]
 * @returns {Promise<RequestAnswer>} `applied` is false if the same request, or a `cancel`, is already open
 * @throws {RequestError}
 * @throws what the token provider throws
 */
export async function sendRequest({ url, token: provider, loadTokens }, job, verb, { args, attempt } = {}) {
  /** @type {Record<string, string>} */
  const headers = { 'content-type': 'application/json' };
  if (provider !== undefined) {
    const { requestToken } = await loadTokens();
    const token = await requestToken(provider, globalThis);
    if (token !== null) headers['authorization'] = `Bearer ${token}`;
  }
  // Browsers create UUIDs only for pages that were loaded over https; for others the gateway creates the id.
  const id = globalThis.crypto?.randomUUID?.();
  const address = new URL(`api/jobs/${pathOf(job)}/requests`, url.replace(/^ws/, 'http'));
  /** @type {Response} */
  let response;
  /** @type {any} */
  let body;
  try {
    const signal = AbortSignal.timeout(TIMEOUT);
    response = await fetch(address, { method: 'POST', headers, body: JSON.stringify({ id, verb, args, attempt }), signal, cache: 'no-store' });
    body = await response.json().catch(() => null);
  } catch (cause) {
    throw new RequestError('The gateway does not answer.', { code: 'unreachable', cause });
  }
  const { status } = response;
  if (!response.headers.has('progress-gateway')) throw new RequestError(`Answered with ${status}, but not by a gateway.`, { status, code: 'unreachable' });
  if (!response.ok) throw new RequestError(body?.detail ?? `Answered with ${status}.`, { status, code: body?.code ?? (status === 403 ? 'forbidden' : status === 503 ? 'unavailable' : null) });
  return body;
}

