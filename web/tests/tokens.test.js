/** `tokenFrom`: a token from the application's own backend, or other responses in its place. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';

import { tokenFrom } from '../src/settings.js';
import { requestToken } from '../src/tokens.js';
import { jwt } from './world.js';

const TOKEN = jwt({ sub: 'ann' });
/** The responses by path: status, type, body. */
const RESPONSES = {
  '/text': [200, 'text/plain', `${TOKEN}\n`],
  '/json': [200, 'application/json', JSON.stringify({ token: TOKEN })],
  '/nobody': [200, 'application/json', JSON.stringify({ token: null })],
  '/deploy': [502, 'text/html', '<html><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></html>'],
  '/login': [401, 'application/json', '{"detail":"Not authenticated"}'],
  '/page': [200, 'text/html', '<!doctype html><title>Sign in</title>'],
};
let server;
let base;

before(async () => {
  server = createServer(({ url }, response) => {
    const [status, type, body] = RESPONSES[url];
    response.writeHead(status, { 'content-type': type }).end(body);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  base = `http://127.0.0.1:${server.address().port}`;
});

after(() => {
  server.closeAllConnections();
  server.close();
});

const requestFrom = (path) => requestToken(tokenFrom(`${base}${path}`), { setTimeout, clearTimeout });

test('a token as text and as JSON, and no token', async () => {
  assert.deepEqual([await requestFrom('/text'), await requestFrom('/json'), await requestFrom('/nobody')], [TOKEN, TOKEN, null]);
});

test('a page or an error instead of a token is not accepted', async (t) => {
  t.mock.method(console, 'warn', () => {});
  await assert.rejects(requestFrom('/deploy'), /\/deploy answered 502/);
  await assert.rejects(requestFrom('/login'), /\/login answered 401/);
  await assert.rejects(requestFrom('/page'), /not a JSON Web Token: it is an HTML page, perhaps the error of a proxy/);
});

test("a text that is not a token is explained once in the console, with the gateway's text", async (t) => {
  const table = JSON.parse(await readFile(new URL('../../tests/auth/not_tokens.json', import.meta.url), 'utf8'));
  const warn = t.mock.method(console, 'warn', () => {});
  for (const [text, sentence] of table) {
    if (text === '') continue; // no token, which is not an error
    for (let times = 0; times < 3; times++) await assert.rejects(requestToken(text, { setTimeout, clearTimeout }), { message: sentence });
  }
  const sentences = new Set(table.slice(1).map(([, sentence]) => `progress-gateway: ${sentence}`));
  assert.deepEqual(warn.mock.calls.map(({ arguments: [line] }) => line), [...sentences]);
  assert.equal(await requestToken(jwt({ sub: 'ann' }).replace(/[^.]*$/, ''), { setTimeout, clearTimeout }), jwt({ sub: 'ann' }).replace(/[^.]*$/, ''), 'unsigned: the gateway explains that');
  assert.equal(await requestToken('  ', { setTimeout, clearTimeout }).catch(({ message }) => message), 'not a JSON Web Token: it is empty');
  assert.match(await requestToken({ token: TOKEN }, { setTimeout, clearTimeout }).catch(({ message }) => message), /the text '\[object Object\]'/);
});
