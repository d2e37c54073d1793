// Bob's device has synced a list of Alice's, and he renames it.
import { Device } from '../device.mjs';

const device = new Device('bob');

await device.connect();
const renamed = await device.db.getAll('SELECT * FROM lists');
await device.transaction(['UPDATE lists SET name = ?', "Bob's now"]);
await device.uploaded();

await device.finish({ renamed });
