/**
 * The element in DOM implementations that tests of applications use: nothing throws, nothing
 * remains.
 */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

const PROGRAM = `
  const complaints = [];
  process.on('uncaughtException', (error) => complaints.push(error));
  process.on('unhandledRejection', (error) => complaints.push(error));
  await import('./src/element.js');
  const host = document.createElement('main');
  document.body.append(host);
  host.innerHTML = '<job-progress job="video:42" label="Your video"></job-progress>';
  const bar = host.querySelector('job-progress');
  await new Promise((done) => setTimeout(done, 50));
  const text = bar.shadowRoot.querySelector('[part=name]').textContent;
  const role = bar.shadowRoot.querySelector('[part=track]').getAttribute('role');
  bar.setAttribute('job', 'video:43');
  bar.remove();
  host.append(bar);
  host.remove();
  await new Promise((done) => setTimeout(done, 50));
  await close();
  await new Promise((done) => setTimeout(done, 50));
  process.stdout.write(JSON.stringify({ text, role, complaints: complaints.map(String) }));
  process.exit();
`;

const DOM_SETUPS = {
  jsdom: `
    const { JSDOM } = await import('jsdom');
    const { window } = new JSDOM('<body></body>', { url: 'http://localhost:1/' });
    var close = () => { window.close(); for (const name of names) delete globalThis[name]; };
  `,
  'happy-dom': `
    const { Window } = await import('happy-dom');
    const window = new Window({ url: 'http://localhost:1/' });
    var close = async () => { await window.happyDOM.close(); for (const name of names) delete globalThis[name]; };
  `,
};
/** Like vitest: the window's names are global, and removed at the end of the test. */
const GLOBALS = `
  var names = ['window', 'document', 'HTMLElement', 'customElements', 'CustomEvent', 'Element', 'Node', 'SVGElement', 'CSSStyleSheet', 'ResizeObserver', 'WebSocket', 'requestAnimationFrame'];
  for (const name of names) if (window[name] !== undefined) globalThis[name] = window[name];
`;

for (const [name, setup] of Object.entries(DOM_SETUPS)) {
  test(`the element works in ${name}`, async () => {
    const web = fileURLToPath(new URL('..', import.meta.url));
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', setup + GLOBALS + PROGRAM], { cwd: web, timeout: 20_000 });
    assert.deepEqual(JSON.parse(stdout), { text: 'Your video', role: 'progressbar', complaints: [] });
  });
}

test('on a server nothing connects, nothing is kept, and a store has a value', async () => {
  const script = `
    globalThis.WebSocket = class { constructor() { throw new Error('it connects'); } };
    const { configure, connect, jobStore, watchJob } = await import('./src/core.js');
    await import('./src/element.js');
    const values = [];
    for (const gateway of [undefined, 'https://progress.example/ws']) {
      configure({ gateway });
      const store = jobStore('a');
      store.subscribe(() => {});
      watchJob('a', () => {})();
      values.push(store.get().status, connect().status().state);
    }
    process.stdout.write(JSON.stringify(values));
  `;
  const web = fileURLToPath(new URL('..', import.meta.url));
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], { cwd: web, timeout: 10_000 });
  assert.deepEqual(JSON.parse(stdout), ['unknown', 'connecting', 'unknown', 'connecting']);
});
