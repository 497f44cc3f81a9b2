/** `<job-progress>` and `<job-list>` in the JSX of React 19. */

import type { JobListAttributes, JobProgressAttributes } from './elements.js';

declare module 'react' {
  namespace JSX {
    interface IntrinsicElements {
      'job-progress': JobProgressAttributes;
      'job-list': JobListAttributes;
    }
  }
}
