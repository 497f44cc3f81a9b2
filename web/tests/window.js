/** Imported before the client: a browser, as far as that can tell. */

globalThis.window = globalThis;
