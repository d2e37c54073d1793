// A tab is suspended while it waits for the answer to an upload, which Postern has
// applied. Meanwhile its connections break.
import { openBrowser } from '../browser.mjs';
import { control } from '../control.mjs';

const { POSTERN_URL, CONTROL_URL } = process.env;
const network = control(CONTROL_URL);
const browser = await openBrowser(`
  import { Tab } from './tab.mjs';
  window.open = async (url) => {
    window.tab = new Tab(url, 'alice');
    await tab.connect();
  };
  window.write = (name) => tab.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), name]);
  window.ready = true;`);
const tab = await browser.tab();
const devTools = await tab.context().newCDPSession(tab);
const setState = (state) => devTools.send('Page.setWebLifecycleState', { state });

await tab.evaluate((url) => window.open(url), POSTERN_URL);
await network('hold-answers');
await tab.evaluate(() => window.write('Groceries'));
await network('await-held-answer');
await setState('frozen');
await network('offline');
await network('online');
await setState('active');
const report = await tab.evaluate(async () => {
  await window.write('Chores');
  await window.tab.queued(0);
  await window.tab.listed(2);
  return window.tab.report();
});
await browser.close();
process.stdout.write(JSON.stringify(report));
