/**
 * A replacement for the WebSocket hook that many projects have written, with the same shape,
 * so that only the import must be changed (`docs/migrating-use-websocket.md`).
 * It uses the shared connection, which handles pings, reconnects, positions and
 * resyncs, so two components with this hook share a socket.
 * New code is shorter with `useJob`.
 */

import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from 'react';

import { connect } from './settings.js';
import { INITIAL } from './status.js';

/** @import { Connection } from './connection.js' */
/** @import { ConnectionStatus } from './status.js' */
/** @import { State } from './protocol.js' */

/**
 * @typedef {object} ProgressMessage
 * @property {'progress'} type
 * @property {string} job
 * @property {number | null} epoch
 * @property {number} seq
 * @property {boolean} snapshot  it says how the job is, and replaces what was known
 * @property {State | null} state
 */

/** @typedef {string | number} Id  of whatever the application counts: `toJob` makes a job id of it */

/**
 * @typedef {object} ProgressSocketOptions
 * @property {string | URL} [url]           of the gateway's `/ws`
 * @property {readonly Id[]} [jobs]         what to watch, until the functions say otherwise
 * @property {(id: Id) => string} [toJob]   the job of an id: `(id) => `project:${id}``; by default the id itself
 * @property {string} [idsField]            what your messages call the list of ids, beside `jobs`: `project_ids`
 * @property {(message: ProgressMessage) => void} [onMessage]
 * @property {() => void} [onConnect]       also `onOpen`
 * @property {() => void} [onOpen]
 * @property {(ending: { code: number, reason: string }) => void} [onDisconnect]  also `onClose`
 * @property {(ending: { code: number, reason: string }) => void} [onClose]
 * @property {(error: Error) => void} [onError]  it was refused, or is not connected for good
 * @property {boolean} [enabled]            false: watch nothing. Also `autoConnect`
 * @property {boolean} [autoConnect]
 */

/**
 * @typedef {object} ProgressSocket
 * @property {boolean} isConnected
 * @property {'connecting' | 'connected' | 'disconnected' | 'error'} connectionStatus
 * @property {0 | 1 | 3} readyState         as a WebSocket's: connecting, open, closed
 * @property {ProgressMessage | null} lastMessage
 * @property {string | null} error
 * @property {(ids: readonly Id[]) => void} syncSubscriptions  the whole set
 * @property {(ids: Id | readonly Id[]) => void} subscribe
 * @property {(ids: Id | readonly Id[]) => void} unsubscribe
 * @property {(message: string | Record<string, unknown>) => void} sendMessage
 *   takes `sync_subscriptions`, `subscribe`, `unsubscribe`, and `ping`, which is needed no more
 * @property {() => void} connect           now instead of later, and again after `disconnect`
 * @property {() => void} reconnect         the same
 * @property {() => void} disconnect        this component watches nothing until `connect`
 */

/** @type {readonly Id[]} */
const NONE = [];
const READY = { connecting: 0, live: 1, stale: 1, offline: 3 };
const STATUS = /** @type {const} */ ({ connecting: 'connecting', live: 'connected', stale: 'connected', offline: 'disconnected' });
const neverChanges = () => () => {};
/** @type {ConnectionStatus} */
const CLOSED = Object.freeze({ ...INITIAL, state: 'offline' });

/**
 * @param {ProgressSocketOptions} [options]
 * @returns {ProgressSocket}
 */
