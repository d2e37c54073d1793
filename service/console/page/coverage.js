// What the policies' tests have seen of each condition, as `postern policy test` wrote it.
import { element, printable, request, time } from './dom.js';

export async function draw() {
  const { command, report, at, outdated } = await request('coverage');
  const title = element('h1', { class: 'above' }, 'Coverage of the policies');
  if (!command) {
    return [title, element('section', { class: 'card' }, element('p', {}, 'Coverage is that of policies in a folder, and these are built in.'),
      element('p', {}, 'Write your own, and start with them:'), element('pre', { tabindex: 0 }, 'postern policy init policies\npostern dev --policies policies'))];
  }
  const run = [element('p', {}, 'This writes it:'), element('pre', { tabindex: 0 }, printable(command))];
  if (!report) return [title, element('section', { class: 'card' }, element('p', {}, 'Nobody has written the coverage of the policies’ tests into their folder yet.'), ...run)];
  const summary = `The tests have seen ${report.percent} %: ${report.seen.toLocaleString()} of ${report.all.toLocaleString()} results of conditions.`;
  const groups = Map.groupBy(report.expressions ?? [], ({ of }) => of);
  return [
    title,
    outdated && element('section', { class: 'card' }, element('p', { class: 'notice' }, 'Other policies are in force now.'), ...run),
    element('section', { class: 'card' }, element('p', {}, summary), element('meter', { min: 0, max: 100, value: report.percent, 'aria-label': 'Coverage' }),
      element('p', { class: 'quiet' }, 'Written ', time(at))),
    ...[...groups].map(([of, expressions]) => element('section', { class: 'card' },
      element('h2', {}, printable(of), ' ', element('span', { class: 'quiet id' }, printable(expressions[0].position))), conditions(of, expressions)))
  ].filter(Boolean);
}

function conditions(of, expressions) {
  const row = (key, { text, depth, results, missed }) => {
    const code = element('code', {}, printable(text));
    code.style.marginLeft = `${2 * depth}em`;
    return element('tr', { class: missed && 'missed' }, element('td', {}, printable(key)), element('td', {}, code), element('td', {}, results), element('td', {}, missed ?? ''));
  };
  return element('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `Conditions of ${of}` }, element('table', { class: 'coverage' },
    element('thead', {}, element('tr', {}, ...['Key', 'Condition', 'Results', 'Missing'].map((name) => element('th', { scope: 'col' }, name)))),
    element('tbody', {}, ...expressions.flatMap((e) => e.conditions.map((condition, i) => row(i === 0 ? e.key : '', condition))))));
}
