// Two phones and the rows in Postgres beside them, with a tour. In dev mode alone.
import { announce, element, printable, request } from './dom.js';

const phones = [['A', 'alice'], ['B', 'alice']];

const tour = [
  ['Write', 'Phone A makes a list while it is offline, and goes online. The list is in Postgres, and then on phone B.',
    async (a) => {
      await a('online', false);
      await a('add', 'Groceries');
      await pause();
      await a('online', true);
    }],
  ['Resend after a lost answer', 'Phone A makes a list, and the answer is lost. It sends the write again and gets the same answer: the list is there once.',
    async (a) => {
      await a('loseAnswer');
      await a('add', 'Once only');
    }],
  ['Break a rule', 'Phone A makes a list whose name has more than 200 characters. The database rejects it for good. The list leaves the phone, and the write waits for you under Rejected writes.',
    (a) => a('add', 'x'.repeat(201))],
  ['Edit one row from both', 'Both phones are offline and rename every list. B goes online first, then A. Without a conflict strategy the last one wins.',
    async (a, b) => {
      await Promise.all([a('online', false), b('online', false)]);
      await Promise.all([a('renameAll', 'Named by A'), b('renameAll', 'Named by B')]);
      await b('online', true);
      await pause();
      await a('online', true);
    }],
  ['Sign in as someone else', 'Phone B makes a list offline, and bob signs in. Her queue is not uploaded as his. He discards it, or alice signs in again.',
    async (_, b) => {
      await b('online', false);
      await b('add', 'Of alice');
      await b('signIn', 'bob');
      await b('online', true);
    }]
];

const pause = () => new Promise((done) => setTimeout(done, 1200));

/** With ?simulated the phones are simulations, even if the real client is installed. */
export async function draw({ query, signal }) {
  await request('devices');
  const frames = phones.map(([name, user]) => element('iframe', { src: `/phone/?name=${name}&user=${user}${query.has('simulated') ? '&simulated' : ''}`, title: `Phone ${name}` }));
  const [a, b] = frames.map(remote);
  const rows = element('div', {});
  watch(rows, signal);
  return [
    element('h1', {}, 'Devices'),
    element('p', { class: 'lead' }, 'Two devices of alice, and what Postgres has.'),
    element('section', { class: 'card' }, element('h2', {}, 'A tour'), element('ol', { class: 'tour' }, ...tour.map(([title, text, work], i) => step(title, text, () => work(a, b), i)))),
    element('div', { class: 'devices' },
      ...frames.map((frame) => element('div', { class: 'phone' }, frame)),
      element('section', { class: 'card' }, element('h2', {}, 'Lists in Postgres'), rows))
  ];
}

function step(title, text, work, index) {
  const button = element('button', { type: 'button', onclick: async () => {
    button.disabled = true;
    announce(`Step ${index + 1}: ${title}`);
    await work();
    button.disabled = false;
    if (document.activeElement === document.body) button.focus(); // it lost the focus
  } }, `${index + 1}. ${title}`);
  return element('li', {}, button, element('p', { class: 'quiet' }, text));
}

/** Commands for a phone. Each ends when the phone has done it. */
function remote(frame) {
  return (command, value) => new Promise((done) => {
    const heard = ({ source, data }) => {
      if (source !== frame.contentWindow || data.done !== command) return;
      removeEventListener('message', heard);
      done();
    };
    addEventListener('message', heard);
    frame.contentWindow.postMessage({ command, value }, location.origin);
  });
}

/** Shows the rows until another view is drawn. */
async function watch(into, signal) {
  const names = new Map(Object.entries(await (await fetch('/phone/users')).json()).map(([name, sub]) => [sub, name]));
  let shown;
  while (!signal.aborted) {
    const text = await fetch('/phone/rows').then((response) => (response.ok ? response.text() : '[]'), () => '[]');
    if (text !== shown) into.replaceChildren(table(JSON.parse(text), names));
    shown = text;
    await new Promise((next) => setTimeout(next, 700));
  }
}

function table(lists, names) {
  if (lists.length === 0) return element('p', { class: 'quiet' }, 'None yet.');
  return element('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Lists in Postgres' }, element('table', {},
    element('thead', {}, element('tr', {}, ...['id', 'name', 'owner'].map((name) => element('th', { scope: 'col' }, name)))),
    element('tbody', {}, ...lists.map(({ id, name, owner_id }) => element('tr', {},
      element('td', {}, element('code', {}, id.slice(0, 8))), element('td', {}, printable(name)), element('td', {}, printable(names.get(owner_id) ?? owner_id)))))));
}
