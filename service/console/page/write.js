// One rejected write: what was wanted, the row as it is, and what can be done.
import { diff, effect, refusal } from './diff.js';
import { announce, badge, element, failure, json, printable, request, time } from './dom.js';
import { Edits } from './edits.js';

/** @param {string} id @param {() => void} redraw */
export async function write(id, redraw) {
  const path = `rejected/${encodeURIComponent(id)}`;
  const w = await request(path);
  const edits = new Edits();
  return [
    element('p', {}, element('a', { href: '#/rejected' }, '← Rejected writes')),
    element('div', { class: 'title' }, element('h1', {}, printable(w.code)), badge(w.status)),
    element('p', { class: 'lead' }, printable(w.message)),
    element('div', { class: 'columns' },
      element('div', {}, ...operations(w, edits), ...rule(w)),
      element('div', {}, ...decide(w, path, edits, redraw), ...facts(w), ...actions(w)))
  ];
}

function section(title, ...children) {
  return [element('section', { class: 'card' }, element('h2', {}, title), ...children)];
}

function operations(w, edits) {
  if (w.raw) return section('What was sent', element('p', {}, 'It cannot be read, so it cannot be replayed. Its bytes, escaped:'), element('pre', { tabindex: 0 }, printable(w.raw)));
  if (!w.has_content) return section('What was sent', element('p', {}, 'Its content was too large to be stored, so it cannot be replayed.'));
  return (w.operations ?? []).map((op, index) => element('section', { class: op.failed ? 'card failed' : 'card' },
    element('h2', {}, `${op.op} `, element('code', {}, printable(op.table))),
    element('p', { class: 'quiet id' }, `operation ${index} · ${printable(op.id)}`),
    op.failed && element('p', { class: 'notice bad' }, 'This operation caused the rejection.'),
    op.metadata && element('p', { class: 'id' }, `metadata: ${printable(op.metadata)}`),
    now(op),
    (op.wanted || op.now) && comparison(w, op, index, edits),
    waits(w) && op.op !== 'DELETE' && element('p', {}, edits.adder(index))));
}

function now(op) {
  if (op.unread) return element('p', { class: 'notice' }, printable(op.unread));
  const note = op.as_author ? ' The service may not read every row, so this is what the author sees.' : '';
  return element('p', { class: 'quiet' }, (op.now === null ? 'There is no such row now.' : 'The row as it is now, beside what was wanted.') + note);
}

function comparison(w, op, index, edits) {
  const row = op.now ?? {};
  const sent = new Map((op.wanted ?? []).map((v) => [v.column, v]));
  const wanted = new Map((op.wanted ?? []).map((v) => [v.column, v.stored ?? v.wanted]));
  const lines = [...wanted.keys(), ...Object.keys(row).filter((name) => !wanted.has(name))].map((name) => {
    const removed = op.op === 'DELETE';
    const extra = waits(w) && sent.has(name) && edits.editor(index, sent.get(name));
    return { name, before: row[name], after: removed ? undefined : wanted.has(name) ? wanted.get(name) : row[name], extra };
  });
  return diff(lines, 'Now', 'Wanted');
}

function rule(w) {
  if (!w.rule) return [];
  return section('The rule', element('p', {}, printable(w.rule), ' ', element('span', { class: 'quiet id' }, w.rule_at ?? '')),
    w.policies_changed && element('p', { class: 'notice' }, `The policies have changed since.${w.rule_text ? ' This is the rule as it is now.' : ''}`),
    w.rule_text ? element('pre', { tabindex: 0 }, dedent(w.rule_text)) : element('p', { class: 'quiet' }, 'The policy files have no rule of this name now. It may be one in Go.'));
}

function dedent(text) {
  const depth = text.search(/\S/);
  return text.split('\n').map((line) => line.slice(Math.min(depth, line.search(/\S|$/)))).join('\n');
}

function facts(w) {
  const fact = (name, value) => value !== undefined && value !== '' && [element('dt', {}, name), element('dd', {}, value)];
  return section('About it', element('dl', {}, ...[
    fact('id', w.id), fact('user', printable(w.subject)), fact('issuer', printable(w.issuer)), fact('device', printable(w.client_id ?? '')),
    fact('transaction', w.transaction_id === undefined ? undefined : json(w.transaction_id)), fact('first received', time(w.first_at)),
    fact('last received', time(w.last_at)), fact('received', w.attempts === 1 ? 'once' : `${w.attempts} times`),
    w.closed_at && fact('closed', time(w.closed_at)), w.details && fact('details', json(w.details))
  ].flat().filter(Boolean)));
}

