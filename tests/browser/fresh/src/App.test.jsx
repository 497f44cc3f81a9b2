import { act } from 'react';
import { createRoot } from 'react-dom/client';
import { expect, test, vi } from 'vitest';

import 'progress-gateway/element';

import { App } from './App.jsx';

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

test('a component with a job, and an element, without a gateway', async () => {
  const complaint = vi.spyOn(console, 'error');
  const root = document.body.appendChild(document.createElement('div'));
  await act(() => createRoot(root).render(<><App /><job-progress job="video:42" label="Your video" /></>));
  expect(root.textContent).toContain('The video: unknown');
  const bar = root.querySelector('job-progress').shadowRoot.querySelector('[role=progressbar]');
  expect(bar.getAttribute('aria-label')).toBe('Your video');
  root.remove();
  expect(complaint).not.toHaveBeenCalled();
});
