// Drives the console in a headless Chromium. CONSOLE_URL is its address, CHROMIUM the
// browser, and SCREENSHOTS a folder for pictures, if they are wanted.
import assert from 'node:assert/strict';

import { everyLook, look, open, quit, tabTo, url } from './console-page.mjs';

const hostile = '<img src=x onerror=alert(1)>';
const first = (page) => page.locator('.writes li').first();

// Every view, wide and narrow, light and dark.
await everyLook('#/rejected', first, async (page, name) => {
  await look(page, `list-${name}`);
  await page.getByRole('link', { name: 'Next page' }).click();
  await page.getByRole('link', { name: 'First page' }).click();
  await page.goto(`${url}#/rejected?code=SHORT_NAME`);
  await page.locator('.writes li').filter({ hasText: 'SHORT_NAME' }).first().click();
  await page.getByRole('heading', { name: 'The rule' }).waitFor();
  const wanted = page.getByRole('region', { name: 'Now and Wanted' }).getByRole('row').filter({ hasText: 'description' });
  assert.equal(await wanted.locator('td.minus code').textContent(), '"Buy milk"');
  assert.equal(await wanted.locator('td.plus code').textContent(), '"Buy milk, bread and cheese"');
  const [removed, added] = await wanted.locator('td').evaluateAll((cells) => cells.map((cell) => getComputedStyle(cell).backgroundColor));
  assert.notEqual(removed, added, 'what differs is coloured');
  assert.ok(await page.getByRole('button', { name: 'Replay', exact: true }).isDisabled(), 'a dry run comes first');
  await look(page, `write-${name}`);
  await page.getByRole('button', { name: 'Dry run' }).click();
  await page.getByText('It would be rejected again.').waitFor();
  await look(page, `dry-run-${name}`);
  await page.goto(`${url}#/rejected?code=NONE`);
  await page.getByText('No rejected write matches').waitFor();
  await look(page, `none-${name}`);
  // What a client chose is text.
  await page.goto(`${url}#/rejected?status=all&table=${encodeURIComponent(hostile)}`);
  await page.getByText('3 writes, the oldest first').waitFor();
  for (const index of [0, 1]) {
    await page.locator('.writes li').nth(index).click();
    await page.getByRole('heading', { name: 'About it' }).waitFor();
    assert.equal(await page.locator('main svg, main iframe').count(), 0);
    await look(page, `hostile-${index}-${name}`);
    if (index === 0) await page.goBack();
  }
  for (const [code, table, ...texts] of [
    ['MARKUP', 'lists', `"name": "${hostile}${hostile}"`, `"old": "${hostile}"`], // members of details, in any order
    ['INVALID_DATA', 'todos', `cannot hold "${hostile}"`],
    ['INVALID_DATA', hostile, 'Its bytes, escaped:']
  ]) {
    await page.goto(`${url}#/rejected?${new URLSearchParams({ code, table })}`);
    await page.getByText('1 write, the oldest first').waitFor();
    await page.locator('.writes li').click();
    await page.getByRole('heading', { name: 'About it' }).waitFor();
    const shown = await page.locator('main').textContent();
    for (const text of [...texts, `device${hostile}`]) assert.ok(shown.includes(text), `${code} lacks ${text}: ${shown}`);
    if (code === 'MARKUP') {
      await page.getByRole('button', { name: 'Edit name' }).click();
      await page.getByRole('button', { name: 'Dry run' }).click();
      await page.getByText('It would be rejected again.').waitFor();
    }
    await look(page, `hostile-${code}-${table.slice(1, 4)}-${name}`);
  }
});

