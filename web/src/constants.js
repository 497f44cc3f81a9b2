// Generated from the Python code by `python -m docs.generate`. Do not edit.

/** @typedef {'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled'} Status */
/** @type {readonly Status[]} */
export const STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'];
/** The statuses that only a new attempt can change. @type {ReadonlySet<string>} */
export const FINAL = new Set(['succeeded', 'failed', 'cancelled']);

export const SUBPROTOCOL = 'progress.v1';
/** Seconds of silence before the gateway pings. */
export const PING_INTERVAL = 25;
/** Seconds for which the known state of a job is kept after its last listener was removed. */
export const LINGER = 30;
/** The maximum bytes of a message that a gateway with default limits accepts. */
export const MAX_MESSAGE = 65536;
/** The maximum number of changes of a job that a gateway with default limits sends per second. */
export const MAX_HZ = 100;
/** Seconds without a report after which a job is stalled, unless it has another lease. */
export const DEFAULT_LEASE = 30;
/** The number of leases without a report after which a job is lost. */
export const LOST_AFTER = 10;
/** The percentage from which a job whose estimate has reached zero is shown as almost done. */
export const ALMOST_DONE = 95;
/** The seconds for which such a job is shown as almost done. */
export const ETA_GRACE = 5;
/** Seconds without an update after which a group without running children is shown as silent. */
export const IDLE_GROUP_AFTER = 60;

/** The close codes that the client handles individually. */
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
