/**
 * Draws small charts as SVG, node by node. A chart is an image with a text alternative; the page shows the
 * numbers in a table beside it.
 */

import { drawShape } from '../src/icons.js';
import { isFinal } from '../src/job-state.js';

/** @import { State } from '../src/protocol.js' */

/** @typedef {{ at: number, percent: number | null, status: State['status'], health: string, attempt: number }} Point */

/** Returns an empty SVG image with a text alternative. @param {string} label @param {number} width @param {number} height */
function svgImage(label, width, height) {
  return drawShape('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label, preserveAspectRatio: 'none' });
}

/**
 * Returns a line chart of the values, scaled to the largest one.
 * @param {number[]} values
 * @param {string} label  the text alternative
 */
export function sparkline(values, label) {
  const [width, height, margin] = [300, 32, 2];
  const largest = Math.max(...values, 1);
  const x = (/** @type {number} */ i) => (values.length === 1 ? width : (i / (values.length - 1)) * width);
  const y = (/** @type {number} */ value) => height - margin - (value / largest) * (height - 2 * margin);
  const svg = svgImage(label, width, height);
  svg.append(drawShape('polyline', { points: values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(' '), class: 'line' }));
  return svg;
}

/**
 * Returns a chart of the percentage over time. Each attempt has a stepped line, because nothing is known
 * between two events. The time in which the worker did not report is shaded.
 *
 * @param {Point[]} points  in order of time
 * @param {number} now      Unix seconds; the line of a running job ends here
 * @param {string} label    the text alternative
 */
export function historyChart(points, now, label) {
  const [width, height, margin] = [600, 140, 4];
  const svg = svgImage(label, width, height);
  const firstAt = points[0]?.at ?? now;
  const lastAt = Math.max(points.at(-1)?.at ?? now, isFinal(points.at(-1)) ? 0 : now, firstAt + 1);
  const x = (/** @type {number} */ at) => (((at - firstAt) / (lastAt - firstAt)) * width).toFixed(1);
  const y = (/** @type {number} */ percent) => (height - margin - (percent / 100) * (height - 2 * margin)).toFixed(1);
  for (const percent of [0, 50, 100]) svg.append(drawShape('line', { x1: 0, x2: width, y1: y(percent), y2: y(percent), class: 'grid' }));

  points.forEach((point, i) => {
    const until = points[i + 1]?.at ?? (isFinal(point) ? point.at : lastAt);
    if (point.health === 'ok' || isFinal(point)) return;
    svg.append(drawShape('rect', { x: x(point.at), width: Math.max(Number(x(until)) - Number(x(point.at)), 2), y: 0, height, class: `silent ${point.health}` }));
  });
  const attempts = new Set(points.map(({ attempt }) => attempt));
  for (const attempt of attempts) {
    const attemptPoints = points.filter((point) => point.attempt === attempt && point.percent !== null);
    if (attemptPoints.length === 0) continue;
    const lastPoint = attemptPoints.at(-1);
    const path = attemptPoints.map(({ at, percent }, i) => `${i === 0 ? 'M' : 'H'}${x(at)}${i === 0 ? ' ' : 'V'}${y(percent ?? 0)}`).join('');
    const tail = lastPoint === points.at(-1) && !isFinal(lastPoint) ? `H${width}` : '';
    svg.append(drawShape('path', { d: path + tail, class: `line ${lastPoint?.status}` }));
  }
  return svg;
}
