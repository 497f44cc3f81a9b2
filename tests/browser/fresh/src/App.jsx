import { useJob } from 'progress-gateway/react';

export function App() {
  const { status, percent } = useJob('video:42');
  (globalThis.statuses ??= []).push(status);
  return <p>{`The video: ${status} ${percent}%`}</p>;
}
