// Drives the console's devices and their tour, with the real client and with the
// simulation.
import assert from 'node:assert/strict';

import { everyLook, look, open, quit, tabTo } from './console-page.mjs';

const title = (page) => page.getByRole('heading', { name: 'Devices' });
const phone = (page, index) => page.frameLocator('iframe').nth(index);
const ready = async (page) => {
  for (const index of [0, 1]) await phone(page, index).locator('body[data-ready]').waitFor();
};

const clients = [['#/devices', 'The real @powersync/web', 'real'], ['#/devices?simulated', 'A simulation of a PowerSync client', 'simulated']];

for (const [view, kind, short] of clients) {
  await everyLook(view, title, async (page, name) => {
    await ready(page);
    for (const index of [0, 1]) await phone(page, index).getByText(kind).waitFor();
    await look(page, `devices-${short}-${name}`);
  });
}

// The tour and the phones, by keyboard alone.
for (const [view, kind, short] of clients) {
  const { page, close } = await open(view, title, { viewport: { width: 1280, height: 1000 } }, ['ERR_ABORTED', '409']);
  await ready(page);
  const [a, b] = [phone(page, 0), phone(page, 1)];
  await a.getByText(kind).waitFor();
  const step = async (name) => {
    await tabTo(page, name);
    await page.keyboard.press('Enter');
    await page.locator('.tour button:not(:disabled)').nth(4).waitFor(); // the phones have done it
    assert.ok((await page.evaluate(() => document.activeElement.textContent)).includes(name), 'the focus stays');
  };
  const list = (of, name) => of.getByLabel(`Name of list ${name}`, { exact: true });
  const answers = (of, text) => of.locator('#answers li').filter({ hasText: text });
  const stored = (name) => page.getByRole('cell', { name, exact: true });
  const before = await page.locator('main tbody tr').count();

  await step('1. Write');
  await stored('Groceries').waitFor();
  await list(b, 'Groceries').waitFor();

  await step('2. Resend after a lost answer');
  await answers(a, 'The answer was lost').waitFor();
  await list(b, 'Once only').waitFor();
  await answers(a, 'success').nth(1).waitFor();
  assert.equal(await stored('Once only').count(), 1);

  await step('3. Break a rule');
  await answers(a, 'fatal_error').waitFor();
  await list(a, 'x'.repeat(201)).waitFor({ state: 'detached' });

  await step('4. Edit one row from both');
  await answers(b, 'success').first().waitFor();
  await stored('Named by A').nth(before + 1).waitFor();
  await list(b, 'Named by A').nth(before + 1).waitFor();

  await step('5. Sign in as someone else');
  await b.getByText('The queued writes are of another user').waitFor();
  await look(page, `devices-tour-${short}-1280-light`);
  assert.equal(await stored('Of alice').count(), 0);
  await tabTo(page, 'Discard the queue');
  if (short === 'real') { // it tries again and again
    for (const _ of [1, 2]) await page.waitForResponse((response) => response.url().endsWith('/dev/token?user=bob'));
  }
  assert.equal(await b.locator(':focus').textContent(), 'Discard the queue', 'the focus stays');
  await page.keyboard.press('Enter');
  await b.getByText('none').waitFor();
  await b.getByText('empty').waitFor();
  assert.equal(await stored('Of alice').count(), 0);

  // What a client chooses is text: in the queue, on the phone, in Postgres.
  const hostile = '<img src=x onerror=alert(1)>';
  await page.evaluate(() => document.getElementById('main').focus()); // the focus is in phone B
  await tabTo(page, 'online');
  await page.keyboard.press('Space');
  await tabTo(page, 'New list');
  await page.keyboard.type(hostile);
  await page.keyboard.press('Enter');
  await a.locator('#queue li').filter({ hasText: hostile }).waitFor();
  await page.evaluate(() => document.getElementById('main').focus());
  await tabTo(page, 'online');
  await page.keyboard.press('Space');
  await stored(hostile).waitFor();
  await list(a, hostile).waitFor();
  await a.getByText('empty').waitFor();
  await look(page, `devices-hostile-${short}-1280-light`);
  await tabTo(page, `Name of list ${hostile}`);
  await page.keyboard.press('Control+A');
  await page.keyboard.type('Renamed');
  await page.keyboard.press('Enter');
  await stored('Renamed').waitFor();
  await list(a, 'Renamed').waitFor();
  await tabTo(page, 'Delete list Renamed');
  await page.keyboard.press('Enter');
  await stored('Renamed').waitFor({ state: 'detached' });
  await list(a, 'Renamed').waitFor({ state: 'detached' });
  await close();
}
await quit();
