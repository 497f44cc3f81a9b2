/**
 * React hooks: small adapters for the stores of `progress.js`. State that outlives a render is kept outside React, so
 * it is correct with StrictMode's double mounts and with discarded renders. On a server no hook connects, and a job is
 * `unknown` until the page has hydrated.
 *
 *     const { percent, phase, eta, stale } = useJob('video:42');
 */

import { useEffect, useMemo, useRef, useSyncExternalStore } from 'react';

import { INITIAL } from './connection-status.js';
import { endListener } from './end-listener.js';
import { jobStore, progressOf } from './progress.js';
import { requestStore } from './requests.js';
import { LOADING, setStore } from './sets.js';
import { connect } from './settings.js';

/** @import { ConnectionStatus } from './connection-status.js' */
/** @import { Connection } from './connection.js' */
/** @import { Status } from './constants.js' */
/** @import { End } from './end-listener.js' */
/** @import { Progress, Store } from './progress.js' */
/** @import { RequestStatus } from './requests.js' */
/** @import { RequestAnswer } from './send-request.js' */
/** @import { JobSet, SetQuery } from './sets.js' */

export { requestJob } from './core.js';
export { RequestError } from './send-request.js';
export { configure, connect, logout, renew, tokenFrom } from './settings.js';
export { useProgressSocket } from './use-progress-socket.js';

/** @typedef {{ gateway?: string | URL | undefined }} HookOptions */
/** @typedef {HookOptions & { onEnd?: ((end: End<any>) => void) | undefined }} JobOptions */

/** Returns the value of a job before anything is known. @param {string} job */
const unknownProgress = (job) => progressOf(job, null, { stale: false, connection: 'connecting' }, 0);
const NO_JOB = unknownProgress('');
const initialStatus = () => INITIAL;

/** Returns the connection to the gateway. @param {HookOptions} options @returns {Connection} */
export function useGateway({ gateway }) {
  const address = gateway === undefined ? undefined : String(gateway);
  return useMemo(() => connect(address), [address]);
}

/**
 * Returns the state of a job, and renders at every change; `eta` counts down. Without a job (null) the status is
 * `unknown`, and nothing is watched.
 *
 * @template [Data=unknown]
 * @param {string | null} job
 * @param {JobOptions} [options]
 * @returns {Progress<Data>}
 */
export function useJob(job, options = {}) {
  const [progress] = useJobs(job === null ? [] : [job], options);
  return /** @type {Progress<Data>} */ (progress ?? NO_JOB);
}

/**
 * Returns the states of several jobs, in the given order, or of the jobs in a set:
 *
 *     const jobs = useJobs({ prefix: 'user:7:', statuses: ['queued', 'running'], limit: 20 });
 *
 * All changes within a frame cause one render.
 *
 * @template [Data=unknown]
 * @param {readonly string[] | SetQuery} which
 * @param {JobOptions} [options]  `onEnd` is called once for each attempt of a job that ends. For a set
 *   it is not called for attempts that had ended before
 * @returns {readonly Progress<Data>[]}
 */
export function useJobs(which, options = {}) {
  const connection = useGateway(options);
  const query = 'prefix' in which ? which : null;
  const set = useSetContent(connection, query, options.onEnd);
  const jobs = query === null ? /** @type {readonly string[]} */ (which) : set.jobs;
  const key = jobs.join('\n');
  const store = useMemo(() => {
    const all = key === '' ? [] : key.split('\n');
    return combineStores(Object.freeze(all.map(unknownProgress)), all.map((job) => jobStore(job, connection)));
  }, [connection, key]);
  useEnds(connection, query === null ? key : '', options.onEnd);
  return useSyncExternalStore(store.subscribe, store.get, store.onServer);
}

/**
 * Calls `onEnd` once for each attempt of a job that ends. If the job had ended before, it is called
 * with `alreadyOver`.
 *
 * @template [Data=unknown]
 * @param {string | null} job
 * @param {(end: End<Data>) => void} onEnd
 * @param {HookOptions} [options]
 */
export function useJobEnd(job, onEnd, options = {}) {
  useEnds(useGateway(options), job ?? '', onEnd);
}

/**
 * Returns the ids of the jobs with a prefix, in the order of the gateway, and their number. Jobs that begin later are
 * added. `useJobs` returns the states of the jobs.
 *
 * @param {SetQuery} query
 * @param {JobOptions} [options]
 * @returns {JobSet}
 */
