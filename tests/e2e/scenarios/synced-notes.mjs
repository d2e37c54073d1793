// What a device of the guides' user receives from the PowerSync Service, once it has a note
// and a rejected write. TOKEN is the user's.
import { column, PowerSyncDatabase, Schema, Table } from '@powersync/node';

const headers = { Authorization: `Bearer ${process.env.TOKEN}` };
const connector = {
  async fetchCredentials() {
    const { endpoint, token } = await (await fetch(`${process.env.POSTERN_URL}/api/credentials`, { headers })).json();
    return { endpoint, token };
  },
  async uploadData() {} // the guide has written with curl
};
const db = new PowerSyncDatabase({
  schema: new Schema({
    notes: new Table({ title: column.text, owner_id: column.text }),
    rejected_writes: new Table({ status: column.text, code: column.text })
  }),
  database: { dbFilename: 'notes.db', dbLocation: process.env.DEVICE_FOLDER, readWorkerCount: 1, implementation: { type: 'node:sqlite' } }
});
await db.connect(connector, { retryDelayMs: 100 });
const query = 'SELECT (SELECT count(*) FROM notes) AS notes, (SELECT count(*) FROM rejected_writes) AS rejected';
for await (const { rows } of db.watch(query, [], { tables: ['notes', 'rejected_writes'], throttleMs: 0 })) {
  const { notes, rejected } = rows.item(0);
  if (notes > 0 && rejected > 0) {
    break;
  }
}
const report = {
  notes: await db.getAll('SELECT title, owner_id FROM notes'),
  not_accepted: await db.getAll('SELECT id, status, code FROM rejected_writes')
};
await db.close();
process.stdout.write(JSON.stringify(report));
