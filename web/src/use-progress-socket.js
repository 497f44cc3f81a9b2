/**
 * A replacement for the WebSocket hook that many projects have written. It has the same interface, so that only the
 * import must be changed (`docs/migrating-use-websocket.md`). It uses the shared connection, which handles pings,
 * reconnects and positions, so two components with this hook share a socket. New code is shorter with `useJob`.
 */

import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from 'react';

import { INITIAL } from './connection-status.js';
import { connect } from './settings.js';

/** @import { ConnectionStatus } from './connection-status.js' */
/** @import { Connection } from './connection.js' */
/** @import { State } from './protocol.js' */

/**
 * @typedef {object} ProgressMessage
 * @property {'progress'} type
 * @property {string} job
 * @property {number | null} epoch
 * @property {number} seq
 * @property {boolean} snapshot  whether the state replaces the known one instead of continuing it
 * @property {State | null} state
 */

/** @typedef {string | number} Id  an id of the application, from which `toJob` makes a job id */

/**
 * @typedef {object} ProgressSocketOptions
 * @property {string | URL} [url]           the URL of the gateway's `/ws`
 * @property {readonly Id[]} [jobs]         the ids to watch, until the returned functions change that
 * @property {(id: Id) => string} [toJob]   returns the job of an id: `(id) => `project:${id}``; by default the id itself
 * @property {string} [idsField]            another name of the field `jobs` in your messages: `project_ids`
 * @property {(message: ProgressMessage) => void} [onMessage]
 * @property {() => void} [onConnect]       the same as `onOpen`
 * @property {() => void} [onOpen]
 * @property {(ending: { code: number, reason: string }) => void} [onDisconnect]  the same as `onClose`
 * @property {(ending: { code: number, reason: string }) => void} [onClose]
 * @property {(error: Error) => void} [onError]  called if the gateway has refused the connection or reports an error
 * @property {boolean} [enabled]            false: watch nothing
 * @property {boolean} [autoConnect]        false: watch nothing until `connect`
 */

/**
 * @typedef {object} ProgressSocket
 * @property {boolean} isConnected
 * @property {'connecting' | 'connected' | 'disconnected' | 'error'} connectionStatus
 * @property {0 | 1 | 3} readyState         as a WebSocket's: connecting, open, closed
 * @property {ProgressMessage | null} lastMessage
 * @property {string | null} error
 * @property {(ids: readonly Id[]) => void} syncSubscriptions  watches these ids, and no others
 * @property {(ids: Id | readonly Id[]) => void} subscribe
 * @property {(ids: Id | readonly Id[]) => void} unsubscribe
 * @property {(message: string | Record<string, unknown>) => void} sendMessage
 *   accepts `sync_subscriptions`, `subscribe`, `unsubscribe`, and `ping`, which is no longer needed
 * @property {() => void} connect           connects now, also after `disconnect`
 * @property {() => void} reconnect         the same as `connect`
 * @property {() => void} disconnect        stops watching until `connect`; other components are not affected
 */

/** @type {readonly Id[]} */
const NO_IDS = [];
const READY_STATES = { connecting: 0, live: 1, stale: 1, offline: 3 };
const CONNECTION_STATUSES = /** @type {const} */ ({ connecting: 'connecting', live: 'connected', stale: 'connected', offline: 'disconnected' });
const neverChanges = () => () => {};
/** @type {ConnectionStatus} */
const CLOSED_STATUS = Object.freeze({ ...INITIAL, state: 'offline' });

/**
 * Watches jobs, and returns the state of the connection and functions to change the watched jobs.
 * @param {ProgressSocketOptions} [options]
 * @returns {ProgressSocket}
 */
