// Alice signs out with a write queued. Bob signs in on the device, and gives it up.
export default async function ({ open, control }) {
  const asked = [];
  const app = open('alice', {
    onOtherUser(users) {
      asked.push(users);
      return 'discard';
    }
  });
  await app.connect();
  await control('offline');
  await app.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), "Alice's"]);
  await app.uploadFailed();
  app.connector.abort();
  await app.db.disconnect();
  await control('online');

  app.user = 'bob';
  await app.connector.noteUser();
  await app.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), "Bob's"]);
  await app.connect();
  await app.uploaded();
  return { app, other_users: asked };
}