export function useJobSet(query, options = {}) {
  return useSetContent(useGateway(options), query, options.onEnd);
}

/** Returns the content of a set. @param {Connection} connection @param {SetQuery | null} query @param {((end: End<any>) => void) | undefined} onEnd */
function useSetContent(connection, query, onEnd) {
  const latestOnEnd = useRef(onEnd);
  useEffect(() => {
    latestOnEnd.current = onEnd;
  });
  const { prefix, statuses, limit } = query ?? { prefix: null };
  const filter = statuses?.join();
  const store = useMemo(() => {
    if (prefix === null) return NO_SET;
    const ofSet = setStore({ prefix, limit, ...(filter && { statuses: /** @type {Status[]} */ (filter.split(',')) }) }, connection);
    return { get: ofSet.get, subscribe: (/** @type {() => void} */ changed) => ofSet.subscribe(changed, (end) => latestOnEnd.current?.(end)) };
  }, [connection, prefix, filter, limit]);
  return useSyncExternalStore(store.subscribe, store.get, noSet);
}

const noSet = () => LOADING;
const NO_SET = { get: noSet, subscribe: () => () => {} };

/** @type {RequestStatus} */
const NO_REQUEST = Object.freeze({ accepts: Object.freeze([]), verb: null, phase: 'none', reason: null, error: null });
const noRequest = () => NO_REQUEST;

/**
 * Returns the requests that a job accepts, the status of the newest request, and a function to send one:
 *
 *     const { accepts, phase, request } = useRequest('video:42');
 *     {accepts.includes('cancel') && <button onClick={() => request('cancel')}>Stop</button>}
 *
 * `request` rejects with a `RequestError` if the gateway refuses it; the error is then also in
 * `error`. While the same request is open it does nothing.
 *
 * @param {string} job
 * @param {HookOptions} [options]
 * @returns {RequestStatus & { request: (verb: string, options?: { args?: unknown }) => Promise<RequestAnswer | null> }}
 */
export function useRequest(job, options = {}) {
  const connection = useGateway(options);
  const address = options.gateway === undefined ? undefined : String(options.gateway);
  const store = useMemo(() => requestStore(job, address, connection), [job, address, connection]);
  const status = useSyncExternalStore(store.subscribe, store.get, noRequest);
  return useMemo(() => ({ ...status, request: store.send }), [status, store]);
}

/**
 * Returns the connection's status, and a function to connect immediately.
 *
 * @param {HookOptions} [options]
 * @returns {ConnectionStatus & { retry: () => void }}
 */
export function useConnection(options = {}) {
  const connection = useGateway(options);
  const status = useSyncExternalStore(connection.observe, connection.status, initialStatus);
  return useMemo(() => ({ ...status, retry: () => connection.retry() }), [connection, status]);
}

/**
 * Calls `onEnd` for each attempt of these jobs that ends. The listeners are kept during StrictMode's second mount, so
 * that each end is reported once.
 * @param {Connection} connection @param {string} key  the jobs, one per line
 * @param {((end: End<any>) => void) | undefined} onEnd
 */
function useEnds(connection, key, onEnd) {
  const latestOnEnd = useRef(onEnd);
  useEffect(() => {
    latestOnEnd.current = onEnd;
  });
  const hasHandler = onEnd !== undefined;
  const listeners = useMemo(
    () => (hasHandler && key !== '' ? key.split('\n') : []).map((job) => /** @type {const} */ ([job, endListener((end) => latestOnEnd.current?.(end))])),
    [connection, key, hasHandler],
  );
  useEffect(() => {
    const stops = listeners.map(([job, listener]) => connection.watch(job, listener));
    return () => stops.forEach((stop) => stop());
  }, [connection, listeners]);
}

/**
 * Combines stores to one store, whose value is a new array only when the value of one of them is new.
 *
 * @param {readonly Progress<any>[]} initial  the value on a server, and while hydrating
 * @param {Store<Progress<any>>[]} stores
 */
function combineStores(initial, stores) {
  let value = Object.freeze(stores.map((store) => store.get()));
  return {
    onServer: () => initial,
    get() {
      if (stores.some((store, i) => store.get() !== value[i])) value = Object.freeze(stores.map((store) => store.get()));
      return value;
    },
    /** @param {() => void} changed */
    subscribe(changed) {
      const stops = stores.map((store) => store.subscribe(changed));
      return () => stops.forEach((stop) => stop());
    },
  };
}
