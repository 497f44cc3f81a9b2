/**
 * The script that the gateway serves for pages without a build step:
 *
 *     <script type="module" src="https://progress.example/client.js"></script>
 *     <job-progress job="video:42"></job-progress>
 *
 * or, without the element:
 *
 *     import { watchJob } from 'https://progress.example/client.js';
 *     const unwatch = watchJob('video:42', ({ state }) => console.log(state?.percent));
 */

import './src/auto-configure.js';
// Modules that the client would otherwise load on demand, perhaps while the gateway is unavailable. Firefox does not
// load a module again after a failure.
import './src/element-actions.js';
import './src/http-transports.js';
import './src/send-request.js';
import './src/tokens.js';

export * from './src/core.js';
export { JobProgressElement } from './src/element.js';
export { JobListElement } from './src/job-list.js';
export { watchSet } from './src/sets.js';
export { describe } from './src/view.js';
