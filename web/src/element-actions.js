/**
 * The buttons of a `<job-progress actions>`: one for each verb that its job accepts, and a line with the status of
 * the newest request. This module is loaded only for elements with that attribute.
 *
 * A disabled button stays in its place and keeps the focus; only `aria-disabled` is set.
 */

import { setAttribute, setText } from './element-nodes.js';
import { fill, currentLanguage } from './language.js';
import { isOpen, requestStore } from './requests.js';
import { inNextFrame } from './ticker.js';

/** @import { RequestStatus } from './requests.js' */

/**
 * Adds a button for each request that the job accepts, and the line with the status of the newest request.
 * @param {{ name: HTMLElement, headEnd: HTMLElement, footer: HTMLElement }} nodes  of the element
 * @param {string} job
 * @param {string | undefined} gateway
 * @returns {() => void} removes them
 */
export function mountActions({ name, headEnd, footer }, job, gateway) {
  const store = requestStore(job, gateway);
  const buttons = document.createElement('span');
  buttons.className = 'verbs';
  const line = document.createElement('div');
  line.className = 'request';
  line.setAttribute('part', 'request');
  line.setAttribute('aria-live', 'polite');
  const text = document.createElement('bdi'); // it may contain a text of the worker
  line.append(text);
  name.id = 'name';
  headEnd.prepend(buttons);
  footer.after(line);

  /** @type {Map<string, HTMLButtonElement>} */
  const buttonByVerb = new Map();
  let removed = false;

  /** Returns the button of a verb. @param {string} verb */
  function buttonOf(verb) {
    let button = buttonByVerb.get(verb);
    if (button === undefined) {
      button = document.createElement('button');
      button.type = 'button';
      button.id = `verb-${verb}`;
      button.setAttribute('part', 'action');
      button.setAttribute('aria-labelledby', `${button.id} name`);
      button.addEventListener('click', () => void store.send(verb).catch(() => {})); // the line shows the error
      buttonByVerb.set(verb, button);
    }
    return button;
  }

  /** Updates the buttons and the line. */
  function draw() {
    if (removed) return;
    const status = store.get();
    const wantedButtons = status.accepts.map(buttonOf);
    if (wantedButtons.length !== buttons.childElementCount || wantedButtons.some((button, i) => button !== buttons.children[i])) buttons.replaceChildren(...wantedButtons);
    for (const verb of status.accepts) {
      const button = buttonOf(verb);
      setText(button, labelOf(verb));
      setAttribute(button, 'aria-disabled', String(isOpen(status, verb)));
    }
    setAttribute(line, 'data-phase', status.phase);
    setText(text, statusText(status));
  }

  const drawSoon = () => inNextFrame(draw);
  const unsubscribe = store.subscribe(drawSoon);
  draw();
  return () => {
    removed = true;
    unsubscribe();
    buttons.remove();
    line.remove();
  };
}

/** Returns the label of a verb; that of an unknown verb is the verb. @param {string} verb */
function labelOf(verb) {
  const { words } = currentLanguage();
  return verb === 'cancel' || verb === 'pause' || verb === 'resume' ? words[verb] : verb;
}

/** Returns the text of the line. @param {RequestStatus} status */
function statusText({ phase, verb, reason, error }) {
  const { words } = currentLanguage();
  switch (phase) {
    case 'open':
      return verb === 'cancel' ? words.cancelling : verb === 'pause' ? words.pausing : verb === 'resume' ? words.resuming : fill(words.asking, { verb: verb ?? '' });
    case 'unanswered':
      return words.unanswered;
    case 'refused':
      return fill(words.refused, { reason: reason ?? '' });
    case 'failed': {
      const code = error?.code;
      return code === 'forbidden' || code === 'final' || code === 'not_accepted' || code === 'stale_attempt' || code === 'unreachable' || code === 'unavailable' ? words[code] : (error?.message ?? '');
    }
    default:
      return '';
  }
}