function actions(w) {
  return section('What was done', w.actions?.length
    ? element('ol', { class: 'actions' }, ...w.actions.map((a) => element('li', {},
      element('strong', {}, printable(a.action)), ' by ', printable(a.who), element('br'), element('span', { class: 'quiet' }, time(a.at)),
      a.note && element('p', {}, printable(a.note)),
      a.transaction && edited(w, a.transaction))))
    : element('p', { class: 'quiet' }, 'Nothing yet.'));
}

/** What a replay applied instead of what was sent. */
function edited(w, { crud }) {
  return element('div', {}, ...crud.map((op, index) => {
    const sent = new Map((w.operations?.[index]?.wanted ?? []).map((v) => [v.name, v.wanted]));
    const lines = Object.entries(op.op_data ?? {}).map(([name, after]) => ({ name, before: sent.get(name), after }))
      .filter(({ before, after }) => before === undefined || json(before) !== json(after));
    return lines.length > 0 && diff(lines, 'Sent', 'Applied');
  }));
}

/** Whether a write waits for a decision, and can be applied. */
function waits(w) {
  return (w.status === 'open' || w.status === 'held') && w.has_content && !w.raw;
}

/** The form to replay or dismiss, or to dismiss what cannot be applied. A replay is possible after a dry run has shown what it does. */
function decide(w, path, edits, redraw) {
  if (w.status !== 'open' && w.status !== 'held') return [];
  const outcome = element('div', { role: 'group', 'aria-label': 'Outcome of the dry run' });
  const replay = element('button', { type: 'submit', value: 'replay', class: 'primary', disabled: true }, 'Replay');
  const run = (work) => async (event) => {
    event.preventDefault();
    form.setAttribute('aria-busy', 'true');
    try {
      await work(event);
    } catch (error) {
      outcome.replaceChildren(failure(error));
    }
    form.removeAttribute('aria-busy');
  };
  const rehearse = element('button', { type: 'button', onclick: run(async () => {
    const result = await request(`${path}/rehearse`, { edits: edits.list(), no_rules: noRules.checked });
    replay.disabled = Boolean(result.rejection);
    outcome.replaceChildren(...rehearsal(result));
  }) }, 'Dry run');
  const changed = () => {
    replay.disabled = true;
    outcome.replaceChildren();
  };
  edits.onchange = changed;
  const noRules = element('input', { type: 'checkbox', onchange: changed });
  const form = element('form', { onsubmit: run(async (event) => {
    const { by, reason } = Object.fromEntries(new FormData(form));
    const action = event.submitter.value;
    localStorage.setItem('by', by);
    const result = await request(`${path}/${action}`, { by, reason, edits: edits.list(), no_rules: noRules.checked });
    if (result.rejection) return outcome.replaceChildren(refusal('It was rejected again.', result.rejection));
    announce(action === 'replay' ? 'Replayed.' : 'Dismissed.');
    await redraw();
    document.getElementById('main').focus();
  }) },
  element('label', {}, 'Your name', element('input', { name: 'by', required: true, maxlength: 200, value: localStorage.getItem('by') ?? '', autocomplete: 'username' })),
  element('label', {}, 'Reason', element('textarea', { name: 'reason', required: true, rows: 2, maxlength: 1000 })),
  element('p', { class: 'quiet' }, 'Both are stored with the write.'),
  waits(w) && element('label', { class: 'check' }, noRules, 'Replay without the policies’ rules. Row-level security and constraints still apply.'),
  element('span', { class: 'do' }, ...(waits(w) ? [rehearse, replay] : []), element('button', { type: 'submit', value: 'dismiss', class: 'danger' }, 'Dismiss')),
  outcome);
  const replays = 'A replay applies it as its author, under the policies of now, with the values that you edit. A dry run comes first, and changes nothing. ';
  return section('Decide', element('p', {}, `${waits(w) ? replays : ''}Dismissing closes it for good.`), form);
}

function rehearsal({ rejection, effects }) {
  if (rejection) return [refusal('It would be rejected again.', rejection)];
  announce('The dry run succeeded.');
  return [
    element('p', { class: 'notice good' }, 'It would be applied:'),
    ...effects.map(effect)
  ];
}