export function useProgressSocket(options = {}) {
  const { url, jobs = NONE, enabled = true, autoConnect = true, toJob = String, idsField = 'jobs' } = options;
  const address = url === undefined ? undefined : String(url);
  const [on, setOn] = useState(autoConnect);
  const connection = useMemo(() => (enabled && on ? connect(address) : null), [address, enabled, on]);
  const [changes, setChanges] = useState(/** @type {ReadonlyMap<string, boolean>} */ (new Map()));
  const [lastMessage, setLastMessage] = useState(/** @type {ProgressMessage | null} */ (null));

  // Handlers written inline are new at each render; that must not subscribe anew.
  const latest = useRef({ ...options, jobs, toJob, idsField });
  useEffect(() => {
    latest.current = { ...options, jobs, toJob, idsField };
  });

  const wanted = new Map([...jobs.map((id) => /** @type {const} */ ([toJob(id), true])), ...changes]);
  const key = [...wanted].filter(([, is]) => is).map(([job]) => job).sort().join('\n');
  const { state, stopped, error, ending } = useSyncExternalStore(
    connection?.observe ?? neverChanges,
    () => connection?.status() ?? CLOSED,
    () => INITIAL,
  );
  const isConnected = READY[state] === 1;
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

  useWatching(connection, key, (message) => {
    setLastMessage(message);
    latest.current.onMessage?.(message);
  });

  const change = useCallback((/** @type {Id | readonly Id[]} */ ids, /** @type {boolean} */ is) => {
    const changes = namesOf([ids].flat(), latest.current.toJob).map((job) => /** @type {const} */ ([job, is]));
    setChanges((before) => new Map([...before, ...changes]));
  }, []);
  const subscribe = useCallback((/** @type {Id | readonly Id[]} */ ids) => change(ids, true), [change]);
  const unsubscribe = useCallback((/** @type {Id | readonly Id[]} */ ids) => change(ids, false), [change]);
  const syncSubscriptions = useCallback((/** @type {readonly Id[]} */ ids) => {
    const { jobs, toJob } = latest.current;
    const others = namesOf(jobs, toJob).map((job) => /** @type {const} */ ([job, false]));
    setChanges(new Map([...others, ...namesOf(ids, toJob).map((job) => /** @type {const} */ ([job, true]))]));
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
    setOn(true);
    connection?.retry();
  }, [connection]);
  const disconnect = useCallback(() => setOn(false), []);

  return {
    isConnected, connectionStatus: stopped ? 'error' : STATUS[state], readyState: /** @type {0 | 1 | 3} */ (READY[state]),
    lastMessage, error, syncSubscriptions, subscribe, unsubscribe, sendMessage, connect: reconnect, reconnect, disconnect,
  };
}

/** Fields that other hooks have in such a message, and a gateway does not need. */
const HARMLESS = new Set(['type', 'id', 'timestamp']);

/**
 * @param {string | Record<string, unknown>} message @param {string} idsField
 * @returns {{ type: unknown, ids: readonly Id[] }}
 * @throws {TypeError} a gateway would not understand it
 */
function readMessage(message, idsField) {
  const fields = /** @type {Record<string, unknown>} */ (typeof message === 'string' ? JSON.parse(message) : message);
  const { type } = fields;
  if (type === 'ping' || type === 'pong') return { type, ids: NONE };
  if (type !== 'sync_subscriptions' && type !== 'subscribe' && type !== 'unsubscribe') {
    throw new TypeError(`a gateway takes no message of type ${JSON.stringify(type)}`);
  }
  for (const name of Object.keys(fields)) {
    if (HARMLESS.has(name) || name === 'jobs' || name === idsField) continue;
    throw new TypeError(
      `${type} has no field ${JSON.stringify(name)}: name the jobs in "jobs", or give the hook { idsField: ${JSON.stringify(name)} }`,
    );
  }
  const ids = fields['jobs'] ?? fields[idsField];
  if (!Array.isArray(ids)) throw new TypeError(`${type} needs "jobs", a list of job ids`);
  return { type, ids };
}

/** @param {readonly Id[]} ids @param {(id: Id) => string} toJob */
function namesOf(ids, toJob) {
  return ids.map((id) => toJob(id));
}

/**
 * Watch the jobs in `key`, one a line; a job that stays is left alone when others change.
 * @param {Connection | null} connection
 * @param {string} key
 * @param {(message: ProgressMessage) => void} onMessage
 */
function useWatching(connection, key, onMessage) {
  const watching = useRef(/** @type {Map<string, () => void>} */ (new Map()));
  const latest = useRef(onMessage);
  useEffect(() => {
    latest.current = onMessage;
  });
  // Two effects, as they end at different times: this one with the connection…
  useEffect(() => {
    const current = watching.current;
    return () => {
      for (const stop of current.values()) stop();
      current.clear();
    };
  }, [connection]);
  // …and this one never: it only brings what is watched in line with what is wanted.
  useEffect(() => {
    if (connection === null) return;
    const wanted = new Set(key === '' ? [] : key.split('\n'));
    for (const [job, stop] of watching.current) {
      if (wanted.has(job)) continue;
      stop();
      watching.current.delete(job);
    }
    for (const job of wanted) {
      if (watching.current.has(job)) continue;
      const stop = connection.watch(job, ({ epoch, seq, snapshot, state, denied }) => {
        if (denied === null) latest.current({ type: 'progress', job, epoch, seq, snapshot, state });
      });
      watching.current.set(job, stop);
    }
  }, [connection, key]);
}
