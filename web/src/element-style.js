/**
 * The style of `<job-progress>`. All elements share one constructable style sheet, because a strict
 * Content-Security-Policy allows neither `<style>` nor `style="…"`. Where a browser lacks `light-dark()`, the colours
 * are the light ones; without `color-mix()` bars are plain.
 *
 * To theme it, set the custom properties named in `:host` from outside, or style
 * the parts: icon, name, attempt, action, figure, track, bar, phase, message, error,
 * amount, time, request. Colours follow the `color-scheme` of the element, so a
 * page that is always light never gets a dark bar.
 */

const CSS = `
:host {
  --_accent: var(--job-progress-accent, #3d63dd);
  --_success: var(--job-progress-success, #1f8552);
  --_warning: var(--job-progress-warning, #9a6200);
  --_danger: var(--job-progress-danger, #cb3138);
  --_text: var(--job-progress-text, #191c23);
  --_muted: var(--job-progress-muted, #5d6573);
  --_track: var(--job-progress-track, #e8eaef);
  --_ground: var(--job-progress-background, #fff);
  --_height: var(--job-progress-height, 6px);
  --_radius: var(--job-progress-radius, 99px);
  --_smooth: var(--job-progress-smooth, 280ms);
  --_tone: var(--_muted);
  display: block;
  min-width: 0;
  contain: inline-size layout style;
  color: var(--_text);
  font-size: 14px;
  line-height: 20px;
  font-variant-numeric: tabular-nums;
}
@supports (color: light-dark(#000, #fff)) {
  :host {
    --_accent: var(--job-progress-accent, light-dark(#3d63dd, #7b96f5));
    --_success: var(--job-progress-success, light-dark(#1f8552, #46b37b));
    --_warning: var(--job-progress-warning, light-dark(#9a6200, #e0a63a));
    --_danger: var(--job-progress-danger, light-dark(#cb3138, #f2777a));
    --_text: var(--job-progress-text, light-dark(#191c23, #e9ebf0));
    --_muted: var(--job-progress-muted, light-dark(#5d6573, #98a1b1));
    --_track: var(--job-progress-track, light-dark(#e8eaef, #282d37));
    --_ground: var(--job-progress-background, light-dark(#fff, #16191f));
  }
}
:host([hidden]) { display: none }
:host([look=running]) { --_tone: var(--_accent) }
:host([look=succeeded]) { --_tone: var(--_success) }
:host([look=stalled]) { --_tone: var(--_warning) }
:host([look=lost]), :host([look=failed]), :host([look=denied]) { --_tone: var(--_danger) }

.box { display: grid; grid-template-columns: 16px minmax(0, 1fr); column-gap: 10px }

.icon { width: 16px; height: 16px; margin-top: 2px; color: var(--_tone); overflow: visible }
.icon * { fill: none; stroke: currentColor; stroke-width: 1.7; stroke-linecap: round; stroke-linejoin: round }
.icon .solid { fill: currentColor; stroke: none }
.icon .cut { stroke: var(--_ground) }
.icon .faint { opacity: .28 }
/* The whole icon rotates, not the arc in it: the compositor rotates a box, but the page would paint its content again.
   The icon of a bar with fast updates does not rotate: two hundred of them were more work than everything else. */
:host([look=running]) .box:not(.fast) .icon { animation: spin 1.4s linear infinite }
@keyframes spin { to { transform: rotate(1turn) } }

.head, .head-end { display: flex; align-items: baseline; gap: 0 8px; min-width: 0 }
.name { display: block; font-weight: 600; letter-spacing: -.006em; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0 }
.attempt { flex: none; color: var(--_muted); font-size: 12px }
.head-end { flex: none; margin-inline-start: auto }
/* In a right-to-left page, "19 s" would otherwise become "s 19". */
slot[name=aside]::slotted(*) { unicode-bidi: plaintext }
.figure { flex: none; font-weight: 600; font-size: 13px; color: var(--_tone) }
:host([look=running]) .figure { color: var(--_text) }
:host([look=succeeded]) .figure, :host([look=cancelled]) .figure, :host([look=queued]) .figure, :host([look=unknown]) .figure { color: var(--_muted); font-weight: 500 }

.track { height: var(--_height); margin: 7px 0; border-radius: var(--_radius); background: var(--_track); contain: size layout }
/* The bar moves by its width, which is laid out within the track only, and without a clip. With a transform, without a
   layer for each bar, the browser would sort all paint of the page into layers at each step: four times the work. */
.bar { width: 0; height: 100%; border-radius: inherit; background: var(--_tone) }
.bar.smooth { transition: width var(--_smooth) linear, background-color 200ms }
:host([look=succeeded]) .bar { opacity: .55 }
:host([look=cancelled]) .bar { opacity: .5 }
:host([look=queued]) .track, :host([look=unknown]) .track { opacity: .75 }
@supports (color: color-mix(in srgb, #000, #fff)) {
  :host([look=lost]) .bar, :host([look=stalled]) .bar {
    background: repeating-linear-gradient(-55deg, var(--_tone) 0 5px, color-mix(in srgb, var(--_tone) 55%, var(--_track)) 5px 9px);
  }
}
.indeterminate { overflow: hidden; direction: ltr }
.indeterminate .bar { width: 30%; animation: slide 1.7s cubic-bezier(.45, .1, .55, .9) infinite }
@keyframes slide { from { transform: translateX(-105%) } to { transform: translateX(340%) } }

.footer { display: flex; flex-wrap: wrap; justify-content: space-between; column-gap: 16px; min-height: 18px; font-size: 13px; line-height: 18px; color: var(--_muted) }
.texts { flex: 1 1 12ch; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.phase { color: var(--_text) }
/* A left-to-right text is cut at its own end, not at the end of the line. */
:host(:dir(rtl):not([look=failed], [look=unknown], [look=denied])) .texts { display: flex }
:host(:dir(rtl)) .texts > .phase, :host(:dir(rtl)) .dot { flex: none }
:host(:dir(rtl):not([look=failed])) .message { overflow: hidden; text-overflow: ellipsis }
.dot::before { content: '\\b7'; margin: 0 .45em }
.dot[hidden] { display: none }
.facts { flex: none; display: flex; margin-inline-start: auto; white-space: nowrap }
.amount:not(:empty) + .time:not(:empty)::before { content: '\\b7'; margin: 0 .45em }
/* The end of an error is shown, because it has the reason. */
:host([look=failed]) .texts { display: flex; flex-direction: column; justify-content: flex-end; max-height: calc(18px * var(--job-progress-error-lines, 3)); white-space: normal }
:host([look=unknown]) .texts, :host([look=denied]) .texts { white-space: normal; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: var(--job-progress-error-lines, 3) }
.error { text-align: -webkit-match-parent; text-align: match-parent; color: var(--_danger); white-space: pre-line; overflow-wrap: anywhere }
:host([look=stalled]) .time, :host([look=lost]) .time { color: var(--_tone) }

/* The bar and the icon appear only after the gateway had the time to answer. */
.loading .track, .loading .icon { animation: appear 200ms 600ms both }
@keyframes appear { from { opacity: 0 } }

/* A state that may be out of date looks different. */
:host([stale]) .bar, :host([stale]) .icon { filter: saturate(.25); opacity: .6 }
:host([stale]) .icon, :host([stale]) .indeterminate .bar { animation-play-state: paused }

.verbs { display: flex; gap: 6px }
.verbs:empty { display: none }
/* So that 10% does not move the buttons that stood beside 9%, under the pointer. */
.verbs:not(:empty) + .figure { min-width: 2.4em; text-align: end; font-variant-numeric: tabular-nums }
.verbs button {
  appearance: none; margin: -2px 0; padding: 0 9px; border: 1px solid var(--_muted); border-radius: 6px; background: none;
  font: inherit; font-size: 12px; color: inherit; cursor: pointer;
}
.verbs button:hover { border-color: var(--_text) }
.verbs button:focus-visible { outline: 2px solid var(--_accent); outline-offset: 1px }
.verbs [aria-disabled=true] { color: var(--_muted); border-style: dashed; border-color: var(--_muted); cursor: default }
.request { font-size: 13px; line-height: 18px; color: var(--_muted); text-align: end; overflow-wrap: anywhere }
.request[data-phase=unanswered] { color: var(--_warning) }
.request[data-phase=failed], .request[data-phase=refused] { color: var(--_danger) }

slot[name=actions] { display: flex; flex-wrap: wrap; gap: 6px; justify-content: flex-end }
slot[name=actions]::slotted(*) { margin-top: 6px }

.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }

.ruler { height: 0 }
/* The name has its own line; otherwise only its beginning would be visible, which is the same for many jobs. */
.narrow .head { flex-wrap: wrap }
.narrow .name { max-width: 100% }
.narrow .facts { flex: 1 1 100%; flex-wrap: wrap; column-gap: 1.2em; margin-inline-start: 0; position: relative; overflow: hidden }
.narrow .amount:empty { display: none }
/* At the beginning of a line the dot is outside, and is cut off. */
.narrow .amount:not(:empty) + .time:not(:empty)::before { position: absolute; margin: 0 0 0 -.75em }
.narrow .texts { flex-basis: 100% }
.narrow.no-text .texts { display: none }
.slim .facts { flex-direction: column }
.slim .amount:not(:empty) + .time:not(:empty)::before { content: none }
@media (prefers-reduced-motion: reduce) {
  .bar.smooth { transition: none }
  :host([look=running]) .box .icon { animation: none !important }
  .indeterminate .bar { animation: none; width: 100%; opacity: .35 }
}
@media (forced-colors: active) {
  .track { border: 1px solid CanvasText; background: Canvas }
  .bar { background: Highlight !important; forced-color-adjust: none }
  .icon, .figure, .error { color: CanvasText !important }
  .icon .cut { stroke: Canvas }
}
@media print {
  .track { border: 1px solid; background: none; print-color-adjust: exact }
  .bar { print-color-adjust: exact; animation: none !important; transition: none !important }
  .loading .track, .loading .icon { animation: none }
  .verbs { display: none }
}
`;

/** The style sheets by their texts. @type {Map<string, CSSStyleSheet>} */
const sheets = new Map();

/**
 * Applies a style sheet to a shadow root. Where there are no constructable style sheets (Safari before 16.4, jsdom),
 * each element has a copy.
 * @param {ShadowRoot} root @param {string} [css]  the default is that of a bar
 */
export function applyStyle(root, css = CSS) {
  if ('adoptedStyleSheets' in root && 'replaceSync' in (globalThis.CSSStyleSheet?.prototype ?? {})) {
    const sheet = sheets.get(css) ?? new CSSStyleSheet();
    if (!sheets.has(css)) {
      sheet.replaceSync(css);
      sheets.set(css, sheet);
    }
    root.adoptedStyleSheets = [sheet];
  } else {
    const style = document.createElement('style');
    style.textContent = css;
    root.append(style);
  }
}
