/**
 * Where this file came from is where the gateway is, so that a page which loads
 * `client.js` need not say it. A module of its own, as it must have run before
 * the element is defined: the elements of a page connect at that moment.
 */

import { configure } from './shared.js';

configure({ gateway: new URL('ws', import.meta.url) });
