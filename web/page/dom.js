/** Functions that change only the parts of nodes that differ, so that the user's selection of text stays. */

import { t } from './translations.js';

/** Milliseconds for which a button confirms that it has copied a text. */
const CONFIRMATION_TIME = 2_000;

/** Sets the text of a node. Returns whether it has changed. @param {HTMLElement} node @param {string} text */
export function setText(node, text) {
  if (node.textContent === text) return false;
  node.textContent = text;
  return true;
}

/**
 * Fills a `dl`. The first call creates its rows; later calls replace only the values that have changed.
 * @param {HTMLElement} list
 * @param {Array<[term: string, value: string]>} facts
 * @param {(term: string, value: string) => Node | string} [renderValue]  returns what to show for a value
 */
export function showFacts(list, facts, renderValue = (_, value) => value) {
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
    dd.replaceChildren(renderValue(term, value));
  });
  while (list.children.length > 2 * facts.length) list.lastChild?.remove();
}

/**
 * Lets a button copy a text to the clipboard, and confirm this for `CONFIRMATION_TIME`.
 * @param {HTMLElement} button @param {() => string} textOf
 */
export function copyOnClick(button, textOf) {
  const label = button.textContent;
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(textOf());
      button.textContent = t('Copied');
    } catch {
      // Browsers do not allow this over plain http from another machine; the user can select the text.
      button.textContent = t('The browser does not allow it');
    }
    setTimeout(() => (button.textContent = label), CONFIRMATION_TIME);
  });
}
