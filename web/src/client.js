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

import './here.js'; // first

export * from './core.js';
export { JobProgressElement } from './element.js';
export { describe } from './view.js';
