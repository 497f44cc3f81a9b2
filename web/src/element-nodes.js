/**
 * The inside of a `<job-progress>`: its nodes, made once, and the ways to change
 * them that cost nothing where nothing changes.
 */

import { elementStyle } from './element-style.js';
import { iconFrame } from './icons.js';

/** @param {ShadowRoot} root */
export function build(root) {
  root.adoptedStyleSheets = [elementStyle()];
  const icon = iconFrame();
  icon.setAttribute('class', 'icon');
  icon.setAttribute('part', 'icon');
  const part = (/** @type {string} */ name) => make('span', name);
  const nodes = {
    rule: box('rule'),
    frame: box('box'),
    icon,
    name: part('name'),
    attempt: part('attempt'),
    figure: part('figure'),
    track: make('div', 'track'),
    bar: make('div', 'bar'),
    phase: part('phase'),
    message: part('message'),
    error: part('error'),
    amount: part('amount'),
    time: part('time'),
    live: make('span', 'hidden'),
  };
  set(nodes.track, 'role', 'progressbar');
  set(nodes.track, 'aria-valuemin', '0');
  set(nodes.track, 'aria-valuemax', '100');
  set(nodes.live, 'role', 'status');
  nodes.track.append(nodes.bar);
  const aside = document.createElement('slot');
  aside.name = 'aside';
  const main = make('div', 'main');
  main.append(
    box('head', nodes.name, nodes.attempt, box('now', nodes.figure, aside)),
    nodes.track,
    box('foot', box('story', nodes.phase, nodes.message, nodes.error), box('facts', nodes.amount, nodes.time)),
  );
  nodes.frame.append(icon, main);
  root.append(nodes.rule, nodes.frame, nodes.live);
  return nodes;
}

/** @param {string} tag @param {string} name */
function make(tag, name) {
  const node = document.createElement(tag);
  node.className = name;
  node.setAttribute('part', name);
  return node;
}

/** @param {string} name @param {...Node} children */
function box(name, ...children) {
  const node = document.createElement('div');
  node.className = name;
  node.append(...children);
  return node;
}

/** @param {HTMLElement} node @param {string} text */
export function write(node, text) {
  const { firstChild } = node;
  // The text of a node that is there already: no style depends on it.
  if (firstChild === null) node.textContent = text;
  else if (firstChild.nodeValue !== text) firstChild.nodeValue = text;
}

/** @param {Element} node @param {string} name @param {string} value */
export function set(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}
