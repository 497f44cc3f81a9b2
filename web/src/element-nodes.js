/**
 * The nodes inside a `<job-progress>`, which are created once, and functions that change a node only if its value
 * differs.
 */

import { applyStyle } from './element-style.js';
import { iconFrame } from './icons.js';

/** Creates the nodes, and returns those that change. @param {ShadowRoot} root */
export function buildNodes(root) {
  applyStyle(root);
  const icon = iconFrame();
  icon.setAttribute('class', 'icon');
  icon.setAttribute('part', 'icon');
  // Texts of a worker may be right-to-left; `bdi` keeps them from reordering the texts beside them.
  const textPart = (/** @type {string} */ name) => createPart('bdi', name);
  const nodes = {
    ruler: div('ruler'),
    frame: div('box'),
    icon,
    name: textPart('name'),
    attempt: textPart('attempt'),
    figure: textPart('figure'),
    track: createPart('div', 'track'),
    bar: createPart('div', 'bar'),
    phase: textPart('phase'),
    // A separate node, because the texts beside it may be right-to-left.
    dot: createPart('span', 'dot'),
    message: textPart('message'),
    error: textPart('error'),
    amount: textPart('amount'),
    time: textPart('time'),
    headEnd: div('head-end'),
    footer: div('footer'),
    announcement: createPart('span', 'hidden'),
  };
  setAttribute(nodes.track, 'role', 'progressbar');
  setAttribute(nodes.track, 'aria-valuemin', '0');
  setAttribute(nodes.track, 'aria-valuemax', '100');
  setAttribute(nodes.announcement, 'role', 'status');
  nodes.track.append(nodes.bar);
  const [asideSlot, actionsSlot] = ['aside', 'actions'].map((name) => {
    const slot = document.createElement('slot');
    slot.name = name;
    return slot;
  });
  const main = createPart('div', 'main');
  nodes.headEnd.append(nodes.figure, /** @type {Node} */ (asideSlot));
  nodes.footer.append(div('texts', nodes.phase, nodes.dot, nodes.message, nodes.error), div('facts', nodes.amount, nodes.time));
  main.append(div('head', nodes.name, nodes.attempt, nodes.headEnd), nodes.track, nodes.footer, /** @type {Node} */ (actionsSlot));
  nodes.frame.append(icon, main);
  root.append(nodes.ruler, nodes.frame, nodes.announcement);
  return nodes;
}

/** Creates a node that a style sheet can select with `::part(name)`. @param {string} tag @param {string} name */
function createPart(tag, name) {
  const node = document.createElement(tag);
  node.className = name;
  node.setAttribute('part', name);
  return node;
}

/** Creates a node that is not a part. @param {string} name @param {...Node} children */
function div(name, ...children) {
  const node = document.createElement('div');
  node.className = name;
  node.append(...children);
  return node;
}

/** Sets the text of a node. @param {HTMLElement} node @param {string} text */
export function setText(node, text) {
  const { firstChild } = node;
  // An existing text node is changed, because no style depends on its text.
  if (firstChild === null) node.textContent = text;
  else if (firstChild.nodeValue !== text) firstChild.nodeValue = text;
}

/** Sets an attribute of a node. @param {Element} node @param {string} name @param {string} value */
export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}
