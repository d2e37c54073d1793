// What an operation did to its row, and what was refused.
import { element, json, printable } from './dom.js';

/**
 * A table of columns in which what differs is coloured, and marked with − and +.
 * @param {{ name: string, before: any, after: any, extra?: Node }[]} lines extra stands below after
 */
export function diff(lines, left, right) {
  const cell = (value, kind, mark, extra) => element('td', { class: kind },
    kind && element('span', { class: 'mark' }, mark),
    value === undefined ? element('span', { class: 'quiet' }, '—') : element('code', {}, json(value)),
    extra);
  return element('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `${left} and ${right}` }, element('table', {},
    element('thead', {}, element('tr', {}, ...['Column', left, right].map((name) => element('th', { scope: 'col' }, name)))),
    element('tbody', {}, ...lines.map(({ name, before, after, extra }) => {
      const same = before !== undefined && after !== undefined && json(before) === json(after);
      return element('tr', {}, element('th', { scope: 'row' }, printable(name)),
        cell(before, !same && before !== undefined && 'minus', '−'), cell(after, !same && after !== undefined && 'plus', '+', extra));
    }))));
}

/** What a dry run says of an operation. */
export function effect(e) {
  const lines = [...new Set([...Object.keys(e.before ?? {}), ...Object.keys(e.after ?? {})])]
    .map((name) => ({ name, before: e.before?.[name], after: e.after?.[name] }))
    .filter(({ before, after }) => JSON.stringify(before) !== JSON.stringify(after));
  return element('div', {}, element('p', {}, `operation ${e.operation_index}: ${e.did}`), lines.length > 0 && diff(lines, 'Before', 'After'));
}

export function refusal(text, rejection) {
  return element('p', { class: 'notice bad', role: 'alert' }, element('strong', {}, `${text} ${printable(rejection.code)}`), element('br'), printable(rejection.message),
    rejection.reason && element('span', { class: 'quiet' }, ` (${printable(rejection.reason)})`));
}
