// Replaying or dismissing all writes that the list's filters select, a step at a time.
import { announce, element, failure, printable, request } from './dom.js';

const most = 50; // reasons that are told apart

/**
 * @param {URLSearchParams} query of the list
 * @param {{ total: number, at: string }} list how many writes it selects, and when they were counted
 * @param {{ redraw: () => Promise<void>, signal: AbortSignal }} view
 */
export function bulk(query, { total, at }, { redraw, signal }) {
  const count = total.toLocaleString();
  const outcome = element('div', { role: 'group', 'aria-label': 'Progress' });
  const replay = element('button', { type: 'submit', value: 'replay', class: 'primary', disabled: true }, `Replay all ${count}`);
  const rehearse = element('button', { type: 'submit', value: 'rehearse', formnovalidate: true }, `Dry run of all ${count}`);
  const dismiss = element('button', { type: 'submit', value: 'dismiss', class: 'danger' }, `Dismiss all ${count}`);
  const noRules = element('input', { type: 'checkbox', onchange: () => { replay.disabled = true; } });
  const stop = element('button', { type: 'button', hidden: true, onclick: () => { stop.hidden = true; } }, 'Stop');
  const form = element('form', { onsubmit: async (event) => {
    event.preventDefault();
    const { by, reason } = Object.fromEntries(new FormData(form));
    const action = event.submitter.value;
    if (action !== 'rehearse') localStorage.setItem('by', by);
    for (const button of [replay, rehearse, dismiss]) button.disabled = true;
    stop.hidden = false;
    stop.focus();
    const decision = { by, reason, no_rules: noRules.checked };
    const last = await run(action, decision);
    if (signal.aborted) return;
    const stopped = stop.hidden;
    stop.hidden = true;
    rehearse.disabled = dismiss.disabled = false;
    replay.disabled = action !== 'rehearse' || noRules.checked !== decision.no_rules;
    announce(`${stopped ? 'Stopped. ' : ''}${last}`);
    (action === 'rehearse' ? rehearse : outcome.querySelector('button')).focus();
  } },
  element('p', {}, 'The oldest first, so that the writes of one user keep their order. A dry run tries each one by itself: one that needs an earlier one fails there, and succeeds if both are replayed. What was rejected since this page was loaded is left alone.'),
  element('label', {}, 'Your name', element('input', { name: 'by', required: true, maxlength: 200, value: localStorage.getItem('by') ?? '', autocomplete: 'username' })),
  element('label', {}, 'Reason', element('input', { name: 'reason', required: true, maxlength: 1000, autocomplete: 'off' })),
  element('label', { class: 'check' }, noRules, 'Replay without the policies’ rules. Row-level security and constraints still apply.'),
  element('span', { class: 'do' }, rehearse, replay, dismiss, stop),
  outcome);

  /** Asks for one step after the other, until there is none or somebody stops it. It returns the last progress. */
  async function run(action, decision) {
    const bar = element('progress', { max: total, value: 0, 'aria-label': 'Progress' });
    const text = element('p', {});
    const failures = new Failures();
    outcome.replaceChildren(bar, text, failures.list);
    const step = new URLSearchParams(query);
    step.set('action', action);
    step.set('at', at);
    const verb = { rehearse: 'would be applied', replay: 'replayed', dismiss: 'dismissed' }[action];
    let done = 0, failed = 0;
    const tell = () => (text.textContent = `${(done + failed).toLocaleString()} of ${count}: ${done.toLocaleString()} ${verb}` +
      (failed ? `, ${failed.toLocaleString()} not` : ''));
    try {
      do {
        const answer = await request(`rejected?${step}`, decision);
        done += answer.done;
        failed += answer.failed.length;
        answer.failed.forEach((f) => failures.add(f));
        bar.value = done + failed;
        tell();
        step.set('after', answer.next ?? '');
      } while (step.get('after') && !stop.hidden && !signal.aborted);
    } catch (error) {
      outcome.append(failure(error));
    }
    if (action !== 'rehearse') outcome.append(element('button', { type: 'button', onclick: redraw }, 'Show the list as it is now'));
    return tell();
  }
  return element('details', { class: 'card' }, element('summary', {}, `Replay or dismiss all ${count}`), form);
}

/** Why writes were not done, each reason with its number and the first write that has it. */
class Failures {
  list = element('ul', { class: 'failures' });
  #reasons = new Map();

  add({ id, code, message }) {
    let why = code ? `${code}: ${message}` : message;
    if (!this.#reasons.has(why) && this.#reasons.size >= most) why = 'Other reasons';
    let reason = this.#reasons.get(why);
    if (!reason) {
      reason = { times: 0, count: element('strong') };
      this.#reasons.set(why, reason);
      this.list.append(element('li', {}, reason.count, ` ${printable(why)} `, element('a', { href: `#/rejected/${id}` }, 'the first of them')));
    }
    reason.count.textContent = (++reason.times).toLocaleString();
  }
}
