// Generated from the Python code by `python -m docs.generate`. Do not edit.

/** @typedef {'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled'} Status */
/** @type {readonly Status[]} */
export const STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'];
/** The statuses that only a new attempt can change. @type {ReadonlySet<string>} */
export const FINAL = new Set(['succeeded', 'failed', 'cancelled']);

export const SUBPROTOCOL = 'progress.v1';
/** Seconds of silence before the gateway pings. */
export const PING_INTERVAL = 25;
/** Seconds for which what was shown of a job is kept after its last listener left. */
export const LINGER = 30;
/** Bytes of a message that a gateway with default limits takes. */
export const MAX_MESSAGE = 65536;
/** Changes a second that the gateway sends at most, with default limits. */
export const MAX_HZ = 100;
/** Seconds that a worker may be silent, unless it says otherwise. */
export const DEFAULT_LEASE = 30;
/** Leases of silence after which a job is lost. */
export const LOST_AFTER = 10;
/** Percent from which a job whose estimate has run out is called almost done. */
export const ALMOST_DONE = 95;
/** Seconds for which it is called so. */
export const ETA_GRACE = 5;

/** Close codes that the client treats by name. */
export const GOING_AWAY = 1001;
/** No close frame came: RFC 6455 §7.1.5. */
export const ABNORMAL = 1006;
export const TOKEN_EXPIRED = 4100;
export const UNAUTHORIZED = 4500;
/** Close codes below 4000 after which a client does not reconnect. */
export const DO_NOT_RECONNECT = [1002, 1003, 1007, 1008, 1009];
/** The range of the gateway's own close codes after which a client does not reconnect. */
export const FIRST_FINAL_CODE = 4500;
export const LAST_FINAL_CODE = 4999;
