/**
 * Calls all listeners. An exception in one of them is reported, and does not affect the others.
 *
 * @template Value
 * @param {Iterable<(value: Value) => void>} listeners  must not change during the call
 * @param {Value} value
 */
export function callAll(listeners, value) {
  for (const listener of listeners) {
    try {
      listener(value);
    } catch (error) {
      (globalThis.reportError ?? console.error)(error);
    }
  }
}
