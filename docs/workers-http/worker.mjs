// Reports a job to a progress-gateway. Node 20 or newer, no packages.
//   ls | node worker.mjs import:7 120      works on one item a line, of 120
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const { PROGRESS_GATEWAY_TOKEN: token, LEASE: lease = '30' } = process.env;
const gateway = process.env.PROGRESS_GATEWAY_URL || 'http://127.0.0.1:8000';

// The loop.

function startJob(name, fields) {
  const url = `${gateway}/api/jobs/${encodeURIComponent(name)}`;
  const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
  const began = Date.now();
  const state = { run: crypto.randomUUID(), start: true, status: 'running', lease: Number(lease), ...fields };
  let changed, wake, failures, giveUpAt;

  async function post() { // always the whole state, so that nothing is missing after an outage
    const body = JSON.stringify({ ...state, age: (Date.now() - began) / 1000 });
    const answer = await fetch(url, { method: 'POST', headers, body, signal: AbortSignal.timeout(5000) });
    const notNow = answer.status >= 500 || [408, 425, 429].includes(answer.status);
    if (notNow || !answer.headers.has('progress-gateway')) throw new Error(`HTTP ${answer.status}`);
    return answer.json();
  }

  async function report() { // until the end is delivered, or nothing more can be
    for (failures = 0; ; await sleep(100 * 2 ** Math.min(failures, 7) * (0.5 + Math.random()))) {
      const ended = state.status !== 'running';
      if (ended) giveUpAt ??= Date.now() + 60_000;
      changed = false;
      try {
        const { attempt, applied, reason, detail } = await post();
        if (ended && (applied || reason === 'final')) return;
        if (!applied && reason !== 'unchanged') return console.error(`${name}: no longer reported: ${detail}`);
        Object.assign(state, { start: false, attempt });
        failures = 0;
        const beat = sleep(lease * 333, null, { ref: false });
        if (!changed) await Promise.race([beat, new Promise((resolve) => (wake = resolve))]);
      } catch (error) { // no answer, or "not now": again; after the end for a minute
        if (Date.now() > giveUpAt) return console.error(`${name}: its end is lost: ${error}`);
        failures += 1;
        console.error(`${name}: not reported, will be tried again: ${error.cause ?? error}`);
      }
    }
  }

  const reported = report();
  return { reported, update(fields) { Object.assign(state, fields); changed = true; wake?.(); } };
}

// The worker.

const [name, total] = process.argv.slice(2);
const job = startJob(name, { done: 0, total: Number(total), unit: 'items' });
let done = 0;
try {
  for await (const item of createInterface({ input: process.stdin })) job.update({ done: ++done, message: item });
  job.update({ status: 'succeeded' });
} catch (error) {
  job.update({ status: 'failed', error: String(error) });
}
await job.reported;
