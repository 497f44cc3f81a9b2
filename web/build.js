/**
 * `npm run build`: makes the type declarations from the comments in the modules. The modules are published without
 * changes. Types that JavaScript cannot declare (JSX, the DOM's tables of elements and events) are written by hand in
 * `src/*.d.ts`, and added to the entry points.
 */

import { execFileSync } from 'node:child_process';
import { copyFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const web = fileURLToPath(new URL('.', import.meta.url));
const types = join(web, 'types');
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');

/** The declarations of each entry point. */
const ENTRIES = {
  'element.d.ts': ["export * from './src/element.js';", "import './src/elements.js';"],
  'job-list.d.ts': ["export * from './src/job-list.js';", "import './src/elements.js';"],
  'react.d.ts': ["export * from './src/react.js';", "import './src/elements.js';", "import './src/react-elements.js';"],
};

await rm(types, { recursive: true, force: true });
execFileSync(process.execPath, [tsc, '--project', 'tsconfig.types.json'], { cwd: web, stdio: 'inherit' });
for (const name of ['elements.d.ts', 'react-elements.d.ts']) await copyFile(join(web, 'src', name), join(types, 'src', name));
for (const [name, lines] of Object.entries(ENTRIES)) await writeFile(join(types, name), `${lines.join('\n')}\n`);
await writeFile(join(types, 'client.d.ts'), "export * from './src/core.js';\nexport { JobProgressElement } from './src/element.js';\nexport { JobListElement } from './src/job-list.js';\nexport { watchSet } from './src/sets.js';\nexport { describe } from './src/view.js';\nimport './src/elements.js';\n");
