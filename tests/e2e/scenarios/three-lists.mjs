// Three transactions that build on nothing but their order.
import { randomUUID } from 'node:crypto';

import { Device } from '../device.mjs';

const device = new Device('alice');

for (const name of ['First', 'Second', 'Third']) {
  await device.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', randomUUID(), name]);
}
await device.connect();
await device.uploaded();

await device.finish();
