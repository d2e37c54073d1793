// Drives the console's playground, in dev mode.
import assert from 'node:assert/strict';

import { everyLook, look, open, quit, tabTo } from './console-page.mjs';

const accepted = (page) => page.getByText('It would be accepted.');
const rejected = (page) => page.getByText('It would be rejected.');
const policy = (page) => page.getByLabel('Text of the policy file');
const mistakes = ['422'];

// Every look: accepted, rejected with the parts of the rule, an edited policy, a mistake in it.
await everyLook('#/playground', rejected, async (page, name) => {
  await page.getByText('size(new.name) > 0').first().waitFor();
  await look(page, `playground-empty-${name}`);
  await page.getByLabel('Value of column 1').fill('Groceries & more');
  await rejected(page).and(page.getByText('NAME_LENGTH')).waitFor();
  const part = page.locator('.parts li').filter({ hasText: /^size\(new\.name\) 16$/ });
  await part.waitFor();
  await look(page, `playground-rejected-${name}`);
  await policy(page).fill((await policy(page).inputValue()).replace('<= 10', '<= 20'));
  await accepted(page).waitFor();
  await page.getByText('operation 0: inserted').waitFor();
  await page.getByText('Changed here and not in force').waitFor();
  await page.locator('summary', { hasText: 'few-lists passed' }).click();
  await page.getByText('lookup.mine = {"n":0}').waitFor();
  await page.locator('.parts li').filter({ hasText: /^lookup\.mine\.n < 3 true$/ }).waitFor();
  await page.getByText('The SQL').click();
  await page.getByText(/insert into "public"."lists"/).waitFor();
  await look(page, `playground-accepted-${name}`);
  await policy(page).fill('tables: {lists: {allow: all, ownr: x}}');
  await page.getByText('unknown field "ownr"').waitFor();
  await look(page, `playground-mistake-${name}`);
  await page.getByRole('button', { name: 'Undo all changes' }).click();
  await rejected(page).waitFor();
  // What somebody pastes is text.
  await page.getByLabel('Value of column 1').fill('<img src=x onerror=alert(1)>');
  await page.getByLabel('Table').fill('<img src=x onerror=alert(1)>');
  await page.getByText('no policy names the table').waitFor();
  await look(page, `playground-hostile-${name}`);
}, mistakes);

// By keyboard alone: write as bob, see the policy test, apply, and change the row.
const { page, close } = await open('#/playground', rejected, { viewport: { width: 1280, height: 820 } });
const type = async (label, text) => {
  await tabTo(page, label);
  await page.keyboard.press('Control+A');
  await page.keyboard.type(text);
};
// Inputs complete from the catalogue: columns are those of the table that is chosen.
const offered = (label) => page.getByLabel(label, { exact: true }).evaluate((input) => [...input.list.options].map(({ value }) => value));
assert.deepEqual(await offered('Table'), ['lists', 'todos']);
assert.ok((await offered('Column 1')).includes('name'));
await type('Table', 'todos');
await page.keyboard.press('Tab');
await page.waitForFunction(() => [...document.querySelector('[aria-label="Column 1"]').list.options].some(({ value }) => value === 'description'));
assert.ok(!(await offered('Column 1')).includes('name'));
await type('Table', 'lists');
await page.keyboard.press('Tab');
await page.waitForFunction(() => [...document.querySelector('[aria-label="Column 1"]').list.options].some(({ value }) => value === 'name'));
await type('User, by name', 'bob');
await type('Value of column 1', 'Food');
await accepted(page).waitFor();
await tabTo(page, 'Apply');
await page.keyboard.press('Enter');
await page.locator('main').getByText('Applied. Below is what the same write would do now.').waitFor();
await page.getByText('operation 0: left the row unchanged').waitFor();
await tabTo(page, 'As a policy test');
await page.keyboard.press('Enter');
const test = await page.locator('pre').filter({ hasText: 'outcome: accepted' }).textContent();
assert.match(test, /users:\n {2}user: .*bob@example.com/);
await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
await tabTo(page, /^Copy$/);
await page.keyboard.press('Enter');
await page.waitForFunction(() => document.getElementById('announcements').textContent === 'Copied.');
assert.equal(await page.evaluate(() => navigator.clipboard.readText()), test);
await type('User, by name', 'alice');
await rejected(page).and(page.getByText('UNAUTHORIZED')).waitFor();
await look(page, 'playground-other-1280-light');
await close();
await quit();
