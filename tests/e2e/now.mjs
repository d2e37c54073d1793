// Drives the console's view Now at the end of a busy hour. EXPECTED is what happened in
// it, and whose queues are stuck.
import assert from 'node:assert/strict';

import { everyLook, look, open, quit, still, tabTo, url } from './console-page.mjs';

const title = (page) => page.getByRole('heading', { name: 'Now', exact: true });
const expected = JSON.parse(process.env.EXPECTED);
const wide = { viewport: { width: 1280, height: 820 } };

/** A text as the page shows it: what turns text around is visible. */
const shown = (text) => text.replace(/[\u202a-\u202e]/g, (c) => `\\u${c.charCodeAt(0).toString(16)}`);

/** The bars of a chart must have the heights, and its words the sums, of the hour. */
async function requireBars(page, name, most, parts) {
  const chart = page.getByRole('img', { name: `${name}: ` });
  const sum = (of) => expected.minutes.reduce((all, minute) => all + of(minute), 0);
  assert.equal(await chart.getAttribute('aria-label'), `${name}: ${parts.map(({ label, of }) => `${label} ${sum(of).toLocaleString()}`).join(', ')}`);
  for (const { kind, of } of parts) {
    const heights = await chart.locator(`rect.${kind}`).evaluateAll((bars) => bars.map((bar) => bar.height.baseVal.value));
    assert.deepEqual(heights.map((height) => Math.round(height * most / 120)), expected.minutes.map(of).filter((n) => n > 0), `${name} ${kind}`);
  }
}

async function requireHour(page) {
  await requireBars(page, 'Requests', 10, [
    { kind: 'good', label: 'answered', of: (m) => m.requests[2] },
    { kind: 'warn', label: 'refused (4xx)', of: (m) => m.requests[4] },
    { kind: 'bad', label: 'failed (5xx)', of: (m) => m.requests[5] }
  ]);
  await requireBars(page, 'Transactions', 10, [
    { kind: 'good', label: 'applied', of: (m) => m.results.success },
    { kind: 'bad', label: 'rejected', of: (m) => m.results.fatal_error },
    { kind: 'warn', label: 'to be sent again', of: (m) => m.results.retryable_error }
  ]);
  const latencies = page.locator('figure', { hasText: 'Time of an upload' });
  assert.match(await latencies.locator('figcaption').textContent(), /at most (2[5-9]|[3-9]\d)0 ms|at most \d+(\.\d)? s/, 'an upload took 0.3 s');
  for (const line of ['slow', 'median']) {
    assert.equal((await latencies.locator(`path.${line}`).getAttribute('d')).match(/M/g).length, 2, 'in one minute, there was no upload');
  }
  const rows = await page.getByRole('region', { name: 'Stuck queues' }).locator('tbody tr').evaluateAll((all) => all.map((row) => ({
    subject: row.querySelector('th').textContent, reason: row.querySelector('code').textContent,
    since: row.querySelectorAll('time')[0].dateTime, last: row.querySelectorAll('time')[1].dateTime
  })));
  assert.deepEqual(rows, expected.stuck.map((queue) => ({ ...queue, subject: shown(queue.subject) })));
  const waiting = page.locator('section', { has: page.getByRole('heading', { name: 'Rejected writes' }) });
  assert.deepEqual(await waiting.locator('dd').allTextContents(), ['100,001', '1'], 'open and held');
}

await everyLook('', title, async (page, name) => {
  assert.equal(new URL(page.url()).hash, '#/now', 'it is the first view');
  await still(page);
  await requireHour(page);
  await look(page, `now-busy-${name}`);
  await page.locator('h2', { hasText: 'Stuck queues: 4' }).evaluate((heading) => heading.scrollIntoView());
  await look(page, `now-stuck-${name}`);
  await page.locator('h2', { hasText: 'Policies' }).evaluate((heading) => heading.scrollIntoView());
  await look(page, `now-policies-${name}`);
});

// What these users wrote and was rejected is text, too.
await everyLook('#/rejected', (page) => page.locator('.writes li').first(), async (page, name) => {
  for (const [index, user] of expected.users.entries()) {
    const list = async () => {
      await page.goto(`${url}#/rejected?status=all&user=${encodeURIComponent(user)}`);
      await page.locator('.writes .id', { hasText: shown(user) }).first().waitFor();
    };
    await list();
    await page.getByText(/^[45] writes, the oldest first/).waitFor();
    const highest = await page.locator('.writes li').evaluateAll((rows) => Math.max(...rows.map((row) => row.offsetHeight)));
    assert.ok(highest < 200, `a long name leaves room for other writes: ${highest} px`);
    await look(page, `now-user-${index}-list-${name}`);
    for (const [nth, code] of ['UNAUTHORIZED', 'INVALID_DATA'].entries()) { // and one that the service cannot read
      await page.locator('.writes li').nth(nth).filter({ hasText: code }).click();
      await page.getByRole('heading', { name: 'About it' }).waitFor();
      assert.ok((await page.locator('main').textContent()).includes(shown(user)));
      assert.equal(await page.getByRole('button', { name: 'Dry run' }).count(), code === 'INVALID_DATA' ? 0 : 1);
      await look(page, `now-user-${index}-${code}-${name}`);
      await list();
    }
  }
});

// By keyboard alone: past the views, to the rejected writes and back, and the doctor.
const { page, close } = await open('', title, wide);
await tabTo(page, 'Skip to the content');
await page.keyboard.press('Enter');
await page.waitForFunction(() => document.activeElement.id === 'main' && location.hash === '#/now');
await tabTo(page, 'Look at them');
await page.keyboard.press('Enter');
await page.getByText(/^100,0[0-9]{2} writes, the oldest first/).waitFor();
await tabTo(page, /^Now$/);
await page.keyboard.press('Enter');
await title(page).waitFor();
await still(page);
await tabTo(page, 'Examine');
await page.keyboard.press('Enter');
await page.locator('.finding').first().waitFor();
await page.waitForFunction(() => document.activeElement.textContent === 'Examine');
await look(page, 'doctor-1280-light');
await close();
await quit();
