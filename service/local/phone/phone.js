// A device with the demo's lists: PowerSync's web client if it is installed, or else a
// simulation. What lies on the network between it and the service can be lost here.
import { simulate } from './simulated.js';

const $ = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const name = parameters.get('name') ?? 'A';
const url = `${location.origin}/phone`;
let user = parameters.get('user') ?? 'alice';
let losesAnswer = false;
let phone;

function make(tag, attributes, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

async function token(of) {
  const response = await fetch(`${url}/dev/token?user=${encodeURIComponent(of)}`);
  return (await response.json()).token;
}

/** fetch, as the client's connector uses it. Answers to uploads are shown, or lost. */
async function send(resource, init) {
  const response = await fetch(resource, init);
  if (init?.method !== 'POST' || !String(resource).endsWith('/api/data')) return response;
  if (losesAnswer) {
    losesAnswer = false;
    answered('bad', 'The answer was lost on the way. The device cannot know what became of the write, so it sends it again.');
    throw new TypeError('the answer was lost');
  }
  const body = await response.clone().json().catch(() => ({}));
  const { transactions } = await unpacked(init);
  for (const [i, { status, message }] of (body.results ?? []).entries()) {
    const sent = transactions[i];
    const what = sent.crud.map(({ op, id }) => `${op} ${id.slice(0, 8)}`).join(', ');
    answered(status === 'success' ? 'good' : 'bad', `transaction ${sent.transaction_id} (${what}): ${status}${message ? `: ${message}` : ''}`);
  }
  if (!body.results) answered('bad', `${response.status}: ${body.message ?? 'no results'}`);
  return response;
}

/** The body of an upload, which the real client packs if it is long. */
function unpacked({ headers, body }) {
  const sent = new Blob([body]).stream();
  return new Response(headers['Content-Encoding'] ? sent.pipeThrough(new DecompressionStream('gzip')) : sent).json();
}

function answered(kind, text) {
  const last = $('answers').firstElementChild;
  if (last?.textContent.startsWith(text)) { // the same again: count
    last.dataset.times = Number(last.dataset.times ?? 1) + 1;
    last.textContent = `${text} (${last.dataset.times} times)`;
    return;
  }
  $('answers').prepend(make('li', { className: kind }, text));
  while ($('answers').children.length > 20) $('answers').lastElementChild.remove();
}

async function draw() {
  const [lists, queue] = await Promise.all([phone.lists(), phone.queue()]);
  const focused = document.activeElement?.closest('#lists input, #lists button');
  if (!focused?.matches('input') || focused.value === focused.defaultValue) { // otherwise somebody types in it
    $('lists').replaceChildren(...lists.map(row), ...(lists.length ? [] : [make('li', { className: 'empty' }, 'none')]));
  }
  if (focused && !focused.isConnected) {
    const [item] = [...$('lists').children].filter(({ dataset }) => dataset.id === focused.parentElement.dataset.id);
    (item?.querySelector(focused.tagName) ?? $('name')).focus();
  }
  $('queue').replaceChildren(...queue.map((text) => make('li', {}, text)), ...(queue.length ? [] : [make('li', { className: 'empty' }, 'empty')]));
  document.body.dataset.queue = queue.length;
}

function row(list) {
  const input = make('input', { defaultValue: list.name ?? '', ariaLabel: `Name of list ${list.name}` });
  input.addEventListener('change', () => {
    input.defaultValue = input.value;
    phone.rename(list.id, input.value);
  });
  const item = make('li', {}, input, make('button', { type: 'button', ariaLabel: `Delete list ${list.name}`, onclick: () => phone.remove(list.id) }, '×'));
  item.dataset.id = list.id;
  return item;
}

/**
 * Shows why the queue stands still; nothing, if it does not. A client says it again with
 * each try, and the button may have the focus: it stays.
 */
function trouble(text, discard) {
  if (text && $('trouble').firstChild?.textContent === text) return;
  $('trouble').hidden = !text;
  $('trouble').replaceChildren(text ?? '', ...(text && discard ? [' ', make('button', { type: 'button', onclick: discard }, 'Discard the queue')] : []));
}

async function online(on) {
  $('online').checked = on;
  await phone.online(on);
}

async function signIn(as) {
  user = $('user').value = as;
  await phone.signIn(as);
}

/** What the console's tour does with this phone. */
const commands = {
  add: (text) => phone.add(text),
  renameAll: async (text) => Promise.all((await phone.lists()).map(({ id }) => phone.rename(id, text))),
  online, signIn,
  loseAnswer: () => { losesAnswer = true; }
};

addEventListener('message', async ({ source, data }) => {
  if (source !== parent || !Object.hasOwn(commands, data.command)) return;
  await commands[data.command](data.value);
  source.postMessage({ done: data.command, phone: name }, location.origin);
});

$('title').textContent = `Phone ${name}`;
document.title = `Phone ${name}`;
const users = await (await fetch('users')).json();
$('user').append(...Object.keys(users).map((value) => make('option', { value, selected: value === user }, value)));
$('user').addEventListener('change', () => signIn($('user').value));
$('online').addEventListener('change', () => online($('online').checked));
$('new').addEventListener('submit', (event) => {
  event.preventDefault();
  phone.add($('name').value);
  $('name').value = '';
});
const options = { name, url, user, users, token, send, trouble, changed: () => phone && draw() };
const installed = !parameters.has('simulated') && (await fetch('sdk/phone.js', { method: 'HEAD' })).ok;
phone = await (installed ? (await import('./sdk/phone.js')).open(options) : simulate(options));
$('kind').textContent = phone.kind;
await phone.online(true);
await draw();
document.body.dataset.ready = 'true';
parent.postMessage({ done: 'ready', phone: name }, location.origin);
