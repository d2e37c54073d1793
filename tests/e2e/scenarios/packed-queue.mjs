// How many bytes a thousand queued transactions are, as JSON and as they are sent. The
// server is a function.
import { Device } from '../device.mjs';

const token = `e30.${Buffer.from(JSON.stringify({ sub: crypto.randomUUID() })).toString('base64url')}.`;
let bytes;
const device = new Device('alice', {
  url: 'https://postern.example.com',
  getToken: async () => token,
  async fetch(_, { body }) {
    const json = new Blob([body]).stream().pipeThrough(new DecompressionStream('gzip'));
    const text = await new Response(json).text();
    bytes.json += text.length;
    bytes.sent += body.byteLength;
    return Response.json({ results: JSON.parse(text).transactions.map(() => ({ status: 'success' })) });
  }
});

async function upload() {
  bytes = { json: 0, sent: 0 };
  while (await device.db.getNextCrudTransaction()) {
    await device.connector.uploadData();
  }
  return bytes;
}

for (let i = 1; i <= 1000; i++) {
  await device.transaction(['INSERT INTO lists (id, name) VALUES (uuid(), ?)', `List ${i}`]);
}
const inserts = await upload();

await device.transaction([`
  INSERT INTO todos (id, list_id, description, completed, created_at, created_by)
  SELECT uuid(), (SELECT min(id) FROM lists), 'Buy milk for ' || name, 0, strftime('%FT%TZ', row_number() OVER () * 61234, 'unixepoch'), 'alice'
  FROM lists`]);
await upload();
for (const { id } of await device.db.getAll('SELECT id FROM todos')) {
  await device.transaction([`UPDATE todos SET completed = 1, completed_at = strftime('%FT%TZ') WHERE id = ?`, id]);
}
const updates = await upload();
await device.db.close();
process.stdout.write(JSON.stringify({ inserts, updates }));
