// Runs a guide's app, and then has it sign out:
//   node guide-app.mjs FILE
// The app's database must have a note of alice's and a rejected write already.
import { readFile } from 'node:fs/promises';

import { openBrowser } from './browser.mjs';

const app = await readFile(process.argv[2], 'utf8');
const browser = await openBrowser(`
  let rejected = [];
  let changed;
  const toasts = [];
  const showToast = (message) => (toasts.push(message), changed?.());
  const showRejected = (writes) => ((rejected = writes), changed?.());
  ${app}
  window.run = async () => {
    const notes = () => db.getAll('SELECT title, owner_id FROM notes ORDER BY title');
    await new Promise((arrived) => {
      changed = async () => {
        const all = await notes();
        if (toasts.length > 0 && rejected.length === 2 && all.length === 2 && all.every((note) => note.owner_id)) arrived();
      };
      db.watch('SELECT * FROM notes', [], { onResult: changed });
    });
    const seen = { notes: await notes(), rejected: rejected.map(({ code }) => code), toasts };
    await signOut();
    return {
      ...seen,
      left: (await db.getAll('SELECT id FROM ps_crud UNION ALL SELECT id FROM notes')).length,
      signed_in: (await connector.fetchCredentials()) !== null
    };
  };
  window.ready = true;`);
const tab = await browser.tab();
process.stdout.write(JSON.stringify(await tab.evaluate(() => window.run())));
await browser.close();
