/**
 * React hooks: adapters of a few lines over the stores of `progress.js`. All that
 * lives longer than a render lives outside React, so StrictMode's double mounts
 * and renders that are thrown away leave nothing behind; on a server nothing is
 * dialled, and a job is `unknown` until the page has hydrated.
 *
 *     const { percent, phase, eta, stale } = useJob('video:42');
 */

import { useMemo, useSyncExternalStore } from 'react';

import { jobStore, progressOf } from './progress.js';
import { connect } from './shared.js';

/** @import { Connection } from './connection.js' */
/** @import { ConnectionStatus } from './status.js' */
/** @import { Progress, Store } from './progress.js' */

export { configure, connect } from './shared.js';
export { useProgressSocket } from './use-progress-socket.js';

/** @typedef {{ gateway?: string | URL | undefined }} HookOptions */

const ON_SERVER = typeof document === 'undefined';

/** @type {ConnectionStatus} */
const NOT_YET = Object.freeze({
  state: 'connecting', stopped: false, since: 0, transport: 'websocket', node: null, ending: null, retryAt: null,
  roundTrip: null, skew: 0, reconnects: 0, violations: 0, violation: null, error: null,
});

const nothing = () => () => {};

/** @param {string} job */
const unknown = (job) => progressOf(job, null, NOT_YET, 0);
const NO_JOB = unknown('');

/** @param {HookOptions} options @returns {Connection | null} null on a server */
export function useGateway({ gateway }) {
  const address = gateway === undefined ? undefined : String(gateway);
  return useMemo(() => (ON_SERVER ? null : connect(address)), [address]);
}

/**
 * What is known of a job, at every change; `eta` counts down by itself. Without a
 * job (null) it is `unknown`, and nothing is watched.
 *
 * @param {string | null} job
 * @param {HookOptions} [options]
 * @returns {Progress}
 */
export function useJob(job, options = {}) {
  const [progress] = useJobs(job === null ? [] : [job], options);
  return progress ?? NO_JOB;
}

/**
 * The same for several jobs, in the order given. One render for all that changes in a frame.
 *
 * @param {readonly string[]} jobs
 * @param {HookOptions} [options]
 * @returns {readonly Progress[]}
 */
export function useJobs(jobs, options = {}) {
  const connection = useGateway(options);
  const key = jobs.join('\n');
  const store = useMemo(() => {
    const all = key === '' ? [] : key.split('\n');
    const first = Object.freeze(all.map(unknown));
    return together(first, connection === null ? [] : all.map((job) => jobStore(job, connection)));
  }, [connection, key]);
  return useSyncExternalStore(store.subscribe, store.get, store.onServer);
}

/**
 * The connection's status, and how to have it dial at once.
 *
 * @param {HookOptions} [options]
 * @returns {ConnectionStatus & { retry: () => void }}
 */
export function useConnection(options = {}) {
  const connection = useGateway(options);
  const status = useSyncExternalStore(
    connection === null ? nothing : connection.observe,
    connection === null ? () => NOT_YET : connection.status,
    () => NOT_YET,
  );
  return useMemo(() => ({ ...status, retry: () => connection?.retry() }), [connection, status]);
}

/**
 * Several stores as one, whose value is a new array only when one of theirs is new.
 *
 * @param {readonly Progress[]} first  before anything can be known: on a server, and while hydrating
 * @param {Store<Progress>[]} stores
 */
function together(first, stores) {
  let value = Object.freeze(stores.map((store) => store.get()));
  return {
    onServer: () => first,
    get() {
      if (stores.some((store, i) => store.get() !== value[i])) value = Object.freeze(stores.map((store) => store.get()));
      return value;
    },
    /** @param {() => void} changed */
    subscribe(changed) {
      const leave = stores.map((store) => store.subscribe(changed));
      return () => leave.forEach((each) => each());
    },
  };
}
