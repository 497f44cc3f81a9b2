/**
 * How `<job-progress>` looks. One constructable stylesheet for all elements, as
 * a strict Content-Security-Policy allows neither `<style>` nor `style="…"`.
 *
 * To theme it, set the custom properties named in `:host` from outside, or style
 * the parts: icon, name, attempt, figure, track, bar, phase, message, error,
 * amount, time. Colours follow the `color-scheme` that the element is in, so a
 * page that is always light never gets a dark bar.
 */

const CSS = `
:host {
  --_accent: var(--job-progress-accent, light-dark(#3d63dd, #7b96f5));
  --_success: var(--job-progress-success, light-dark(#1f8552, #46b37b));
  --_warning: var(--job-progress-warning, light-dark(#9a6200, #e0a63a));
  --_danger: var(--job-progress-danger, light-dark(#cb3138, #f2777a));
  --_text: var(--job-progress-text, light-dark(#191c23, #e9ebf0));
  --_muted: var(--job-progress-muted, light-dark(#5d6573, #98a1b1));
  --_track: var(--job-progress-track, light-dark(#e8eaef, #282d37));
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
:host([hidden]) { display: none }
:host([look=running]) { --_tone: var(--_accent) }
:host([look=succeeded]) { --_tone: var(--_success) }
:host([look=stalled]) { --_tone: var(--_warning) }
:host([look=lost]), :host([look=failed]), :host([look=denied]) { --_tone: var(--_danger) }

.box { display: grid; grid-template-columns: 16px minmax(0, 1fr); column-gap: 10px }

.icon { width: 16px; height: 16px; margin-top: 2px; color: var(--_tone); overflow: visible }
.icon * { fill: none; stroke: currentColor; stroke-width: 1.7; stroke-linecap: round; stroke-linejoin: round }
.icon .solid { fill: currentColor; stroke: none }
.icon .cut { stroke: var(--job-progress-background, light-dark(#fff, #16191f)) }
.icon .faint { opacity: .28 }
/* The whole sign, and not the arc within: a box is turned by the compositor, its inside by the page.
   Of a brisk bar it stands still: two hundred of them were more work than all the rest. */
:host([look=running]) .box:not(.brisk) .icon { animation: turn 1.4s linear infinite }
@keyframes turn { to { transform: rotate(1turn) } }

.head, .now { display: flex; align-items: baseline; gap: 0 8px; min-width: 0 }
.name { font-weight: 600; letter-spacing: -.006em; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0 }
.attempt { flex: none; color: var(--_muted); font-size: 12px }
.now { flex: none; margin-left: auto }
.figure { flex: none; font-weight: 600; font-size: 13px; color: var(--_tone) }
:host([look=running]) .figure { color: var(--_text) }
:host([look=succeeded]) .figure, :host([look=cancelled]) .figure, :host([look=queued]) .figure, :host([look=unknown]) .figure { color: var(--_muted); font-weight: 500 }

.track { height: var(--_height); margin: 7px 0; border-radius: var(--_radius); background: var(--_track); contain: size layout }
/* By its width, laid out within the track alone, and without a clip. A transform that no layer of its own
   carries has the browser sort all paint of the page into layers anew, at each step: four times the work. */
.bar { width: 0; height: 100%; border-radius: inherit; background: var(--_tone) }
.bar.smooth { transition: width var(--_smooth) linear, background-color 200ms }
:host([look=succeeded]) .bar { opacity: .55 }
:host([look=cancelled]) .bar { opacity: .5 }
:host([look=queued]) .track, :host([look=unknown]) .track { opacity: .75 }
:host([look=lost]) .bar, :host([look=stalled]) .bar {
  background: repeating-linear-gradient(-55deg, var(--_tone) 0 5px, color-mix(in srgb, var(--_tone) 55%, var(--_track)) 5px 9px);
}
.wander { overflow: hidden }
.wander .bar { width: 30%; animation: wander 1.7s cubic-bezier(.45, .1, .55, .9) infinite }
@keyframes wander { from { transform: translateX(-105%) } to { transform: translateX(340%) } }

.foot { display: flex; flex-wrap: wrap; justify-content: space-between; column-gap: 16px; min-height: 18px; font-size: 13px; line-height: 18px; color: var(--_muted) }
.story { flex: 1 1 12ch; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.phase { color: var(--_text) }
.phase:not(:empty) + .message:not(:empty)::before { content: '\\b7'; margin: 0 .45em; color: var(--_muted) }
.facts { flex: none; display: flex; margin-left: auto; white-space: nowrap }
.amount:not(:empty) + .time:not(:empty)::before { content: '\\b7'; margin: 0 .45em }
:host([look=failed]) .story, :host([look=unknown]) .story, :host([look=denied]) .story { white-space: normal; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: var(--job-progress-error-lines, 3) }
.error { color: var(--_danger); white-space: pre-line; overflow-wrap: anywhere }
:host([look=stalled]) .time, :host([look=lost]) .time { color: var(--_tone) }

/* Not even an empty bar is claimed before the gateway had the time to answer. */
.quiet .track, .quiet .icon { animation: appear 200ms 600ms both }
@keyframes appear { from { opacity: 0 } }

/* Truth grown old: still shown, visibly not live. */
:host([stale]) .bar, :host([stale]) .icon { filter: saturate(.25); opacity: .6 }
:host([stale]) .icon, :host([stale]) .wander .bar { animation-play-state: paused }

.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }

.rule { height: 0 }
/* A name is worth a line: beside the rest only its beginning would be left, which jobs have in common. */
.narrow .head { flex-wrap: wrap }
.narrow .name { max-width: 100% }
.narrow .facts { flex: 1 1 100%; flex-wrap: wrap; column-gap: 1.2em; margin-left: 0; position: relative; overflow: hidden }
.narrow .amount:empty { display: none }
/* Before what begins a line, the dot lies outside and is cut off. */
.narrow .amount:not(:empty) + .time:not(:empty)::before { position: absolute; margin: 0 0 0 -.75em }
.narrow .story { flex-basis: 100% }
.narrow.silent .story { display: none }
.slim .facts { flex-direction: column }
.slim .amount:not(:empty) + .time:not(:empty)::before { content: none }
@media (prefers-reduced-motion: reduce) {
  .bar.smooth { transition: none }
  :host([look=running]) .box .icon { animation: none !important }
  .wander .bar { animation: none; width: 100%; opacity: .35 }
}
@media (forced-colors: active) {
  .track { border: 1px solid CanvasText }
  .bar { background: Highlight; forced-color-adjust: none }
}
`;

/** @type {CSSStyleSheet | undefined} */
let sheet;

/** Made at first use, so that the module can be imported where there is no DOM. */
export function elementStyle() {
  if (sheet === undefined) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
  }
  return sheet;
}
