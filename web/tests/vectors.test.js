/** The vectors of `vectors/` that concern a browser; `tests/vectors` runs them in Python and Lua. */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

import { acceptsFrame, hello, mayReconnect } from '../src/protocol.js';

const vectors = async (name) =>
  JSON.parse(await readFile(new URL(`../../vectors/${name}.json`, import.meta.url), 'utf8')).cases;

for (const { name, steps } of await vectors('client')) {
  test(`client rule: ${name}`, () => {
    let position = null;
    let shown = null;
    for (const step of steps) {
      if (step.reconnect) {
        assert.deepEqual(hello([['a', position]])?.positions?.a ?? null, step.hello);
        continue;
      }
      const { frame } = step;
      const accepted = acceptsFrame(position, frame);
      assert.equal(accepted, step.accepted);
      position = accepted ? { epoch: frame.epoch, seq: frame.seq } : null;
      if (accepted) shown = frame.state;
      assert.deepEqual(position && [position.epoch, position.seq], step.position);
      assert.deepEqual(shown, step.shown);
    }
  });
}

test('close codes', async () => {
  for (const { code, reconnect } of await vectors('close_codes')) assert.equal(mayReconnect(code), reconnect, `${code}`);
});
