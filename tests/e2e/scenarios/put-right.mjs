// A transaction is rejected and leaves the queue, and later ones pass. The app
// finds the record in its own database and asks Postern for it; the team puts it
// right, and the row arrives.
import { randomUUID } from 'node:crypto';

import { control } from '../control.mjs';
import { Device } from '../device.mjs';

const [endless, groceries, chores] = Array.from({ length: 3 }, () => randomUUID());
const device = new Device('alice');

await device.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', endless, 'a'.repeat(201)]);
await device.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', groceries, 'Groceries']);
await device.connect();
await device.uploaded();
const notAccepted = await device.db.getAll('SELECT * FROM rejected_writes');

const headers = { Authorization: `Bearer ${await device.developmentToken('alice')}` };
const answer = await fetch(`${process.env.POSTERN_URL}/api/rejected?status=waiting`, { headers });
const { rejected: listed } = await answer.json();

await control(process.env.CONTROL_URL)('put-right');
await device.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', chores, 'Chores']);
await device.uploaded();
const { left } = await device.db.get('SELECT count(*) AS left FROM rejected_writes');

await device.finish({ ids: { endless, groceries, chores }, not_accepted: notAccepted, listed, left });
