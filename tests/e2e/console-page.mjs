// What the tests of the console's views share. CONSOLE_URL is its address, CHROMIUM the
// browser, and SCREENSHOTS a folder for pictures, if they are wanted. With ONE_LOOK=true, each
// view is seen wide and light alone: the others do not depend on the database.
import assert from 'node:assert/strict';
import { join } from 'node:path';

import { AxeBuilder } from '@axe-core/playwright';
import { chromium } from 'playwright-core';

const { CONSOLE_URL, CHROMIUM: executablePath, SCREENSHOTS: pictures, ONE_LOOK } = process.env;
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });

export const url = CONSOLE_URL;
export const quit = () => browser.close();

// A failure says what the open pages and their frames showed.
process.on('uncaughtException', async (error) => {
  console.error(error);
  for (const frame of browser.contexts().flatMap((context) => context.pages()).flatMap((page) => page.frames())) {
    const shown = frame.evaluate(() => [location.href, `focus: ${document.activeElement.outerHTML.slice(0, 200)}`, document.body.innerText].join('\n'));
    console.error(await shown.catch(String));
  }
  process.exit(1);
});

/** A token, or a database's password. */
const secret = /eyJ[\w-]{10,}\.eyJ|postgres(ql)?:\/\/[^ ]*:[^ ]*@/;

/**
 * Opens a view, and waits for what it shows at first. Closing it fails on any error,
 * dialog, request to another host, or answer with a secret; expected are parts of errors
 * that belong to the test.
 */
export async function open(view, shown, options, expected = []) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(120_000); // of waits for what comes soon, unless the machine is busy
  const problems = [];
  page.on('pageerror', (error) => problems.push(`error: ${error}`));
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  page.on('dialog', (dialog) => (problems.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on('request', (request) => new URL(request.url()).origin === new URL(url).origin || problems.push(`calls ${request.url()}`));
  const answers = [];
  page.on('response', (response) => response.url().startsWith(`${url}api/`) && answers.push(response.text()
    .then((text) => secret.test(text) && problems.push(`${response.url()} has a token or a password`), () => {}))); // it was given up
  await page.goto(url + view);
  await shown(page).waitFor();
  return {
    page,
    close: async () => {
      await Promise.all(answers);
      assert.deepEqual(problems.filter((text) => !expected.some((part) => text.includes(part))), []);
      await context.close();
    }
  };
}

/** Keeps a page from refreshing itself, because a slow look would see it change. */
export const still = (page) => page.evaluate(() => {
  for (let id = setInterval(() => {}, 1_000_000); id > 0; id--) clearInterval(id);
});

const [sizes, colorSchemes] = ONE_LOOK === 'true' ? [[[1280, 820]], ['light']] : [[[1280, 820], [390, 780]], ['light', 'dark']];

/** Opens a view wide and narrow, light and dark. */
export async function everyLook(view, shown, work, expected) {
  for (const [width, height] of sizes) {
    for (const colorScheme of colorSchemes) {
      const { page, close } = await open(view, shown, { viewport: { width, height }, colorScheme }, expected);
      await work(page, `${width}-${colorScheme}`);
      await close();
    }
  }
}

/**
 * Fails if axe finds something serious, the page is wider than the window, it shows a
 * token or a database's password, or it has markup that a client chose. In one look of
 * four, the keyboard must reach everything, and the focus is on main then.
 */
export async function look(page, name) {
  await page.waitForFunction(() => !document.querySelector('main[aria-busy], form[aria-busy]')); // they are pale until they are drawn
  for (const frame of page.frames()) {
    const typed = await frame.locator('input, textarea').evaluateAll((fields) => fields.map(({ value }) => value));
    assert.doesNotMatch([await frame.content(), ...typed].join('\n'), secret, `${name} shows a token or a password`);
    assert.equal(await frame.locator('main :is(img, script, b, em, style)').count(), 0, `${name} has markup of a client`);
  }
  const { violations } = await new AxeBuilder({ page }).analyze();
  const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  assert.deepEqual(serious.map(({ id, nodes }) => [id, ...nodes.map(({ target }) => target.join(' '))]), [], name);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0, `${name} is wider than the window`);
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`) });
  if (name.endsWith('1280-light')) await tabThrough(page);
}

/** Presses Tab, and returns the label or text of what has the focus then, which must be visible. */
async function tab(page) {
  await page.keyboard.press('Tab');
  const { at, isVisible } = await page.evaluate(() => {
    let active = document.activeElement;
    while (active.contentDocument) active = active.contentDocument.activeElement; // in a frame
    active.reached = true;
    if (active.matches('body')) return { at: '', isVisible: true };
    const label = active.labels?.[0];
    return {
      at: label?.firstChild.textContent || active.getAttribute('aria-label') || label?.textContent || active.textContent || '',
      isVisible: parseFloat(getComputedStyle(active).outlineWidth) > 0 && getComputedStyle(active).outlineStyle !== 'none'
    };
  });
  assert.ok(isVisible, `the focus is not visible on ${at}`);
  return at;
}

/** Presses Tab until what has the focus has this label or text, as a part or as a pattern. */
export async function tabTo(page, name) {
  for (let i = 0; i < 300; i++) {
    const at = await tab(page);
    if (typeof name === 'string' ? at.includes(name) : name.test(at)) return;
  }
  assert.fail(`the keyboard does not reach ${name}`);
}

/** Presses Tab until everything that can be used has had the focus. */
async function tabThrough(page) {
  const missed = () => page.evaluate(() => [document, ...[...document.querySelectorAll('iframe')].map((frame) => frame.contentDocument)]
    .flatMap((of) => [...of.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')])
    .filter((e) => !e.disabled && !e.reached && e.checkVisibility()).map((e) => e.outerHTML.slice(0, 200)));
  for (let i = 0, left = await missed(); left.length > 0; i++, left = await missed()) {
    assert.ok(i < 10, `the keyboard does not reach ${left}`);
    for (const _ of left) await tab(page);
  }
  await page.evaluate(() => document.getElementById('main').focus());
}
