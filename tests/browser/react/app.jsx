// What an application does with the hooks; `entry.jsx` shows it in a browser,
// `server.jsx` renders it on a server.
import { Activity, Suspense, use, useLayoutEffect, useRef, useState, useTransition } from 'react';

import { useConnection, useJob, useJobEnd, useJobs, useJobSet, useProgressSocket, useRequest } from '../../../web/src/react.js';

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

// Whatever happens to the job while it is mounted, and to the component.
export function Ends() {
  const [ends, setEnds] = useState([]);
  const [shown, setShown] = useState(true);
  return (
    <main>
      <Connection />
      <button onClick={() => setShown(!shown)}>toggle</button>
      {shown ? <End note={(line) => setEnds((before) => [...before, line])} /> : null}
      <ol>{ends.map((line, i) => <li key={i}>{line}</li>)}</ol>
    </main>
  );
}

function End({ note }) {
  const told = (who) => ({ attempt, state, alreadyOver }) => note(`${who}: ${attempt} ${state.status} ${alreadyOver}`);
  const { status, attempt, percent } = useJob('video:42', { onEnd: told('option') });
  useJobEnd('video:42', told('hook'));
  return <p role="progressbar" aria-label="video:42" aria-valuenow={percent ?? undefined}>{`${status}, attempt ${attempt}`}</p>;
}

// The components of an application whose own hook was replaced by changing an import.
const useWebSocket = (options) => useProgressSocket({ ...options, idsField: 'project_ids', toJob: (id) => `project:${id}` });

export function Projects() {
  const [log, setLog] = useState([]);
  const add = (line) => setLog((before) => [...before, line]);
  const { isConnected, connectionStatus, connect, disconnect, sendMessage, syncSubscriptions } = useWebSocket({
    onMessage: ({ job, state }) => {
      const { status, percent, attempt } = state ?? {};
      add([job, status === 'running' ? percent : status, attempt > 1 && `attempt ${attempt}`].filter(Boolean).join(' '));
    },
    onConnect: () => add('connected'),
    onDisconnect: () => add('disconnected'),
    onError: (error) => add(`error: ${error.message}`),
  });
  const wrong = () => {
    try {
      sendMessage({ type: 'sync_subscriptions', projects: [7] });
    } catch (error) {
      add(error.message);
    }
  };
  return (
    <main>
      <p role="status">{`${connectionStatus}, ${isConnected}`}</p>
      <button onClick={() => sendMessage({ type: 'sync_subscriptions', project_ids: [7, 8] })}>send</button>
      <button onClick={() => syncSubscriptions([8])}>sync</button>
      <button onClick={wrong}>wrong</button>
      <button onClick={disconnect}>disconnect</button>
      <button onClick={connect}>connect</button>
      <ol>{log.map((line, i) => <li key={i}>{line}</li>)}</ol>
    </main>
  );
}

// A Stop button of the application's own.
export function Stop() {
  const { accepts, phase, verb, reason, error, request } = useRequest('video:42');
  const stop = () => request('cancel', { args: { soft: true } }).catch(() => {});
  return (
    <main>
      <Bar job="video:42" />
      {accepts.includes('cancel') ? <button disabled={phase === 'sending' || phase === 'open'} onClick={stop}>Stop</button> : null}
      <p role="status">{[phase, verb, reason, error?.status].filter(Boolean).join(' ')}</p>
    </main>
  );
}

// The jobs of a prefix, also those that do not exist yet.
export function Sets() {
  const [ends, setEnds] = useState([]);
  const [shown, setShown] = useState(true);
  const { total, counts } = useJobSet({ prefix: 'user:7:' });
  return (
    <main>
      <Connection />
      <button onClick={() => setShown(!shown)}>toggle</button>
      <p>{`${total} jobs, ${counts.running} running`}</p>
      {shown ? <Running note={(line) => setEnds((before) => [...before, line])} /> : null}
      <ol>{ends.map((line, i) => <li key={i}>{line}</li>)}</ol>
    </main>
  );
}

function Running({ note }) {
  const onEnd = ({ job, attempt, state }) => note(`${job}: ${attempt} ${state.status}`);
  const jobs = useJobs({ prefix: 'user:7:', statuses: ['queued', 'running'] }, { onEnd });
  return <ul aria-label="running">{jobs.map(({ job, status, percent }) => <li key={job}>{`${job} ${status} ${percent}`}</li>)}</ul>;
}

// What is hidden and shown again, or waits for something: `statuses` are those that were painted.
export function Hidden() {
  const [mode, setMode] = useState('visible');
  return (
    <main>
      <Connection />
      <button onClick={() => setMode(mode === 'visible' ? 'hidden' : 'visible')}>hide</button>
      <Activity mode={mode}><Painted /></Activity>
    </main>
  );
}

export function Waiting() {
  const [data, setData] = useState(() => Promise.resolve('loaded'));
  const wait = () => setData(new Promise((resolve) => { globalThis.load = () => resolve('loaded again'); }));
  return (
    <main>
      <Connection />
      <button onClick={wait}>wait</button>
      <Suspense fallback={<p>waiting</p>}><Painted data={data} /></Suspense>
    </main>
  );
}

function Painted({ data }) {
  const { status, percent } = useJob('video:42');
  const loaded = data === undefined ? '' : use(data);
  useLayoutEffect(() => {
    (globalThis.statuses ??= []).push(status);
  });
  return <p role="progressbar" aria-label="video:42" aria-valuenow={percent ?? undefined}>{`${status} ${percent}% ${loaded}`}</p>;
}

export const views = { App, Ends, Hidden, Many, Projects, Sets, Socket, Stop, Waiting };
