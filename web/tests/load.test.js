/** Modules that are loaded on demand. In a browser: tests/firefox/test_firefox.py. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

import { load } from '../src/load.js';
import { pathOf } from '../src/job-path.js';
import { pathOf as ofFallback } from '../src/polling.js';

test('an error without a URL is reported', async () => {
  await assert.rejects(load(() => Promise.reject(new TypeError('Importing a module script failed.'))), /Importing a module script failed/);
});

const ENTRIES = {
  core: "export { configure, connect, requestJob, watchJob } from './src/core.js';",
  element: "import './src/element.js';",
  react: "export * from './src/react.js';",
};
for (const [name, contents] of Object.entries(ENTRIES)) {
  test(`in a bundle of ${name} no part that is loaded on demand needs another one`, async () => {
    const resolveDir = fileURLToPath(new URL('..', import.meta.url));
    const { metafile } = await build({ stdin: { contents, resolveDir }, bundle: true, splitting: true, format: 'esm', outdir: 'dist', write: false, metafile: true, external: ['react'] });
    const importedBy = (chunk) => (metafile.outputs[chunk]?.imports ?? []).filter(({ kind }) => kind === 'import-statement').map(({ path }) => path);
    const loaded = new Set(['dist/stdin.js', 'react']);
    for (const chunk of loaded) for (const path of importedBy(chunk)) loaded.add(path);
    const onDemand = Object.keys(metafile.outputs).filter((chunk) => !loaded.has(chunk));
    assert.ok(onDemand.some((chunk) => /http-transports/.test(chunk)));
    assert.deepEqual(onDemand.flatMap(importedBy).filter((path) => !loaded.has(path)), []);
  });
}

test('both copies of the path of a job are the same', () => {
  for (const job of ['a', 'a/b', 'a/../b', '..', 'x//y', 'e/events', 'events', '/a', 'a/.', '...']) assert.equal(ofFallback(job), pathOf(job), job);
});
