// Every kind of write, most of them made before the device is ever online.
import { randomUUID } from 'node:crypto';

import { Device } from '../device.mjs';

const [groceries, milk, bread, chores] = Array.from({ length: 4 }, () => randomUUID());
const device = new Device('alice');

// Several operations in one transaction.
await device.transaction(
  ['INSERT INTO lists (id, name) VALUES (?, ?)', groceries, 'Groceries'],
  [
    'INSERT INTO todos (id, list_id, description, completed, completed_at) VALUES (?, ?, ?, ?, ?)',
    milk, groceries, 'Milk', 1, '2026-11-23T15:50:30.960Z'
  ],
  ['INSERT INTO todos (id, list_id, description, completed) VALUES (?, ?, ?, ?)', bread, groceries, 'Bread', 0]
);
await device.transaction(['UPDATE lists SET name = ?, _metadata = ? WHERE id = ?', 'Food', 'renamed on the phone', groceries]);
await device.transaction(['UPDATE todos SET completed = 0, completed_at = NULL WHERE id = ?', milk]);
await device.transaction(['DELETE FROM todos WHERE id = ?', bread]);
await device.connect();
await device.uploaded();

// And one more while it is.
await device.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', chores, 'Chores']);
await device.uploaded();

await device.finish({ ids: { groceries, milk, bread, chores } });