// By keyboard alone: filter, open, dry run, replay, and dismiss another one.
const { page, close } = await open('#/rejected', first, { viewport: { width: 1280, height: 820 } }, ['409 (Conflict)']); // a value that is no JSON
async function filterBy(code) {
  await tabTo(page, 'Code');
  await page.keyboard.press('Control+A');
  await page.keyboard.type(code);
  await page.keyboard.press('Enter');
  await page.waitForFunction((query) => location.hash.includes(query), String(new URLSearchParams({ code })));
  await page.getByText('1 write, the oldest first').waitFor();
  await tabTo(page, code);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Decide' }).waitFor();
}
async function decide(button) {
  await page.evaluate(() => document.getElementById('main').focus());
  await tabTo(page, 'Your name');
  await page.keyboard.press('Control+A');
  await page.keyboard.type('carol');
  await tabTo(page, 'Reason');
  await page.keyboard.type('the table was corrected');
  await tabTo(page, button);
}
await filterBy('CHECK_VIOLATION');
await decide('Dry run');
await page.keyboard.press('Enter');
await page.getByText('It would be applied:').waitFor();
await look(page, 'applied-1280-light');
await tabTo(page, /^Replay$/);
await page.keyboard.press('Enter');
await page.locator('.badge.replayed').waitFor();
assert.equal(await page.getByRole('heading', { name: 'Decide' }).count(), 0);
await tabTo(page, '← Rejected writes');
await page.keyboard.press('Enter');
await page.locator('.writes li').first().waitFor();
await filterBy('SHORT_NAME');
await tabTo(page, 'Edit description');
await page.keyboard.press('Enter');
await page.keyboard.press('Control+A');
await page.keyboard.type('Milk');
await decide('Dry run');
await page.keyboard.press('Enter');
await page.getByText('is not JSON').waitFor();
await page.getByLabel('New value of description, as JSON').fill('"Milk"');
await page.getByRole('button', { name: 'Dry run' }).press('Enter');
await page.getByText('It would be applied:').waitFor();
const value = page.getByLabel('New value of description, as JSON');
await value.fill('"Tea"');
assert.ok(await page.getByRole('button', { name: 'Replay', exact: true }).isDisabled(), 'another value needs a dry run of its own');
await value.fill('"Milk"');
await page.getByRole('button', { name: 'Dry run' }).press('Enter');
await page.getByText('It would be applied:').waitFor();
await look(page, 'edited-1280-light');
await tabTo(page, /^Replay$/);
await page.keyboard.press('Enter');
await page.getByRole('region', { name: 'Sent and Applied' }).waitFor();
await look(page, 'edited-done-1280-light');
await tabTo(page, '← Rejected writes');
await page.keyboard.press('Enter');
await first(page).waitFor();

// One is dismissed, and many: until somebody stops it.
await filterBy(hostile);
await decide(/^Dismiss$/);
await page.keyboard.press('Enter');
await page.locator('.badge.dismissed').waitFor();
assert.match(await page.locator('.actions').textContent(), /dismissed by carol.*the table was corrected/s);
await look(page, 'done-1280-light');
await page.goto(`${url}#/rejected`);
await first(page).waitFor();
await tabTo(page, 'Status');
await page.keyboard.type('replayed,dismissed');
await page.keyboard.press('Enter');
await page.getByText('3 writes, the oldest first').waitFor();
assert.equal(await page.locator('summary').count(), 0, 'what was decided is not decided again');
await look(page, 'statuses-1280-light');
await page.goto(`${url}#/rejected?code=NOT_NULL_VIOLATION`);
await page.getByText('33,334 writes, the oldest first').waitFor();
await tabTo(page, 'Replay or dismiss all 33,334');
await page.keyboard.press('Enter');
await tabTo(page, 'Dry run of all');
await page.keyboard.press('Enter');
await page.getByText(/of 33,334: 0 would be applied/).waitFor();
await page.keyboard.press('Enter'); // the focus is on Stop
await page.waitForFunction(() => document.getElementById('announcements').textContent.startsWith('Stopped.'));
await look(page, 'bulk-1280-light');
await tabTo(page, 'Your name');
await tabTo(page, 'Reason');
await page.keyboard.type('the table was corrected');
await tabTo(page, 'Dismiss all');
await page.keyboard.press('Enter');
await page.getByText(/of 33,334: [1-9][0-9,]* dismissed/).waitFor();
await page.keyboard.press('Enter');
await page.waitForFunction(() => /^Stopped.*dismissed/.test(document.getElementById('announcements').textContent));
await page.keyboard.press('Enter');
await page.getByText(/^(?!33,334)[0-9,]+ writes, the oldest first/).waitFor();

// Why many were not applied is text, too.
await page.goto(`${url}#/rejected?code=INVALID_DATA&table=todos`);
await page.getByText('1 write, the oldest first').waitFor();
await tabTo(page, 'Replay or dismiss all 1');
await page.keyboard.press('Enter');
await tabTo(page, 'Dry run of all');
await page.keyboard.press('Enter');
await page.locator('.failures').getByText(`cannot hold "${hostile}"`).waitFor();
await look(page, 'bulk-hostile-1280-light');

// Some are replayed together, after a dry run of them.
await page.goto(`${url}#/rejected?code=UNIQUE_VIOLATION`);
await page.getByText('3 writes, the oldest first').waitFor();
await tabTo(page, 'Replay or dismiss all 3');
await page.keyboard.press('Enter');
await tabTo(page, 'Dry run of all');
await page.keyboard.press('Enter');
await page.waitForFunction(() => document.getElementById('announcements').textContent === '3 of 3: 3 would be applied');
await page.evaluate(() => document.getElementById('main').focus());
await tabTo(page, 'Reason');
await page.keyboard.type('the index was dropped');
await tabTo(page, 'Replay all 3');
await page.keyboard.press('Enter');
await page.waitForFunction(() => document.getElementById('announcements').textContent === '3 of 3: 3 replayed');
await page.keyboard.press('Enter');
await page.getByText('No rejected write matches').waitFor();
await close();
await quit();
