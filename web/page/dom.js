/** Changes only the parts of nodes that differ, so that a selection stays. */

import { t } from './words.js';

const COPIED = 2_000;

/** @param {HTMLElement} node @param {string} text */
export function setText(node, text) {
  if (node.textContent === text) return false;
  node.textContent = text;
  return true;
}

/**
 * Fill a `dl`. Its rows are made once; later only changed values are replaced.
 * @param {HTMLElement} list
 * @param {Array<[term: string, value: string]>} facts
 * @param {(term: string, value: string) => Node | string} [draw]  a value
 */
export function showFacts(list, facts, draw = (_, value) => value) {
  facts.forEach(([term, value], i) => {
    let [dt, dd] = /** @type {HTMLElement[]} */ ([list.children[2 * i], list.children[2 * i + 1]]);
    if (dt === undefined || dd === undefined) {
      [dt, dd] = [document.createElement('dt'), document.createElement('dd')];
      dd.dir = 'auto';
      list.append(dt, dd);
    }
    setText(dt, t(term));
    const fact = `${term}: ${value}`;
    if (dd.dataset['fact'] === fact) return;
    dd.dataset['fact'] = fact;
    dd.replaceChildren(draw(term, value));
  });
  while (list.children.length > 2 * facts.length) list.lastChild?.remove();
}

/**
 * Let a button copy a text, and confirm it for a moment.
 * @param {HTMLElement} button @param {() => string} textOf
 */
export function copyOnClick(button, textOf) {
  const label = button.textContent;
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(textOf());
      button.textContent = t('Copied');
    } catch {
      // Browsers do not allow it over plain http from another machine; the user can select the
      // text.
      button.textContent = t('The browser does not allow it');
    }
    setTimeout(() => (button.textContent = label), COPIED);
  });
}
