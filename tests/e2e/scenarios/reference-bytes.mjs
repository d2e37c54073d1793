// Prints what our connector of the reference connector's shape sends for the two local
// transactions of tests/fixtures/sdks, for the row in ROW.
import { column, PowerSyncDatabase, Schema, Table } from '@powersync/node';

import { logger } from '../app.mjs';
import { ReferenceConnector } from '../reference-connector.mjs';

const { text, integer, real } = column;
const db = new PowerSyncDatabase({
  schema: new Schema({
    things: new Table({ title: text, n: integer, done: integer, price: real, ratio: real, at: text, extra: text, tags: text, note: integer })
  }),
  database: { dbFilename: 'things.db', dbLocation: process.env.DEVICE_FOLDER, readWorkerCount: 1, implementation: { type: 'node:sqlite' } },
  logger
});
await db.execute(
  `INSERT INTO things (id, title, n, done, price, ratio, at, extra, tags, note)
   VALUES (?, 'It’s a/b', 42, 1, 2.0, 0.5, '2026-11-23T15:50:30.960Z', '{"a":[1,2]}', '["a","b"]', 7)`,
  [process.env.ROW]
);
await db.execute('UPDATE things SET done = 0, note = NULL WHERE id = ?', [process.env.ROW]);

const bodies = [];
const connector = new ReferenceConnector({
  url: '',
  getToken: async () => '',
  fetch: async (_, { body }) => {
    bodies.push(body);
    return Response.json({ results: [{ status: 'success' }] });
  }
});
while (await db.getNextCrudTransaction()) {
  await connector.uploadData(db);
}
await db.close();
process.stdout.write(JSON.stringify(bodies));
