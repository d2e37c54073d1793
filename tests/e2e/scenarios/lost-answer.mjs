// Postern applies an upload, and its answer is lost on the way back.
import { randomUUID } from 'node:crypto';

import { Device } from '../device.mjs';

const groceries = randomUUID();
const device = new Device('alice', {
  network: (send) => {
    let lost = false;
    return async (resource, init) => {
      const response = await send(resource, init);
      if (init.method === 'POST' && response.ok && !lost) {
        lost = true;
        throw new TypeError('the connection was lost');
      }
      return response;
    };
  }
});

await device.transaction(
  ['INSERT INTO lists (id, name) VALUES (?, ?)', groceries, 'Groceries'],
  ['UPDATE lists SET name = ? WHERE id = ?', 'Food', groceries]
);
await device.connect();
await device.uploaded();

await device.finish({ ids: { groceries } });
