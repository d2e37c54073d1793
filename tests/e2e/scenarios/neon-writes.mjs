// Alice signs up with Neon Auth. Her app has written while it was offline, and the
// token in its cache has expired when it comes back.
import { randomUUID } from 'node:crypto';

import { Device } from '../device.mjs';
import { NeonUser } from '../neon-user.mjs';

const [groceries, milk] = [randomUUID(), randomUUID()];
const alice = await NeonUser.signUp('Alice');
const asked = [];
let cached = await alice.expiredToken();
const device = new Device('alice', {
  getToken: async ({ fresh }) => {
    asked.push(fresh);
    if (fresh) {
      cached = await alice.token();
    }
    return cached;
  }
});

await device.transaction(
  ['INSERT INTO lists (id, name) VALUES (?, ?)', groceries, 'Groceries'],
  ['INSERT INTO todos (id, list_id, description, completed) VALUES (?, ?, ?, ?)', milk, groceries, 'Milk', 0]
);
await device.transaction(['UPDATE todos SET completed = 1 WHERE id = ?', milk]);
await device.connect();
await device.uploaded();

const response = await fetch(`${process.env.POSTERN_URL}/api/credentials`, { headers: { Authorization: `Bearer ${cached}` } });
await device.finish({
  ids: { groceries, milk },
  asked,
  user_id: alice.id,
  token: cached,
  credentials: await response.json()
});
