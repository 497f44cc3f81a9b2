/**
 * `npm run size`: what a page pays for the core, bundled as an application would
 * bundle it, minified and gzipped. Fails if it is over the budget. The fallback
 * is a chunk of its own, loaded where WebSockets are blocked.
 */

import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const BUDGET = 6 * 1024;

const { outputFiles } = await build({
  stdin: { contents: "export { configure, connect, watchJob } from './src/core.js';", resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
  bundle: true,
  minify: true,
  splitting: true,
  format: 'esm',
  target: 'es2022',
  outdir: 'dist',
  write: false,
});
const sizes = outputFiles.map(({ path, contents }) => ({ path, bytes: gzipSync(contents, { level: 9 }).length }));
const late = sizes.filter(({ path }) => path.includes('fallback'));
const core = sizes.filter((file) => !late.includes(file)).reduce((sum, { bytes }) => sum + bytes, 0);
const fallback = late.reduce((sum, { bytes }) => sum + bytes, 0);
console.log(`core ${core} of ${BUDGET} bytes gzipped; fallback, loaded when needed, ${fallback}`);
if (core > BUDGET || fallback === 0) process.exitCode = 1;
