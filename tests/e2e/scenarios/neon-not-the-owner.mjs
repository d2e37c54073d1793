// Bob signs up with Neon Auth. His device has synced a list of Alice's, and he
// renames it.
import { NeonConnector } from '@postern/connector/neon';

import { Device } from '../device.mjs';
import { NeonUser } from '../neon-user.mjs';

const bob = await NeonUser.signUp('Bob');
const device = new Device('bob', { connector: (options) => new NeonConnector({ ...options, auth: bob.client }) });

await device.connect();
await device.uploaded(); // by Alice's device
const renamed = await device.db.getAll('SELECT * FROM lists');
await device.transaction(['UPDATE lists SET name = ?', "Bob's now"]);
await device.uploaded();

await device.finish({ renamed, user_id: bob.id });
