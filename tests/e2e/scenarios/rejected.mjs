// Three transactions, the second of which the database does not accept.
import { randomUUID } from 'node:crypto';

import { Device } from '../device.mjs';

const [groceries, beside, endless, milk] = Array.from({ length: 4 }, () => randomUUID());
const device = new Device('alice');

await device.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', groceries, 'Groceries']);
await device.transaction(
  ['INSERT INTO lists (id, name) VALUES (?, ?)', beside, 'Good by itself'],
  ['INSERT INTO lists (id, name) VALUES (?, ?)', endless, 'a'.repeat(201)]
);
await device.transaction(['INSERT INTO todos (id, list_id, description) VALUES (?, ?, ?)', milk, groceries, 'Milk']);
await device.connect();
await device.uploaded();

await device.finish({ ids: { groceries, beside, endless, milk } });
