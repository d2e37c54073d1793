// The rejected writes: their list, with the filters of `postern rejected list`.
import { bulk } from './bulk.js';
import { announce, badge, element, printable, request, time } from './dom.js';
import { write } from './write.js';

const filters = [
  ['user', 'User', 'id (sub of the token)'],
  ['table', 'Table', 'as clients name it'],
  ['code', 'Code', 'CHECK_VIOLATION'],
  ['since', 'Since', '36h, 7d, 2026-11-24'],
  ['older-than', 'Older than', '36h, 7d, 2026-11-24'],
  ['status', 'Status', 'open,held', 'statuses']
];
const statuses = ['open,held', 'all', 'open', 'held', 'replayed', 'dismissed', 'expired', 'resolved', 'released'];

/** @param {{ path: string[], query: URLSearchParams, redraw: () => Promise<void>, signal: AbortSignal }} view */
export function draw(view) {
  const [id] = view.path;
  return id ? write(id, view.redraw) : list(view);
}

async function list(view) {
  const { query } = view;
  const form = filterForm(query);
  const title = element('h1', {}, 'Rejected writes');
  try {
    const { rejected, next, total, at } = await request(`rejected?${query}`);
    const count = total === undefined ? `${rejected.length} more` : `${total.toLocaleString()} ${total === 1 ? 'write' : 'writes'}`;
    announce(count);
    return [
      title, form, element('p', { class: 'quiet' }, `${count}, the oldest first`),
      total > 0 && canAct(query.get('status') ?? '') && bulk(query, { total, at }, view), ...page(query, rejected, next)
    ].filter(Boolean);
  } catch (error) {
    return [title, form, element('p', { class: 'notice bad', role: 'alert' }, printable(error.message))];
  }
}

/** Whether the statuses that are chosen include those that wait for a decision alone. */
function canAct(status) {
  return ['', 'open', 'held', 'open,held', 'held,open'].includes(status);
}

function page(query, rejected, next) {
  if (rejected.length === 0) {
    return [element('p', { class: 'empty' }, 'No rejected write matches. What is rejected from now on appears here.')];
  }
  const to = (after) => {
    const other = new URLSearchParams(query);
    after ? other.set('after', after) : other.delete('after');
    return `#/rejected?${other}`;
  };
  return [
    element('ul', { class: 'writes' }, ...rejected.map(row)),
    element('nav', { class: 'pages', 'aria-label': 'Pages' },
      query.has('after') && element('a', { class: 'button', href: to('') }, 'First page'),
      next && element('a', { class: 'button', href: to(next) }, 'Next page'))
  ];
}

function row(write) {
  return element('li', {}, element('a', { href: `#/rejected/${write.id}` },
    element('span', { class: 'what' },
      element('span', { class: 'first' }, element('code', {}, printable(write.code)), badge(write.status)),
      element('span', { class: 'message' }, printable(write.message))),
    element('span', { class: 'where' },
      element('span', {}, write.tables.map(printable).join(', ') || 'no table'),
      element('span', { class: 'id' }, printable(write.subject))),
    element('span', { class: 'when' },
      time(write.first_at),
      element('span', {}, write.attempts === 1 ? 'sent once' : `sent ${write.attempts} times`))));
}

function filterForm(query) {
  const form = element('form', { class: 'filters', role: 'search', 'aria-label': 'Filters', onsubmit: (event) => {
    event.preventDefault();
    const chosen = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value.trim()) chosen.set(name, value.trim());
    location.hash = `/rejected?${chosen}`;
  } },
  ...filters.map(([name, label, hint, list]) => element('label', {}, label,
    element('input', { name, value: query.get(name) ?? '', placeholder: hint, autocomplete: list ? undefined : 'off', spellcheck: 'false', list }))),
  element('datalist', { id: 'statuses' }, ...statuses.map((value) => element('option', { value }))),
  element('span', { class: 'do' }, element('button', { class: 'primary' }, 'Filter'), element('a', { class: 'button', href: '#/rejected' }, 'Clear')));
  return form;
}
