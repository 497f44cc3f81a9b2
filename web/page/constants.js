// Generated from the Python code by `python -m docs.generate`. Do not edit.
// The constants of the page, with default limits.

/** Jobs per request of a list. */
export const MAX_PAGE = 200;
/** Jobs in a set. */
export const MAX_SET_LIMIT = 200;
/** Sets per connection. */
export const MAX_SETS = 10;
