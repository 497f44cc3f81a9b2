// Generated from the Python code by `python -m docs.generate`. Do not edit.
// The constants of the fallback. They are in a separate module, so that a bundler loads them only
// with the fallback.

/** A job id. */
export const JOB_ID = /^(?=.{1,200}$)(?:\.{0,2}[A-Za-z0-9_:@-][A-Za-z0-9_.:@-]*|\.{3}[A-Za-z0-9_.:@-]*)(?:\/(?:\.{0,2}[A-Za-z0-9_:@-][A-Za-z0-9_.:@-]*|\.{3}[A-Za-z0-9_.:@-]*))*$/;
/** Jobs in one Server-Sent Events request, with default limits. */
export const MAX_STREAM_JOBS = 100;
/** The `Last-Event-ID` of a client that has received states before, and names no positions. */
export const NO_POSITIONS = '-';
/** Seconds of silence before the gateway pings. */
export const PING_INTERVAL = 25;
/** No close frame came: RFC 6455 §7.1.5. */
export const ABNORMAL = 1006;
export const UNAUTHORIZED = 4500;
