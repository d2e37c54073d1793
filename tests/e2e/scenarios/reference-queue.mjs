// A thousand transactions are queued before the device is online. Its connector is of the
// shape of PowerSync's reference connector:
//   node reference-queue.mjs TRANSACTIONS-IN-A-REQUEST
import { Device } from '../device.mjs';
import { ReferenceConnector } from '../reference-connector.mjs';

const transactions = Number(process.argv[2]);
const device = new Device('alice', { connector: (options) => new ReferenceConnector({ ...options, transactions }) });
for (let i = 1; i <= 1000; i++) {
  await device.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), `List ${i}`]);
}
await device.connect();
await device.uploaded();
await device.finish();
