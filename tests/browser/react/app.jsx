// What an application does with the hooks; `entry.jsx` shows it in a browser,
// `server.jsx` renders it on a server.
import { useLayoutEffect, useRef, useState, useTransition } from 'react';

import { useConnection, useJob, useJobs, useProgressSocket } from '../../../web/src/react.js';

export function Bar({ job }) {
  const { percent, status, message, eta, stale } = useJob(job);
  return (
    <p>
      <span role="progressbar" aria-label={job} aria-valuenow={percent ?? undefined} aria-valuetext={status}>
        {status} {percent === null ? '' : `${percent}%`} {message}
      </span>
      {eta === null ? null : <em>{eta} s left</em>}
      {stale ? <strong>stale</strong> : null}
    </p>
  );
}

export function Connection() {
  const { state, violations, reconnects } = useConnection();
  return <p role="status">{`${state}, ${violations} violations, ${reconnects} reconnects`}</p>;
}

export function App() {
  const [shown, setShown] = useState(true);
  const [a, b] = useJobs(['a', 'b']);
  return (
    <main>
      <Connection />
      <button onClick={() => setShown(!shown)}>toggle</button>
      {shown ? <Bar job="video:42" /> : null}
      {shown ? <Bar job="video:42" /> : null}
      <p>{`both: ${a.percent} ${b.percent}`}</p>
    </main>
  );
}

// Many readers of one job, rendered in slices while it changes: all must agree.
export function Many() {
  const [n, setN] = useState(0);
  const [, startTransition] = useTransition();
  const root = useRef(null);
  useLayoutEffect(() => {
    const said = new Set([...root.current.querySelectorAll('li')].map((item) => item.textContent));
    globalThis.torn = Math.max(globalThis.torn ?? 0, said.size);
    globalThis.commits = (globalThis.commits ?? 0) + 1;
  });
  return (
    <section ref={root}>
      <Connection />
      <button onClick={() => startTransition(() => setN(n + 1))}>again</button>
      <ul>{Array.from({ length: 40 }, (_, i) => <Slow key={`${n}-${i}`} />)}</ul>
    </section>
  );
}

function Slow() {
  const { percent } = useJob('video:42');
  const until = performance.now() + 1;
  while (performance.now() < until);
  return <li>{String(percent)}</li>;
}

export function Socket() {
  const [log, setLog] = useState([]);
  const { isConnected, sendMessage, lastMessage, unsubscribe } = useProgressSocket({
    jobs: ['video:42'],
    onMessage: ({ job, snapshot, state }) => setLog((before) => [...before, `${job} ${snapshot ? 'is at' : 'went to'} ${state?.percent}`]),
    onOpen: () => setLog((before) => [...before, 'open']),
    onClose: () => setLog((before) => [...before, 'closed']),
  });
  return (
    <main>
      <p role="status">{isConnected ? 'connected' : 'not connected'}</p>
      <button onClick={() => sendMessage(JSON.stringify({ type: 'subscribe', jobs: ['b'] }))}>more</button>
      <button onClick={() => unsubscribe('video:42')}>less</button>
      <ol>{log.map((line, i) => <li key={i}>{line}</li>)}</ol>
      <p>{`last: ${lastMessage?.state?.percent}`}</p>
    </main>
  );
}

export const views = { App, Many, Socket };
