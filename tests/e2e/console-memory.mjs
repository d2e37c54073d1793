// Turns pages of the console's list, and opens and tries out a write of each. What the
// page holds stays the same. ROUNDS is how often.
import assert from 'node:assert/strict';

import { open, quit } from './console-page.mjs';

const first = (page) => page.locator('.writes li').first().getByRole('link');
const { page, close } = await open('#/rejected', first);
const client = await page.context().newCDPSession(page);
await client.send('Performance.enable');

async function round() {
  const before = await first(page).getAttribute('href');
  await page.getByRole('link', { name: 'Next page' }).click();
  await page.waitForFunction((href) => ![null, href].includes(document.querySelector('.writes a')?.getAttribute('href')), before);
  await first(page).click();
  await page.getByRole('button', { name: 'Dry run' }).click();
  await page.getByText('It would be rejected again.').waitFor();
  await page.goBack();
  await first(page).waitFor();
}

async function memory(rounds) {
  for (let i = 0; i < rounds; i++) await round();
  await client.send('HeapProfiler.collectGarbage');
  const { metrics } = await client.send('Performance.getMetrics');
  return Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
}

const [early, late] = [await memory(5), await memory(Number(process.env.ROUNDS))];
assert.ok(late.Nodes <= early.Nodes * 1.5, `${early.Nodes} nodes became ${late.Nodes}`);
assert.ok(late.JSHeapUsedSize <= early.JSHeapUsedSize * 1.5, `${early.JSHeapUsedSize} bytes became ${late.JSHeapUsedSize}`);
await close();
await quit();
