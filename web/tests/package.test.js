/** The package as a user installs it: packed, unpacked, type-checked and bundled. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { build } from 'esbuild';

const run = promisify(execFile);
const web = fileURLToPath(new URL('..', import.meta.url));
let folder;
let files;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'package-'));
  const { stdout } = await run('npm', ['pack', '--json', '--silent', '--pack-destination', folder], { cwd: web });
  const [packed] = Object.values(JSON.parse(stdout.slice(stdout.search(/^[[{]/m))));
  files = packed.files.map(({ path }) => path);
  const modules = join(folder, 'node_modules');
  await mkdir(join(modules, 'progress-gateway'), { recursive: true });
  await run('tar', ['xzf', join(folder, packed.filename), '--strip-components=1', '-C', join(modules, 'progress-gateway')]);
  for (const name of ['react', '@types', 'csstype']) await symlink(join(web, 'node_modules', name), join(modules, name));
});

after(() => rm(folder, { recursive: true }));

test('it contains the client and its types, and nothing of the page', () => {
  for (const file of ['src/core.js', 'src/react.js', 'src/http-transports.js', 'client.js', 'types/src/core.d.ts', 'types/react.d.ts', 'types/element.d.ts', 'types/client.d.ts', 'README.md']) {
    assert.ok(files.includes(file), file);
  }
  assert.deepEqual(files.filter((file) => /^page|test|index\.html/.test(file)), []);
});

const PROGRAM = `
import { configure, connect, logout, renew, requestJob, tokenFrom, watchEnd, watchJob, type Progress, type Watched } from 'progress-gateway';
import { useConnection, useJob, useJobEnd, useJobs, useProgressSocket, useRequest, RequestError } from 'progress-gateway/react';
import { JobProgressElement } from 'progress-gateway/element';

configure({ gateway: new URL('https://progress.example/ws'), token: async () => 'secret', maxHz: 4, locale: 'de', words: { running: 'Rennt' } });
configure({ token: tokenFrom('/progress-token') });
watchEnd('video:42', ({ alreadyOver, attempt, state }) => console.log(alreadyOver, attempt.toFixed(), state.status));
renew().then(logout);
requestJob('video:42', 'cancel', { attempt: 1 }).then(({ applied }) => applied, (error: unknown) => error instanceof RequestError && error.code);
export function useStop(): () => void {
  const { accepts, phase, reason, request } = useRequest('video:42');
  return () => accepts.includes('cancel') && phase !== 'open' && reason === null && void request('cancel', { args: { soft: true } });
}
interface Upload { url: string }
export function Link(): string | undefined {
  const { data } = useJob<Upload>('video:42', { onEnd: ({ job }) => job.trim() });
  useJobEnd<Upload>('video:42', ({ state }) => state.data?.url.trim());
  return data?.url;
}
document.querySelector('job-progress')?.addEventListener('job-end', ({ detail }) => console.log(detail.job, detail.alreadyOver));
const leave: () => void = watchJob('video:42', ({ state, denied }: Watched) => console.log(state?.percent?.toFixed(), denied));
const seen: 'connecting' | 'live' | 'stale' | 'offline' = connect().status().state;
export function Bar(): number | null {
  const progress: Progress = useJob('video:42');
  const [first] = useJobs(['a', 'b']);
  const { retry, reconnects } = useConnection();
  const { sendMessage, isConnected } = useProgressSocket({ url: '/ws', jobs: ['a'], onMessage: ({ snapshot, state }) => console.log(snapshot, state?.status) });
  if (reconnects > 3 && !isConnected) retry();
  sendMessage({ type: 'subscribe', jobs: ['b'] });
  // @ts-expect-error: a status is one of seven texts
  if (progress.status === 'done') leave();
  return first?.eta ?? progress.percent;
}
export const element: HTMLElement = new JobProgressElement();
export { seen };
`;

const JSX = `
import 'progress-gateway/element';
import 'progress-gateway/react';

export const bar = <job-progress job="video:42" label="Your video" className="wide"><time slot="aside" /></job-progress>;
// @ts-expect-error: it needs a job
export const none = <job-progress />;
`;

test('its types work in a strict project', async () => {
  await writeFile(join(folder, 'use.ts'), PROGRAM);
  await writeFile(join(folder, 'use.tsx'), JSX);
  const options = { strict: true, noEmit: true, target: 'es2022', module: 'esnext', moduleResolution: 'bundler', lib: ['es2022', 'dom'], types: [], jsx: 'react-jsx', exactOptionalPropertyTypes: true };
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: ['use.ts', 'use.tsx'] }));
  await run(join(web, 'node_modules/.bin/tsc'), ['-p', folder]).catch(({ stdout }) => assert.fail(stdout));
});

test('a bundler drops unused code, and keeps modules with side effects', async () => {
  const bundle = async (contents) => {
    const { outputFiles } = await build({ stdin: { contents, resolveDir: folder }, bundle: true, format: 'esm', write: false, external: ['react'], logLevel: 'silent' });
    return outputFiles[0].text;
  };
  const core = await bundle("import { connect } from 'progress-gateway'; connect();");
  assert.ok(!core.includes('job-progress') && !core.includes('useSyncExternalStore'));
  const element = await bundle("import 'progress-gateway/element';");
  assert.match(element, /define\("job-progress"/);
  assert.match(await bundle("import 'progress-gateway/client.js';"), /define\("job-progress"/);
});
