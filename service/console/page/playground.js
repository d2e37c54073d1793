// The playground: what would become of a transaction, and why, while the transaction or
// the policies are edited. Nothing is written, except by Apply in dev mode.
import { diff, effect, refusal } from './diff.js';
import { announce, element, failure, json, printable, request } from './dom.js';

const operations = { PUT: 'PUT: the whole row', PATCH: 'PATCH: some columns', DELETE: 'DELETE' };

/** What was written, until the page is closed. Columns are [name, text] pairs. */
const draft = { user: 'alice', claims: '{"sub": "", "role": "authenticated"}', crud: [], edited: new Map() };

export async function draw({ signal }) {
  const known = await request('playground');
  const view = new Playground(known, signal);
  if (draft.crud.length === 0) draft.crud.push(view.fresh());
  view.write();
  view.judge();
  return [
    element('h1', {}, 'Playground'),
    element('p', { class: 'lead' }, 'Write as a user, and see each step of the decision. Nothing is written',
      known.users ? ' unless you press Apply.' : ': each try is rolled back.'),
    ...view.lists,
    element('div', { class: 'halves' },
      element('div', {}, ...view.asking()),
      element('div', {}, card('The decision', view.decision))),
    ...view.policies()
  ];
}

function card(title, ...children) {
  return element('section', { class: 'card' }, element('h2', {}, title), ...children);
}

