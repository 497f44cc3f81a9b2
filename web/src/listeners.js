/**
 * Call all listeners: an exception in one component must not affect the others.
 *
 * @template Value
 * @param {Iterable<(value: Value) => void>} listeners  not changed meanwhile
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
