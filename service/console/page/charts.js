// Small charts of the last hour, as SVG.
import { element } from './dom.js';

const [width, height, hour] = [600, 120, 3_600_000];

function svg(name, attributes, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A number that is round, and at least n. */
function ceiling(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map((step) => step * power).find((round) => round >= n);
}

/**
 * What the charts have in common: a title, the highest value, the drawing, and a legend,
 * in which all that the drawing says in colours is said in words.
 * @param {{ title: string, unit: string, most: number, shapes: Node[], legend: { kind: string, label: string, value: string }[] }} chart
 */
function figure({ title, unit, most, shapes, legend }) {
  const words = `${title}: ${legend.map(({ label, value }) => `${label} ${value}`).join(', ')}`;
  return element('figure', { class: 'card chart' },
    element('figcaption', {}, element('h2', {}, title), element('span', { class: 'quiet' }, `at most ${unit}`)),
    svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': words, preserveAspectRatio: 'none' },
      ...[0.5, height / 2, height - 0.5].map((y) => svg('line', { class: 'grid', x1: 0, x2: width, y1: y, y2: y })), ...shapes),
    element('p', { class: 'axis quiet' }, element('span', {}, 'an hour ago'), element('span', {}, 'now')),
    element('ul', { class: 'legend' }, ...legend.map(({ kind, label, value }) => element('li', {}, element('span', { class: `key ${kind}` }), `${label} `, element('strong', {}, value)))));
}

/** Where a minute begins, if the last one ends at the right edge. */
function place(minutes) {
  const end = new Date(minutes.at(-1)?.at).getTime() + hour / 60;
  return ({ at }) => width * (1 - (end - new Date(at)) / hour);
}

/**
 * Bars of what happened in each minute, stacked.
 * @param {string} title
 * @param {{ at: string }[]} minutes
 * @param {{ kind: string, label: string, of: (minute: any) => number }[]} parts from below
 */
export function bars(title, minutes, parts) {
  const x = place(minutes);
  const sums = minutes.map((m) => parts.reduce((sum, { of }) => sum + of(m), 0));
  const highest = Math.max(0, ...sums);
  const most = ceiling(Math.max(1, highest));
  const shapes = minutes.flatMap((m) => {
    let below = 0;
    return parts.filter(({ of }) => of(m) > 0).map(({ kind, of }) => {
      const [from, to] = [below, below += of(m)];
      return svg('rect', { class: kind, x: x(m) + 1, width: width / 60 - 2, y: height * (1 - to / most), height: Math.max(1, height * (to - from) / most) });
    });
  });
  return figure({
    title, most, shapes, unit: `${highest.toLocaleString()} in a minute`,
    legend: parts.map(({ kind, label, of }) => ({ kind, label, value: minutes.reduce((sum, m) => sum + of(m), 0).toLocaleString() }))
  });
}

export function duration(seconds) {
  return seconds < 1 ? `${Number((seconds * 1000).toPrecision(2))} ms` : `${Number(seconds.toPrecision(2))} s`;
}

/**
 * Lines through what was measured in each minute. A minute without a value makes a gap.
 * @param {{ kind: string, label: string, of: (minute: any) => number | null }[]} parts seconds
 */
export function lines(title, minutes, parts) {
  const x = place(minutes);
  const values = parts.map(({ of }) => minutes.map(of));
  const highest = Math.max(0, ...values.flat());
  const most = ceiling(Math.max(0.001, highest));
  const shapes = parts.map(({ kind }, i) => {
    let pen = 'M';
    const path = minutes.map((m, j) => {
      const value = values[i][j];
      if (value === null) return (pen = 'M'), '';
      const [from, to, y] = [x(m), x(m) + width / 60, height * (1 - value / most)];
      const step = `${pen}${from.toFixed(1)} ${y.toFixed(1)}L${to.toFixed(1)} ${y.toFixed(1)}`;
      pen = 'L';
      return step;
    }).join('');
    return svg('path', { class: kind, d: path });
  });
  return figure({
    title, most, shapes, unit: duration(highest),
    legend: parts.map(({ kind, label }, i) => {
      const last = values[i].findLast((value) => value !== null);
      return { kind, label, value: last === undefined ? 'none yet' : `${duration(last)} at last` };
    })
  });
}
