/** Every text of the page exists in every language of the page. */

import './window.js';
import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { TRANSLATIONS } from '../page/translations.js';

const page = fileURLToPath(new URL('../page/', import.meta.url));
const placeholders = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
/** Names, which are not translated. */
const NAMES = new Set(['progress-gateway', '#', '/', 'Jobs · progress-gateway']);

async function textsOfScripts() {
  const texts = new Set();
  for (const name of await readdir(page)) {
    if (!name.endsWith('.js')) continue;
    const source = await readFile(page + name, 'utf8');
    for (const [, text, alternative] of source.matchAll(/\bt\((?:[^'`()]*\? )?'([^']+)'(?: : '([^']+)')?/g)) texts.add(text).add(alternative ?? text);
  }
  return texts;
}

async function textsOfHtml() {
  const html = await readFile(`${page}index.html`, 'utf8');
  const body = html.slice(html.indexOf('<body>')).replace(/<(pre|code|svg|noscript)\b[\s\S]*?<\/\1>/g, '\n<i>');
  const texts = [...body.matchAll(/>([^<>]+)</g), ...body.matchAll(/(?:aria-label|placeholder)="([^"]+)"/g)].map(([, text]) => text.trim());
  return texts.filter((text) => text !== '' && !NAMES.has(text));
}

for (const [language, words] of Object.entries(TRANSLATIONS)) {
  test(`no text of the page is English in ${language}`, async () => {
    const texts = [...(await textsOfScripts()), ...(await textsOfHtml())];
    assert.ok(texts.length > 60, 'the texts are found');
    assert.deepEqual(texts.filter((text) => words[text] === undefined), []);
    for (const [text, translated] of Object.entries(words)) assert.deepEqual(placeholders(translated), placeholders(text), text);
  });
}
