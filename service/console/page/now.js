// How the service is: the last hour, what it stands on, and what needs somebody's attention.
import { bars, lines } from './charts.js';
import { announce, element, failure, printable, request, time } from './dom.js';

const every = 10_000; // milliseconds

/** @param {{ signal: AbortSignal }} view */
export async function draw({ signal }) {
  const live = element('div', {});
  live.replaceChildren(...show(await request('now')));
  const refresh = setInterval(async () => {
    if (document.hidden || live.contains(document.activeElement)) return;
    try {
      live.replaceChildren(...show(await request('now')));
    } catch (error) {
      live.replaceChildren(failure(error));
    }
  }, every);
  signal.addEventListener('abort', () => clearInterval(refresh));
  return [element('h1', { class: 'above' }, 'Now'), live, doctor()];
}

function show(state) {
  return [
    state.not_ready && element('p', { class: 'notice bad' }, `Not ready for uploads: ${printable(state.not_ready)}`),
    element('div', { class: 'tiles' }, requests(state), outcomes(state), latencies(state)),
    stuck(state),
    element('div', { class: 'tiles four' }, policies(state.policies), pool(state.pool), keys(state.key_sets ?? []), waiting(state.waiting))
  ].filter(Boolean);
}

function requests({ minutes }) {
  return bars('Requests', minutes, [
    { kind: 'good', label: 'answered', of: (m) => (m.requests['2'] ?? 0) + (m.requests['3'] ?? 0) },
    { kind: 'warn', label: 'refused (4xx)', of: (m) => m.requests['4'] ?? 0 },
    { kind: 'bad', label: 'failed (5xx)', of: (m) => m.requests['5'] ?? 0 }
  ]);
}

function outcomes({ minutes }) {
  return bars('Transactions', minutes, [
    { kind: 'good', label: 'applied', of: (m) => m.results.success ?? 0 },
    { kind: 'bad', label: 'rejected', of: (m) => m.results.fatal_error ?? 0 },
    { kind: 'warn', label: 'to be sent again', of: (m) => (m.results.retryable_error ?? 0) + (m.results.not_attempted ?? 0) }
  ]);
}

function latencies({ minutes }) {
  return lines('Time of an upload', minutes, [
    { kind: 'slow', label: '95 % within', of: (m) => m.slow },
    { kind: 'median', label: 'half within', of: (m) => m.median }
  ]);
}

function card(title, ...children) {
  return element('section', { class: 'card' }, element('h2', {}, title), ...children);
}

function facts(...pairs) {
  return element('dl', {}, ...pairs.filter(Boolean).flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)]));
}

function stuck({ stuck: queues }) {
  if (queues.length === 0) return card('Stuck queues', element('p', { class: 'quiet' }, 'None. A device that sends the same transaction in vain for 10 minutes appears here.'));
  const row = (q) => element('tr', {},
    element('th', { scope: 'row', class: 'id' }, printable(q.subject)), element('td', {}, element('code', {}, printable(q.reason))),
    element('td', {}, time(q.since)), element('td', {}, time(q.last)));
  return card(`Stuck queues: ${queues.length.toLocaleString()}`,
    element('p', { class: 'notice bad' }, 'These devices keep sending the same transaction, and nothing behind it is uploaded. The log has each failure.'),
    element('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Stuck queues' }, element('table', {},
      element('thead', {}, element('tr', {}, ...['User', 'Reason', 'Since', 'Last try'].map((name) => element('th', { scope: 'col' }, name)))),
      element('tbody', {}, ...queues.slice(0, 100).map(row)))));
}

function policies(p) {
  return card('Policies',
    p.problem && element('p', { class: 'notice bad' }, 'The newest files are not in force:'),
    p.problem && element('pre', { tabindex: 0 }, printable(p.problem)),
    facts(['folder', element('span', { class: 'id' }, printable(p.folder || 'none'))], p.content && ['in force', p.content],
      ['SHA-256', element('span', { class: 'id', title: p.sha256 }, p.sha256.slice(0, 16))], ['loaded', time(p.loaded_at)],
      p.failed_at && ['last failed reload', time(p.failed_at)]),
    p.failed_at && !p.problem && element('details', {}, element('summary', {}, 'What was wrong then'), element('pre', { tabindex: 0 }, printable(p.failure))));
}

function pool(p) {
  return card('Database connections', facts(['busy', `${p.busy} of ${p.most}`], ['idle', String(p.idle)], p.connecting > 0 && ['connecting', String(p.connecting)],
    ['waits since the start', p.waits === 0 ? 'none' : `${p.waits.toLocaleString()}, together ${p.wait_seconds.toFixed(1)} s`]));
}

function keys(sets) {
  return card('Key sets', facts(...sets.map((k) => [printable(k.issuer),
    element('span', {}, k.keys === 1 ? '1 key' : `${k.keys} keys`, ...(k.fetched_at ? [', fetched ', time(k.fetched_at)] : []))])));
}

function waiting(counts) {
  return card('Rejected writes', counts
    ? facts(['open', counts.open.toLocaleString()], ['held', counts.held.toLocaleString()])
    : element('p', { class: 'quiet' }, 'Not counted yet.'),
  element('p', { class: 'quiet' }, 'Counted at most once an hour. ', element('a', { href: '#/rejected' }, 'Look at them')));
}

/** The checks of `postern doctor`, when somebody asks. They use the database. */
function doctor() {
  const outcome = element('div', {});
  const button = element('button', { onclick: async () => {
    button.disabled = true;
    outcome.replaceChildren(element('p', { class: 'quiet' }, 'Examining…'));
    try {
      const { findings } = await request('now/doctor', {});
      announce(`${findings.length} findings`);
      outcome.replaceChildren(...(findings.length ? findings.map(finding) : [element('p', { class: 'notice good' }, 'Nothing is wrong.')]));
    } catch (error) {
      outcome.replaceChildren(failure(error));
    }
    button.disabled = false;
    button.focus();
  } }, 'Examine');
  return card('Doctor', element('p', {}, 'Checks the database, the issuers of tokens, the PowerSync Service, the policies and this machine, as ', element('code', {}, 'postern doctor'), ' does. It only reads.'),
    element('p', {}, button), outcome);
}

function finding({ check, severity, cause, remedy }) {
  return element('article', { class: 'finding' },
    element('h3', {}, element('span', { class: `badge ${{ error: 'open', warning: 'held' }[severity] ?? ''}` }, severity), ` ${printable(check)}`),
    element('p', {}, printable(cause)), element('pre', { tabindex: 0 }, printable(remedy)));
}
