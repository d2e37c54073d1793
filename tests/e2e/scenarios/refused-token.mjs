// The provider's cached token is refused until the connector asks for a fresh one.
import { randomUUID } from 'node:crypto';

import { Device } from '../device.mjs';

const groceries = randomUUID();
const asked = [];
const device = new Device('alice', {
  getToken: async ({ fresh }) => {
    asked.push(fresh);
    const token = await device.developmentToken('alice');
    return asked.includes(true) ? token : token.replace(/[^.]*$/, 'c2lnbmF0dXJl'); // another signature
  }
});

await device.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', groceries, 'Groceries']);
await device.connect();
await device.uploaded();

await device.finish({ ids: { groceries }, asked });
