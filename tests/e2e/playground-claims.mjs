// Drives the console's playground of a service whose users are a provider's: their claims
// are pasted. What is pasted is text, and nothing can be applied.
import assert from 'node:assert/strict';

import { everyLook, look, open, quit, tabTo } from './console-page.mjs';

const hostile = '<img src=x onerror=alert(1)>';
const alice = JSON.stringify({ sub: process.env.USER_ID, role: 'authenticated', team: hostile, [hostile]: hostile });
const noUser = (of) => of.getByText('the claims have no sub');
const mistakes = ['400', '422'];

// Every look: no claims, those of another role, and those of a user.
await everyLook('#/playground', noUser, async (page, name) => {
  await look(page, `playground-no-claims-${name}`);
  await page.getByLabel('User: the claims').fill(JSON.stringify({ sub: hostile, role: hostile, [hostile]: hostile }));
  await page.getByText(`users do not write as role "${hostile}"`).waitFor();
  await look(page, `playground-role-${name}`);
  await page.getByLabel('User: the claims').fill(alice);
  await page.getByLabel('Column 1', { exact: true }).fill('name');
  await page.getByLabel('Value of column 1').fill(hostile);
  await page.getByText('operation 0: inserted').waitFor();
  await page.locator('summary', { hasText: 'team passed' }).click();
  await page.locator('.parts .value').filter({ hasText: hostile }).first().waitFor();
  await page.locator('summary', { hasText: 'As a policy test' }).click();
  await look(page, `playground-claims-${name}`);
}, mistakes);

// By keyboard alone.
const { page, close } = await open('#/playground', noUser, { viewport: { width: 1280, height: 820 } }, mistakes);
const type = async (label, text) => {
  await tabTo(page, label);
  await page.keyboard.press('Control+A');
  await page.keyboard.type(text);
};
await type('User: the claims', hostile);
await page.getByText('as JSON').waitFor();
await type('User: the claims', alice);
await type('Column 1', 'name');
await type('Value of column 1', hostile);
await page.getByText('operation 0: inserted').waitFor();
await type('Column 1', hostile);
await page.getByText(`no column "${hostile}"`).waitFor();
await type('Text of the policy file', JSON.stringify({ tables: { lists: { allow: 'all', [hostile]: hostile } } }));
await page.getByText(`unknown field "${hostile}"`).waitFor();
await look(page, 'playground-policy-1280-light');
assert.equal(await page.getByRole('button', { name: 'Apply' }).count(), 0);
await close();
await quit();
