/**
 * The inside of a `<job-progress>`: its nodes, made once, and the ways to change
 * them that cost nothing where nothing changes.
 */

import { applyStyle } from './element-style.js';
import { iconFrame } from './icons.js';

/** @param {ShadowRoot} root */
export function build(root) {
  applyStyle(root);
  const icon = iconFrame();
  icon.setAttribute('class', 'icon');
  icon.setAttribute('part', 'icon');
  // What a worker says may be written from right to left: it must not turn what stands beside it.
  const part = (/** @type {string} */ name) => make('bdi', name);
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
    // Of its own, as what stands beside it may run from right to left.
    dot: make('span', 'dot'),
    message: part('message'),
    error: part('error'),
    amount: part('amount'),
    time: part('time'),
    now: box('now'),
    foot: box('foot'),
    live: make('span', 'hidden'),
  };
  set(nodes.track, 'role', 'progressbar');
  set(nodes.track, 'aria-valuemin', '0');
  set(nodes.track, 'aria-valuemax', '100');
  set(nodes.live, 'role', 'status');
  nodes.track.append(nodes.bar);
  const [aside, actions] = ['aside', 'actions'].map((name) => {
    const slot = document.createElement('slot');
    slot.name = name;
    return slot;
  });
  const main = make('div', 'main');
  nodes.now.append(nodes.figure, /** @type {Node} */ (aside));
  nodes.foot.append(box('story', nodes.phase, nodes.dot, nodes.message, nodes.error), box('facts', nodes.amount, nodes.time));
  main.append(box('head', nodes.name, nodes.attempt, nodes.now), nodes.track, nodes.foot, /** @type {Node} */ (actions));
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
