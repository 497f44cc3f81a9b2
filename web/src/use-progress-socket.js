/**
 * A drop-in for the WebSocket hook that many projects have grown: the same shape,
 * so that moving is changing an import (`docs/migrating-use-websocket.md`).
 * Beneath it is the one shared connection: pings, reconnects, positions and
 * resyncs are its business, so two components with this hook share a socket.
 * New code is shorter with `useJob`.
 */

import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from 'react';

import { connect } from './shared.js';

/** @import { Connection } from './connection.js' */
/** @import { State } from './protocol.js' */

/**
 * @typedef {object} ProgressMessage
 * @property {'progress'} type
 * @property {string} job
 * @property {number | null} epoch
 * @property {number} seq
 * @property {boolean} snapshot  it says how the job stands, and replaces what was known
 * @property {State | null} state
 */

/**
 * @typedef {object} ProgressSocketOptions
 * @property {string | URL} [url]           of the gateway's `/ws`
 * @property {readonly string[]} [jobs]     what to hear of, until the functions say otherwise
 * @property {(message: ProgressMessage) => void} [onMessage]
 * @property {() => void} [onOpen]
 * @property {(ending: { code: number, reason: string }) => void} [onClose]
 * @property {boolean} [enabled]            false: hear of nothing
 */

/**
 * @typedef {object} ProgressSocket
 * @property {boolean} isConnected
 * @property {0 | 1 | 3} readyState         as a WebSocket's: connecting, open, closed
 * @property {ProgressMessage | null} lastMessage
 * @property {(jobs: readonly string[]) => void} syncSubscriptions  the whole set
 * @property {(jobs: string | readonly string[]) => void} subscribe
 * @property {(jobs: string | readonly string[]) => void} unsubscribe
 * @property {(message: string | { type: string, jobs?: readonly string[] }) => void} sendMessage
 *   takes `sync_subscriptions`, `subscribe`, `unsubscribe`, and `ping`, which is needed no more
 * @property {() => void} reconnect
 */

/** @type {readonly string[]} */
const NONE = [];
const READY = { connecting: 0, live: 1, stale: 1, offline: 3 };
const nothing = () => () => {};

/**
 * @param {ProgressSocketOptions} [options]
 * @returns {ProgressSocket}
 */
export function useProgressSocket({ url, jobs = NONE, onMessage, onOpen, onClose, enabled = true } = {}) {
  const address = url === undefined ? undefined : String(url);
  const connection = useMemo(
    () => (enabled && typeof document !== 'undefined' ? connect(address) : null),
    [address, enabled],
  );
  const [said, setSaid] = useState(/** @type {ReadonlyMap<string, boolean>} */ (new Map()));
  const [lastMessage, setLastMessage] = useState(/** @type {ProgressMessage | null} */ (null));

  // Handlers written inline are new at each render; that must not subscribe anew.
  const handlers = useRef({ onMessage, onOpen, onClose, jobs });
  useEffect(() => {
    handlers.current = { onMessage, onOpen, onClose, jobs };
  });

  const wanted = new Map([...jobs.map((job) => /** @type {const} */ ([job, true])), ...said]);
  const key = [...wanted].filter(([, is]) => is).map(([job]) => job).sort().join('\n');
  useWatching(connection, key, (message) => {
    setLastMessage(message);
    handlers.current.onMessage?.(message);
  });

  const state = useSyncExternalStore(
    connection?.observe ?? nothing,
    () => connection?.status().state ?? 'offline',
    () => /** @type {const} */ ('connecting'),
  );
  const isConnected = READY[state] === 1;
  const wasConnected = useRef(false);
  useEffect(() => {
    if (isConnected === wasConnected.current) return;
    wasConnected.current = isConnected;
    if (isConnected) handlers.current.onOpen?.();
    else handlers.current.onClose?.(connection?.status().ending ?? { code: 1000, reason: 'closed by the page' });
  }, [connection, isConnected]);

  const say = useCallback((/** @type {string | readonly string[]} */ some, /** @type {boolean} */ is) => {
    setSaid((before) => new Map([...before, ...[some].flat().map((job) => /** @type {const} */ ([job, is]))]));
  }, []);
  const subscribe = useCallback((/** @type {string | readonly string[]} */ more) => say(more, true), [say]);
  const unsubscribe = useCallback((/** @type {string | readonly string[]} */ fewer) => say(fewer, false), [say]);
  const syncSubscriptions = useCallback((/** @type {readonly string[]} */ all) => {
    const others = handlers.current.jobs.map((job) => /** @type {const} */ ([job, false]));
    setSaid(new Map([...others, ...all.map((job) => /** @type {const} */ ([job, true]))]));
  }, []);
  const sendMessage = useCallback(
    (/** @type {string | { type: string, jobs?: readonly string[] }} */ message) => {
      const { type, jobs: named = NONE } = typeof message === 'string' ? JSON.parse(message) : message;
      if (type === 'sync_subscriptions') syncSubscriptions(named);
      else if (type === 'subscribe') subscribe(named);
      else if (type === 'unsubscribe') unsubscribe(named);
      else if (type !== 'ping' && type !== 'pong') throw new TypeError(`a gateway takes no message of type ${type}`);
    },
    [syncSubscriptions, subscribe, unsubscribe],
  );
  const reconnect = useCallback(() => connection?.retry(), [connection]);

  return { isConnected, readyState: /** @type {0 | 1 | 3} */ (READY[state]), lastMessage, syncSubscriptions, subscribe, unsubscribe, sendMessage, reconnect };
}

/**
 * Watch the jobs in `key`, one a line; a job that stays is left alone when others change.
 * @param {Connection | null} connection
 * @param {string} key
 * @param {(message: ProgressMessage) => void} say
 */
function useWatching(connection, key, say) {
  const watching = useRef(/** @type {Map<string, () => void>} */ (new Map()));
  const told = useRef(say);
  useEffect(() => {
    told.current = say;
  });
  // Two effects, as they end at different times: this one with the connection…
  useEffect(() => {
    const current = watching.current;
    return () => {
      for (const leave of current.values()) leave();
      current.clear();
    };
  }, [connection]);
  // …and this one never: it only brings what is watched in line with what is wanted.
  useEffect(() => {
    if (connection === null) return;
    const wanted = new Set(key === '' ? [] : key.split('\n'));
    for (const [job, leave] of watching.current) {
      if (wanted.has(job)) continue;
      leave();
      watching.current.delete(job);
    }
    for (const job of wanted) {
      if (watching.current.has(job)) continue;
      const leave = connection.watch(job, ({ epoch, seq, snapshot, state, denied }) => {
        if (denied === null) told.current({ type: 'progress', job, epoch, seq, snapshot, state });
      });
      watching.current.set(job, leave);
    }
  }, [connection, key]);
}
