/**
 * Takes the gateway's URL from the URL of this file, so that a page which loads `client.js` need
 * not configure it.
 */

import { configure, currentSettings } from './settings.js';

if (currentSettings().gateway === undefined) configure({ gateway: new URL('../ws', import.meta.url) });
