// Against a real PowerSync Service: one list that is accepted, and one whose name is too
// long. Ends when the accepted list has its owner, whom only the server sets, and the
// rejected one has become a row of rejected_writes.
import { Device } from '../device.mjs';

const device = new Device('alice');
const accepted = crypto.randomUUID();
const insert = 'INSERT INTO lists (id, name) VALUES (?, ?)';
await device.transaction([insert, accepted, 'Groceries']);
await device.transaction([insert, crypto.randomUUID(), 'a'.repeat(201)]);
await device.connect();

const query = `SELECT (SELECT count(*) FROM lists WHERE owner_id IS NOT NULL) AS synced,
                      (SELECT count(*) FROM lists WHERE owner_id IS NULL) AS unsynced,
                      (SELECT count(*) FROM rejected_writes) AS rejected`;
for await (const { rows } of device.db.watch(query, [], { tables: ['lists', 'rejected_writes'], throttleMs: 0 })) {
  const { synced, unsynced, rejected } = rows.item(0);
  if (synced === 1 && unsynced === 0 && rejected === 1) {
    break;
  }
}
await device.finish({
  ids: { accepted },
  not_accepted: await device.db.getAll('SELECT id, status, code FROM rejected_writes')
});
