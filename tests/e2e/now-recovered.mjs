// Drives the console's view Now of a service that was in trouble, and is not any more.
import assert from 'node:assert/strict';

import { everyLook, look, open, quit, still, tabTo, url } from './console-page.mjs';

const title = (page) => page.getByRole('heading', { name: 'Now', exact: true });
const wide = { viewport: { width: 1280, height: 820 } };

await everyLook('', title, async (page, name) => {
  await still(page);
  await page.getByText('None. A device that sends').waitFor();
  await look(page, `now-recovered-${name}`);
});

// Policies that failed to load once, and are in force now.
{
  const { page, close } = await open('', title, wide);
  await still(page);
  await tabTo(page, 'What was wrong then');
  await page.keyboard.press('Enter');
  await page.locator('details pre').filter({ hasText: '<img src=x onerror=alert(1)>' }).waitFor();
  await look(page, 'now-reloaded-1280-light');
  await close();
}

// It refreshes itself every ten seconds of a clock that stands still otherwise, and stops
// when another view is opened.
{
  const { page, close } = await open('', title, wide);
  await page.clock.install({ time: 0 });
  await page.clock.pauseAt(1000);
  await page.reload();
  await title(page).waitFor();
  const asked = [];
  page.on('request', (request) => request.url().endsWith('/api/now') && asked.push(request.url()));
  const refreshed = page.waitForResponse((response) => response.url().endsWith('/api/now'));
  await page.clock.runFor(10_000);
  await refreshed;
  assert.equal(asked.length, 1);
  await page.goto(`${url}#/rejected`);
  await page.getByRole('heading', { name: 'Rejected writes' }).waitFor();
  await page.clock.runFor(60_000);
  assert.equal(asked.length, 1);
  await close();
}
await quit();
