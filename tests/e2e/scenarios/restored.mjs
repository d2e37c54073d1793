// A device's database is restored from a backup, in which its first write is still
// queued. What it writes next has the numbers that another write had.
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';

import { Device } from '../device.mjs';

const insert = (name) => ['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), name];
const copy = async (from, to) => {
  for (const part of ['db', 'db-wal', 'db-shm']) {
    await copyFile(join(process.env.DEVICE_FOLDER, `${from}.${part}`), join(process.env.DEVICE_FOLDER, `${to}.${part}`));
  }
};

const before = new Device('alice');
await before.connect();
await before.db.disconnect();
await before.transaction(insert('First'));
await before.db.close();
await copy('alice', 'backup');

const device = new Device('alice');
await device.connect();
await device.uploaded();
await device.transaction(insert('Second'));
await device.uploaded();
await device.db.close();

await copy('backup', 'alice');
const restored = new Device('alice');
await restored.transaction(insert('Third'));
await restored.connect();
await restored.uploaded();
restored.uploads.unshift(...device.uploads);
await restored.finish();