function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is missing on a page without TLS
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((b) => b.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** The JSON of what was typed: as it stands if it is JSON, or else a text. */
function asJSON(text) {
  try {
    JSON.parse(text);
    return text;
  } catch {
    return JSON.stringify(text);
  }
}

class Playground {
  constructor(known, signal) {
    this.known = known;
    this.signal = signal;
    this.decision = element('div', { role: 'region', 'aria-label': 'The decision' });
    this.form = element('div', { class: 'operations' });
    this.problem = element('div', {});
    this.lists = [element('datalist', { id: 'tables' }, ...known.tables.map(({ name }) => element('option', { value: name }))),
      ...known.tables.map((table, i) => element('datalist', { id: `columns-${i}` },
        ...table.columns.map(({ name, type }) => element('option', { value: name }, type))))];
  }

  /** A new operation: a row of the first table. */
  fresh() {
    const op = { op: 'PUT', table: this.known.tables[0]?.name ?? '', id: uuid(), columns: [] };
    this.complete(op);
    return op;
  }

  table(op) {
    return this.known.tables.find(({ name }) => name === op.table);
  }

  /** Adds the columns that a new row must have, or else the first one, if there are none. */
  complete(op) {
    if (op.columns.some(([, text]) => text)) return;
    const columns = this.table(op)?.columns ?? [];
    const needed = columns.filter(({ required }) => required);
    op.columns = (op.op === 'PUT' && needed.length > 0 ? needed : columns.slice(0, 1)).map(({ name }) => [name, '']);
  }

  asking() {
    const { known } = this;
    const user = known.users
      ? element('label', {}, 'User, by name', this.input(draft.user, (value) => (draft.user = value), { list: 'users', maxlength: 100 }))
      : element('label', {}, 'User: the claims of a token', this.input(draft.claims, (value) => (draft.claims = value), { rows: 3, spellcheck: 'false' }, 'textarea'));
    return [
      element('datalist', { id: 'users' }, ...['alice', 'bob', 'carol'].map((value) => element('option', { value }))),
      card('The write', user, this.form, element('span', { class: 'do' },
        element('button', { type: 'button', onclick: () => this.change(() => draft.crud.push(this.fresh())) }, 'Add an operation'),
        known.users && element('button', { type: 'button', class: 'primary', onclick: () => this.apply() }, 'Apply')))
    ];
  }

  /** An input whose changes are judged when nothing has been typed for a moment. */
  input(value, set, attributes, name = 'input') {
    const made = element(name, { ...attributes, oninput: () => {
      set(made.value);
      clearTimeout(this.soon);
      this.soon = setTimeout(() => this.judge(), 300);
    } });
    made.value = value;
    return made;
  }

  /** Draws the operations again after their number or form has changed. The focus stays at its place. */
  change(work) {
    const controls = () => [...this.form.querySelectorAll('input, select, button')];
    const at = controls().indexOf(document.activeElement);
    work();
    this.write();
    if (at >= 0) controls()[Math.min(at, controls().length - 1)].focus();
    this.judge();
  }

  write() {
    this.form.replaceChildren(...draft.crud.map((op, index) => this.operation(op, index)));
  }

  operation(op, index) {
    const verb = element('select', { onchange: () => this.change(() => {
      op.op = verb.value;
      this.complete(op);
    }) }, ...Object.entries(operations).map(([value, text]) => element('option', { value, selected: value === op.op }, text)));
    const table = this.input(op.table, (value) => (op.table = value), { list: 'tables' });
    table.addEventListener('change', () => this.change(() => this.complete(op)));
    return element('fieldset', {}, element('legend', {}, `Operation ${index}`),
      element('label', {}, 'Operation', verb),
      element('label', {}, 'Table', table),
      element('label', { class: 'wide' }, 'Row id', this.input(op.id, (value) => (op.id = value), { spellcheck: 'false' })),
      op.op !== 'DELETE' && this.columns(op),
      element('span', { class: 'do wide' },
        op.op !== 'DELETE' && element('button', { type: 'button', onclick: () => this.change(() => op.columns.push(['', ''])) }, 'Add a column'),
        element('button', { type: 'button', onclick: () => this.change(() => (op.id = uuid())) }, 'New id'),
        draft.crud.length > 1 && element('button', { type: 'button', class: 'danger', onclick: () => this.change(() => draft.crud.splice(index, 1)) }, `Remove operation ${index}`)));
  }

  columns(op) {
    const list = `columns-${this.known.tables.indexOf(this.table(op))}`;
    return element('div', { class: 'wide sent' }, ...op.columns.map((column, at) => {
      const type = this.table(op)?.columns.find(({ name }) => name === column[0])?.type;
      return element('div', {},
        this.input(column[0], (value) => (column[0] = value), { list, placeholder: 'column', 'aria-label': `Column ${at + 1}`, spellcheck: 'false' }),
        this.input(column[1], (value) => (column[1] = value), { placeholder: type ?? 'value', 'aria-label': `Value of column ${at + 1}`, spellcheck: 'false' }),
        element('button', { type: 'button', 'aria-label': `Remove column ${at + 1}`, onclick: () => this.change(() => op.columns.splice(at, 1)) }, '×'));
    }));
  }

  /** What is sent, as JSON: numbers keep the digits that were typed. */
  body() {
    const crud = draft.crud.map((op) => {
      const data = op.columns.filter(([name]) => name).map(([name, text]) => `${JSON.stringify(name)}:${asJSON(text)}`);
      const rest = JSON.stringify({ op: op.op, table: op.table, id: op.id });
      return op.op === 'DELETE' ? rest : `${rest.slice(0, -1)},"op_data":{${data}}}`;
    });
    const edited = [...draft.edited].map(([path, text]) => ({ path, text }));
    const user = this.known.users ? `"user":${JSON.stringify(draft.user)}` : `"claims":${draft.claims}`;
    return `{${user},"crud":[${crud}],"policies":${JSON.stringify(edited)}}`;
  }

  /** Shows the decision about what is written now. An answer that is late is dropped. */
  async judge() {
    const turn = this.turn = {};
    this.decision.setAttribute('aria-busy', 'true');
    let shown;
    try {
      shown = this.show(await request('playground/try', this.body()));
      this.problem.replaceChildren();
    } catch (error) {
      shown = [failure(error)];
      if (error.status === 422) {
        shown = [element('p', { class: 'notice' }, 'The policies have a mistake, which is shown below them.')];
        this.problem.replaceChildren(element('pre', { class: 'notice bad', role: 'alert', tabindex: 0 }, printable(error.message)));
      }
    }
    if (turn !== this.turn || this.signal.aborted) return;
    this.decision.removeAttribute('aria-busy');
    this.decision.replaceChildren(...shown);
  }

  show(tried) {
    const steps = draft.crud.map((op, index) => [
      element('h3', {}, `Operation ${index}: `, element('code', {}, printable(`${op.op} ${op.table}`))),
      element('p', { class: 'quiet' }, tried.before[index] ? 'The row as it was:' : 'The user sees no such row before.'),
      tried.before[index] && row(tried.before[index]),
      ...tried.rules.filter((r) => r.operation_index === index).map(rule),
      ...tried.effects.filter((e) => e.operation_index === index).map(effect),
      ...tried.sql.filter((s) => s.operation_index === index).map(sql)
    ]);
    const whole = tried.rules.filter((r) => r.operation_index < 0);
    return [
      outcome(tried),
      whole.length > 0 && element('h3', {}, 'The whole transaction'), ...whole.map(rule),
      ...steps.flat(),
      tried.test && details('As a policy test', copyable(tried.test))
    ].filter(Boolean);
  }

  async apply() {
    try {
      const result = await request('playground/apply', this.body());
      await this.judge();
      const failed = result.failed_operation;
      const text = result.status === 'success' ? 'Applied. Below is what the same write would do now.'
        : `Not applied: ${failed?.error_code ?? result.status}. ${failed?.message ?? result.message ?? ''}`;
      announce(text);
      this.decision.prepend(element('p', { class: result.status === 'success' ? 'notice good' : 'notice bad' }, printable(text)));
    } catch (error) {
      this.decision.replaceChildren(failure(error));
    }
  }

  policies() {
    const { policies } = this.known;
    const text = this.input('', (value) => {
      const file = policies[select.selectedIndex];
      if (value === file.text) draft.edited.delete(file.path);
      else draft.edited.set(file.path, value);
      mark();
    }, { spellcheck: 'false', 'aria-label': 'Text of the policy file', class: 'code' }, 'textarea');
    const open = () => {
      const file = policies[select.selectedIndex];
      text.value = draft.edited.get(file.path) ?? file.text;
      text.rows = Math.min(Math.max(text.value.split('\n').length + 1, 6), 24);
    };
    const select = element('select', { onchange: open }, ...policies.map(({ path }) => element('option', {}, path)));
    const note = element('p', { class: 'quiet' });
    const undo = element('button', { type: 'button', onclick: () => {
      draft.edited.clear();
      open();
      mark();
      this.judge();
    } }, 'Undo all changes');
    const mark = () => {
      undo.disabled = draft.edited.size === 0;
      note.textContent = draft.edited.size === 0 ? 'Change a file, and see at once what becomes of the write. The file itself stays as it is.'
        : `Changed here and not in force: ${[...draft.edited.keys()].join(', ')}. To keep it, copy the text into the file.`;
    };
    open();
    mark();
    return [card('The policies', note, element('label', {}, 'File', select), text, this.problem, element('span', { class: 'do' }, undo))];
  }
}

function outcome(tried) {
  if (tried.failed) return element('p', { class: 'notice bad' }, element('strong', {}, 'The device would try again. '), printable(tried.failed));
  if (!tried.rejection) return element('p', { class: 'notice good' }, element('strong', {}, 'It would be accepted.'));
  const shown = refusal('It would be rejected.', tried.rejection);
  shown.append(element('br'), tried.client_handling ? 'The device keeps it until the app decides.' : 'The device drops it, and it is kept here for the team.');
  return shown;
}

const colours = { passed: 'good', rejected: 'bad', error: 'bad' };

/** What a rule said, with the values of its parts. */
function rule(r) {
  if (r.result === 'assigned') return element('p', {}, 'The policy sets ', element('code', {}, printable(`${r.rule} = ${r.detail ?? ''}`)), ' ', element('span', { class: 'quiet id' }, r.at));
  return element('details', { class: `step ${colours[r.result] ?? ''}`, open: r.result === 'rejected' || r.result === 'error' },
    element('summary', {}, element('strong', {}, printable(r.rule)), ` ${r.result === 'skipped' ? 'does not apply' : r.result} `, element('span', { class: 'quiet id' }, r.at)),
    r.detail && element('p', { class: 'id' }, printable(r.detail)),
    r.parts && element('ul', { class: 'parts' }, ...r.parts.map((p) => element('li', { class: `depth-${Math.min(p.depth, 6)}` },
      element('code', {}, printable(p.text)), ' ', element('code', { class: p.error || p.value === 'false' ? 'value bad' : 'value' }, printable(p.value))))));
}

function row(values) {
  return element('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'The row as it was' }, element('table', {}, element('tbody', {},
    ...Object.entries(values).map(([name, value]) => element('tr', {}, element('th', { scope: 'row' }, printable(name)), element('td', {}, element('code', {}, json(value))))))));
}

function details(summary, ...children) {
  return element('details', { class: 'step' }, element('summary', {}, summary), ...children);
}

function sql(statement) {
  const list = (statement.arguments ?? []).map((value, i) => element('li', {}, element('code', {}, `$${i + 1} = `, value === null ? 'NULL' : printable(value))));
  return details('The SQL', element('pre', { tabindex: 0 }, printable(statement.sql)), list.length > 0 && element('ul', { class: 'parts' }, ...list));
}

function copyable(text) {
  const copy = navigator.clipboard && element('button', { type: 'button', onclick: async () => {
    await navigator.clipboard.writeText(text);
    announce('Copied.');
    copy.textContent = 'Copied';
  } }, 'Copy');
  return element('div', {}, element('pre', { tabindex: 0 }, printable(text)), copy);
}
