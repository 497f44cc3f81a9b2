/**
 * Takes the gateway's URL from the URL of this file, so that a page which loads `client.js` need
 * not configure it.
 */

import { configure, current } from './settings.js';

if (current().gateway === undefined) configure({ gateway: new URL('../ws', import.meta.url) });
