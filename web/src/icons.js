/**
 * The icon of each look. The icons differ in shape as well as colour, for people who cannot
 * distinguish colours. They are built node by node, because a page may forbid the parsing of HTML.
 */

/** @import { Look } from './job-state.js' */

/** The tag and the attributes of an SVG node, on a grid of 16 by 16. @typedef {[string, Record<string, string>]} Shape */

/** @type {Shape} */
const DISC = ['circle', { cx: '8', cy: '8', r: '7.5', class: 'solid' }];
/** @type {Shape} */
const RING = ['circle', { cx: '8', cy: '8', r: '6.7' }];

/** @type {Record<Look, Shape[]>} */
const SHAPES = {
  unknown: [['circle', { cx: '8', cy: '8', r: '6.7', 'stroke-dasharray': '1.2 3' }]],
  queued: [RING, ['path', { d: 'M8 4.6V8l2.2 1.4' }]],
  running: [
    ['circle', { cx: '8', cy: '8', r: '6.7', class: 'faint' }],
    ['path', { d: 'M8 1.3A6.7 6.7 0 0 1 14.7 8' }],
    ['circle', { cx: '8', cy: '8', r: '2.4', class: 'solid' }],
  ],
  stalled: [RING, ['path', { d: 'M6.3 5.7v4.6M9.7 5.7v4.6' }]],
  lost: [
    ['path', { d: 'M8 1.5 15.2 14H.8Z', class: 'solid' }],
    ['path', { d: 'M8 6.2v3.4M8 11.9v.05', class: 'cut' }],
  ],
  succeeded: [DISC, ['path', { d: 'm4.9 8.2 2.2 2.2 4.1-4.6', class: 'cut' }]],
  failed: [DISC, ['path', { d: 'm5.5 5.5 5 5m0-5-5 5', class: 'cut' }]],
  cancelled: [RING, ['path', { d: 'm3.6 12.4 8.8-8.8' }]],
  denied: [RING, ['path', { d: 'M8 4.6v4M8 11.2v.05' }]],
};

const SVG = 'http://www.w3.org/2000/svg';

/** Returns the nodes of an icon. @param {Look} look */
export function drawIcon(look) {
  return SHAPES[look].map(([tag, attributes]) => drawShape(tag, attributes));
}

/** Creates an SVG node. @param {string} tag @param {Record<string, string | number>} attributes */
export function drawShape(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  return node;
}

/** Creates the SVG node that contains an icon. @returns {SVGElement} */
export function iconFrame() {
  return drawShape('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true' });
}
