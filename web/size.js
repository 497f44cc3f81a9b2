/**
 * `npm run size`: prints the size of the core, bundled as in an application, minified and gzipped. Fails if it is above
 * the budget. The fallback, the tokens and the requests are separate chunks, which are loaded on demand.
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

/** The gzipped bytes of each chunk. */
const sizes = new Map(outputFiles.map(({ path, contents }) => [basename(path), gzipSync(contents, { level: 9 }).length]));

/**
 * Returns the chunks that a page loads with this one: all except those that are imported on demand.
 * @param {string} chunk @param {Set<string>} [chunks]
 */
function loadedWith(chunk, chunks = new Set()) {
  if (chunks.has(chunk)) return chunks;
  chunks.add(chunk);
  for (const { path, kind } of metafile.outputs[chunk]?.imports ?? []) if (kind === 'import-statement') loadedWith(path, chunks);
  return chunks;
}

const sum = (/** @type {Iterable<string>} */ names) => [...names].reduce((bytes, chunk) => bytes + (sizes.get(basename(chunk)) ?? 0), 0);
const coreChunks = loadedWith('dist/stdin.js');
const core = sum(coreChunks);
const onDemand = ['http-transports', 'tokens', 'send-request'].map((name) => {
  const chunk = Object.keys(metafile.outputs).find((path) => basename(path).startsWith(`${name}-`)) ?? '';
  return { name, bytes: sum([...loadedWith(chunk)].filter((path) => !coreChunks.has(path))) };
});
console.log(`core ${core} of ${BUDGET} bytes gzipped; on demand, ${onDemand.map(({ name, bytes }) => `${name} ${bytes}`).join(', ')}`);
if (core > BUDGET || onDemand.some(({ bytes }) => bytes === 0)) process.exitCode = 1;
