// A thousand transactions are queued before the device is online.
export default async function ({ open }) {
  const app = open('alice');
  for (let i = 1; i <= 1000; i++) {
    await app.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), `List ${i}`]);
  }
  await app.connect();
  await app.uploaded();
  return { app };
}
