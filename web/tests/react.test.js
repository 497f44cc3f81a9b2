/**
 * On a server: rendered without a document, a socket or a warning. In a browser:
 * tests/browser/test_react.py.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createElement } from 'react';
import { renderToString } from 'react-dom/server';

import { useConnection, useJob, useJobs, useProgressSocket, useRequest } from '../src/react.js';

test('a server renders an unknown state, and does not connect', (t) => {
  const connects = [];
  t.mock.property?.(globalThis, 'WebSocket', class { constructor(url) { connects.push(url); } });
  function Page() {
    const { status, percent, loading } = useJob('video:42');
    const none = useJob(null);
    const jobs = useJobs(['a', 'b']);
    const { state } = useConnection();
    const { isConnected } = useProgressSocket({ jobs: ['a'] });
    const { phase, accepts } = useRequest('video:42');
    assert.deepEqual([phase, accepts], ['none', []]);
    return createElement('p', null, [status, percent, loading, none.job, jobs.length, state, isConnected].join('|'));
  }
  assert.equal(renderToString(createElement(Page)), '<p>unknown||true||2|connecting|false</p>');
  assert.deepEqual(connects, []);
});