export function useProgressSocket(options = {}) {
  const { url, jobs = NO_IDS, enabled = true, autoConnect = true, toJob = String, idsField = 'jobs' } = options;
  const address = url === undefined ? undefined : String(url);
  const [isEnabled, setIsEnabled] = useState(autoConnect);
  const connection = useMemo(() => (enabled && isEnabled ? connect(address) : null), [address, enabled, isEnabled]);
  const [changes, setChanges] = useState(/** @type {ReadonlyMap<string, boolean>} */ (new Map()));
  const [lastMessage, setLastMessage] = useState(/** @type {ProgressMessage | null} */ (null));

  // Inline handlers are new functions at each render, which must not cause new subscriptions.
  const latest = useRef({ ...options, jobs, toJob, idsField });
  useEffect(() => {
    latest.current = { ...options, jobs, toJob, idsField };
  });

  const wantedByJob = new Map([...jobs.map((id) => /** @type {const} */ ([toJob(id), true])), ...changes]);
  const key = [...wantedByJob].filter(([, isWanted]) => isWanted).map(([job]) => job).sort().join('\n');
  const { state, stopped, error, ending } = useSyncExternalStore(
    connection?.observe ?? neverChanges,
    () => connection?.status() ?? CLOSED_STATUS,
    () => INITIAL,
  );
  const isConnected = READY_STATES[state] === 1;
  const wasConnected = useRef(false);
  useEffect(() => {
    if (isConnected === wasConnected.current) return;
    wasConnected.current = isConnected;
    const { onConnect, onOpen, onDisconnect, onClose } = latest.current;
    const closed = ending ?? { code: 1000, reason: 'closed by the page' };
    for (const handler of isConnected ? [onConnect, onOpen] : [onDisconnect, onClose]) handler?.(closed);
  }, [isConnected, ending]);
  useEffect(() => {
    if (error !== null) latest.current.onError?.(new Error(error));
  }, [error]);

  useListeners(connection, key, (message) => {
    setLastMessage(message);
    latest.current.onMessage?.(message);
  });

  const setWanted = useCallback((/** @type {Id | readonly Id[]} */ ids, /** @type {boolean} */ isWanted) => {
    const changes = jobsOf([ids].flat(), latest.current.toJob).map((job) => /** @type {const} */ ([job, isWanted]));
    setChanges((before) => new Map([...before, ...changes]));
  }, []);
  const subscribe = useCallback((/** @type {Id | readonly Id[]} */ ids) => setWanted(ids, true), [setWanted]);
  const unsubscribe = useCallback((/** @type {Id | readonly Id[]} */ ids) => setWanted(ids, false), [setWanted]);
  const syncSubscriptions = useCallback((/** @type {readonly Id[]} */ ids) => {
    const { jobs, toJob } = latest.current;
    const unwanted = jobsOf(jobs, toJob).map((job) => /** @type {const} */ ([job, false]));
    setChanges(new Map([...unwanted, ...jobsOf(ids, toJob).map((job) => /** @type {const} */ ([job, true]))]));
  }, []);
  const sendMessage = useCallback(
    (/** @type {string | Record<string, unknown>} */ message) => {
      const { type, ids } = readMessage(message, latest.current.idsField);
      if (type === 'sync_subscriptions') syncSubscriptions(ids);
      else if (type === 'subscribe') subscribe(ids);
      else if (type === 'unsubscribe') unsubscribe(ids);
    },
    [syncSubscriptions, subscribe, unsubscribe],
  );
  const reconnect = useCallback(() => {
    setIsEnabled(true);
    connection?.retry();
  }, [connection]);
  const disconnect = useCallback(() => setIsEnabled(false), []);

  return {
    isConnected, connectionStatus: stopped ? 'error' : CONNECTION_STATUSES[state], readyState: /** @type {0 | 1 | 3} */ (READY_STATES[state]),
    lastMessage, error, syncSubscriptions, subscribe, unsubscribe, sendMessage, connect: reconnect, reconnect, disconnect,
  };
}

/** Fields that such messages of other hooks have, and that are ignored. */
const IGNORED_FIELDS = new Set(['type', 'id', 'timestamp']);

/**
 * Reads a message that the application sends.
 * @param {string | Record<string, unknown>} message @param {string} idsField
 * @returns {{ type: unknown, ids: readonly Id[] }}
 * @throws {TypeError} the message is not supported
 */
function readMessage(message, idsField) {
  const fields = /** @type {Record<string, unknown>} */ (typeof message === 'string' ? JSON.parse(message) : message);
  const { type } = fields;
  if (type === 'ping' || type === 'pong') return { type, ids: NO_IDS };
  if (type !== 'sync_subscriptions' && type !== 'subscribe' && type !== 'unsubscribe') {
    throw new TypeError(`messages of type ${JSON.stringify(type)} are not supported`);
  }
  for (const name of Object.keys(fields)) {
    if (IGNORED_FIELDS.has(name) || name === 'jobs' || name === idsField) continue;
    throw new TypeError(
      `${type} has no field ${JSON.stringify(name)}: name the jobs in "jobs", or give the hook { idsField: ${JSON.stringify(name)} }`,
    );
  }
  const ids = fields['jobs'] ?? fields[idsField];
  if (!Array.isArray(ids)) throw new TypeError(`${type} needs "jobs", a list of job ids`);
  return { type, ids };
}

/** Returns the jobs of these ids. @param {readonly Id[]} ids @param {(id: Id) => string} toJob */
function jobsOf(ids, toJob) {
  return ids.map((id) => toJob(id));
}

/**
 * Watches the jobs in `key`, one per line. When some of them change, the others stay watched.
 * @param {Connection | null} connection
 * @param {string} key
 * @param {(message: ProgressMessage) => void} onMessage
 */
function useListeners(connection, key, onMessage) {
  const stops = useRef(/** @type {Map<string, () => void>} */ (new Map()));
  const latest = useRef(onMessage);
  useEffect(() => {
    latest.current = onMessage;
  });
  // There are two effects. This one ends with the connection, and stops watching all jobs.
  useEffect(() => {
    const current = stops.current;
    return () => {
      for (const stop of current.values()) stop();
      current.clear();
    };
  }, [connection]);
  // This one has no cleanup: it only stops and starts watching the jobs that have changed.
  useEffect(() => {
    if (connection === null) return;
    const wantedJobs = new Set(key === '' ? [] : key.split('\n'));
    for (const [job, stop] of stops.current) {
      if (wantedJobs.has(job)) continue;
      stop();
      stops.current.delete(job);
    }
    for (const job of wantedJobs) {
      if (stops.current.has(job)) continue;
      const stop = connection.watch(job, ({ epoch, seq, snapshot, state, denied }) => {
        if (denied === null) latest.current({ type: 'progress', job, epoch, seq, snapshot, state });
      });
      stops.current.set(job, stop);
    }
  }, [connection, key]);
}
