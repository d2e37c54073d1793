// Two tabs of one browser write at the same time. Then one of them is closed while
// both have written offline, and the other uploads all.
//   shared    the SDK syncs both in one shared worker
//   separate  each tab syncs by itself, as where there are no shared workers
import { openBrowser } from '../browser.mjs';
import { control } from '../control.mjs';

const { POSTERN_URL, CONTROL_URL } = process.env;
const enableMultiTabs = process.argv[2] === 'shared';
const network = control(CONTROL_URL);
const browser = await openBrowser(`
  import { Tab } from './tab.mjs';
  window.open = async (url, options) => {
    window.tab = new Tab(url, 'alice', options);
    tab.connect(); // a tab by itself is connected only when the other one is closed
    await tab.db.waitForFirstSync();
  };
  window.write = (name) => tab.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), name]);
  window.ready = true;`);
const tabs = [await browser.tab(), await browser.tab()];
const [first, second] = tabs;
const each = (run) => Promise.all(tabs.map((tab, i) => tab.evaluate(run, i + 1)));

for (const tab of tabs) {
  await tab.evaluate(([url, options]) => window.open(url, options), [POSTERN_URL, { enableMultiTabs }]);
}
await each(async (number) => {
  for (let i = 1; i <= 20; i++) {
    await window.write(`${i} of tab ${number}`);
  }
  await window.tab.queued(0);
});
const uploads = await first.evaluate(() => window.tab.uploads);

await network('offline');
await each((number) => window.write(`offline of tab ${number}`));
await first.close();
await network('online');
const report = await second.evaluate(async () => {
  await window.tab.queued(0);
  await window.tab.listed(42);
  return window.tab.report();
});
await browser.close();
process.stdout.write(JSON.stringify({ ...report, uploads: [...uploads, ...report.uploads] }));
