// Drives the console's view Coverage: without a folder, without a file, with one, and with
// one of other policies.
import assert from 'node:assert/strict';

import { everyLook, look, quit } from './console-page.mjs';

const title = (page) => page.getByRole('heading', { name: 'Coverage of the policies' });
const expected = process.env.COVERAGE;

await everyLook('#/coverage', title, async (page, name) => {
  const main = page.locator('main');
  if (expected === 'none') {
    await main.getByText('Nobody has written').waitFor();
    await main.getByText(/postern policy test .* --coverage-json .*coverage.json/).waitFor();
    return look(page, `coverage-none-${name}`);
  }
  if (expected === 'builtin') {
    await main.getByText('these are built in').waitFor();
    return look(page, `coverage-builtin-${name}`);
  }
  await main.getByText('The tests have seen 50 %: 4 of 8 results of conditions.').waitFor();
  await main.getByRole('row').filter({ hasText: 'size(data.name) < 9' }).filter({ hasText: 'true 0, false 1' }).filter({ hasText: 'never true' }).first().waitFor();
  assert.equal(await main.getByText('Other policies are in force now').count(), expected === 'outdated' ? 1 : 0);
  await look(page, `coverage-${expected === 'outdated' ? 'outdated-' : ''}${name}`);
});
await quit();
