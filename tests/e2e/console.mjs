// Drives the console in a headless Chromium. CONSOLE_URL is its address, CHROMIUM the
// browser, and SCREENSHOTS a folder for pictures, if they are wanted.
import assert from 'node:assert/strict';
import { join } from 'node:path';

import { AxeBuilder } from '@axe-core/playwright';
import { chromium } from 'playwright-core';

const { CONSOLE_URL: url, CHROMIUM: executablePath, SCREENSHOTS: pictures } = process.env;
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });

/** Opens the console, and fails on any error, dialog or request to another host. */
async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const problems = [];
  page.on('pageerror', (error) => problems.push(`error: ${error}`));
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  page.on('dialog', (dialog) => (problems.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on('request', (request) => new URL(request.url()).origin === new URL(url).origin || problems.push(`calls ${request.url()}`));
  await page.goto(url);
  await page.locator('.writes li').first().waitFor();
  return { page, problems, close: () => context.close() };
}

async function look(page, name) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  assert.deepEqual(serious.map(({ id, nodes }) => [id, ...nodes.map(({ target }) => target.join(' '))]), [], name);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0, `${name} is wider than the window`);
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`) });
}

// Every view, wide and narrow, light and dark.
for (const [width, height] of [[1280, 820], [390, 780]]) {
  for (const colorScheme of ['light', 'dark']) {
    const { page, problems, close } = await open({ viewport: { width, height }, colorScheme });
    const name = `${width}-${colorScheme}`;
    await look(page, `list-${name}`);
    await page.getByRole('link', { name: 'Next page' }).click();
    await page.getByRole('link', { name: 'First page' }).click();
    await page.goto(`${url}#/rejected?code=SHORT_NAME`);
    await page.locator('.writes li').filter({ hasText: 'SHORT_NAME' }).first().click();
    await page.getByRole('heading', { name: 'The rule' }).waitFor();
    await look(page, `write-${name}`);
    await page.getByRole('button', { name: 'Dry run' }).click();
    await page.getByText('It would be rejected again.').waitFor();
    await look(page, `dry-run-${name}`);
    await page.goto(`${url}#/rejected?code=NONE`);
    await page.getByText('No rejected write matches').waitFor();
    await look(page, `none-${name}`);
    // What a client chose is text.
    await page.goto(`${url}#/rejected?status=all&table=${encodeURIComponent('<img src=x onerror=alert(1)>')}`);
    await page.getByText('2 writes, the oldest first').waitFor();
    for (const index of [0, 1]) {
      await page.locator('.writes li').nth(index).click();
      await page.getByRole('heading', { name: 'About it' }).waitFor();
      assert.equal(await page.locator('main img, main script, main svg, main iframe').count(), 0);
      if (index === 0) await page.goBack();
    }
    await look(page, `hostile-${name}`);
    assert.deepEqual(problems, [], name);
    await close();
  }
}

// By keyboard alone: filter, open, dry run, replay, and dismiss another one.
const { page, problems, close } = await open({ viewport: { width: 1280, height: 820 } });
async function tabTo(name) {
  for (let i = 0; i < 200; i++) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const active = document.activeElement;
      return active?.labels?.[0]?.firstChild?.textContent ?? active?.textContent ?? '';
    });
    if (at.includes(name)) return;
  }
  assert.fail(`the keyboard does not reach ${name}`);
}
async function filterBy(code) {
  await tabTo('Code');
  await page.keyboard.press('Control+A');
  await page.keyboard.type(code);
  await page.keyboard.press('Enter');
  await page.waitForFunction((query) => location.hash.includes(query), `code=${code}`);
  await page.getByText('1 write, the oldest first').waitFor();
  await tabTo(code);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Decide' }).waitFor();
}
async function decide(button) {
  await tabTo('Your name');
  await page.keyboard.press('Control+A');
  await page.keyboard.type('carol');
  await tabTo('Reason');
  await page.keyboard.type('the table was corrected');
  await tabTo(button);
}
await filterBy('CHECK_VIOLATION');
await decide('Dry run');
await page.keyboard.press('Enter');
await page.getByText('It would be applied:').waitFor();
await look(page, 'applied-1280-light');
await tabTo('Replay');
await page.keyboard.press('Enter');
await page.locator('.badge.replayed').waitFor();
assert.equal(await page.getByRole('heading', { name: 'Decide' }).count(), 0);
await page.keyboard.press('Tab');
await page.keyboard.press('Enter');
await page.locator('.writes li').first().waitFor();
await filterBy('SHORT_NAME');
await decide('Dismiss');
await page.keyboard.press('Enter');
await page.locator('.badge.dismissed').waitFor();
assert.match(await page.locator('.actions').textContent(), /dismissed by carol.*the table was corrected/s);
await look(page, 'done-1280-light');
assert.deepEqual(problems, []);
await close();
await browser.close();
