/**
 * All a page needs to load, from the gateway itself:
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
// What the client would otherwise load when it is needed: perhaps while the gateway is away. Firefox
// does not load a module again that it could not load once.
import './src/element-actions.js';
import './src/fallback.js';
import './src/send-request.js';
import './src/tokens.js';

export * from './src/core.js';
export { JobProgressElement } from './src/element.js';
export { JobListElement } from './src/job-list.js';
export { watchSet } from './src/sets.js';
export { describe } from './src/view.js';
