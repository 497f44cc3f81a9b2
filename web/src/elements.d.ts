/** `<job-progress>` and `<job-list>` in TypeScript's DOM, and in JSX: for React 18 and 19, and others that use the global `JSX`. */

import type { JobProgressElement } from './element.js';
import type { JobListElement } from './job-list.js';
import type { End } from './end-listener.js';

/** The attributes of `<job-progress>`, in JSX. */
export interface JobProgressAttributes {
  job: string;
  label?: string | undefined;
  gateway?: string | undefined;
  actions?: boolean | '' | undefined;
  class?: string | undefined;
  className?: string | undefined;
  id?: string | undefined;
  slot?: string | undefined;
  style?: any;
  hidden?: boolean | undefined;
  children?: any;
  key?: string | number | bigint | null | undefined;
  ref?: any;
  'onjob-end'?: ((event: CustomEvent<End>) => void) | undefined;
}

/** The attributes of `<job-list>`, in JSX. */
export interface JobListAttributes extends Omit<JobProgressAttributes, 'job' | 'label'> {
  prefix: string;
  statuses?: string | undefined;
  limit?: number | string | undefined;
}

declare global {
  interface HTMLElementTagNameMap {
    'job-progress': JobProgressElement;
    'job-list': JobListElement;
  }
  interface HTMLElementEventMap {
    'job-end': CustomEvent<End>;
  }
  namespace JSX {
    interface IntrinsicElements {
      'job-progress': JobProgressAttributes;
      'job-list': JobListAttributes;
    }
  }
}
