/** Imported before the client: a minimal browser environment. */

globalThis.window = globalThis;
