/**
 * `npm run size`: what a page pays for the core, bundled as an application would
 * bundle it, minified and gzipped. Fails if it is over the budget. The fallback, what handles tokens
 * and what makes requests are chunks of their own, loaded where they are needed.
 */

import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const BUDGET = 6 * 1024;

const { outputFiles, metafile } = await build({
  stdin: { contents: "export { configure, connect, watchJob } from './src/core.js';", resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
  bundle: true,
  minify: true,
  splitting: true,
  format: 'esm',
  target: 'es2022',
  outdir: 'dist',
  write: false,
  metafile: true,
});

/** Bytes gzipped, by the name of the chunk. */
const sizes = new Map(outputFiles.map(({ path, contents }) => [basename(path), gzipSync(contents, { level: 9 }).length]));

/**
 * The chunks that a page loads with this one: all but those that are imported when needed.
 * @param {string} chunk @param {Set<string>} [found]
 */
function loadedWith(chunk, found = new Set()) {
  if (found.has(chunk)) return found;
  found.add(chunk);
  for (const { path, kind } of metafile.outputs[chunk]?.imports ?? []) if (kind === 'import-statement') loadedWith(path, found);
  return found;
}

const sum = (/** @type {Iterable<string>} */ chunks) => [...chunks].reduce((bytes, chunk) => bytes + (sizes.get(basename(chunk)) ?? 0), 0);
const first = loadedWith('dist/stdin.js');
const core = sum(first);
const needed = ['fallback', 'tokens', 'send-request'].map((name) => {
  const chunk = Object.keys(metafile.outputs).find((path) => basename(path).startsWith(`${name}-`)) ?? '';
  return { name, bytes: sum([...loadedWith(chunk)].filter((path) => !first.has(path))) };
});
console.log(`core ${core} of ${BUDGET} bytes gzipped; when needed, ${needed.map(({ name, bytes }) => `${name} ${bytes}`).join(', ')}`);
if (core > BUDGET || needed.some(({ bytes }) => bytes === 0)) process.exitCode = 1;
