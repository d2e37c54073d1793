// Alice signs out with a write queued, and Bob signs in on the device and writes. Then
// she comes back, and then he does.
export default async function ({ open, control }) {
  const asked = [];
  let told = () => {};
  const app = open('alice', {
    onOtherUser(users) {
      asked.push(users);
      told();
      return 'keep';
    }
  });
  const signIn = async (user) => {
    app.connector.abort();
    await app.db.disconnect();
    app.user = user;
    const kept = new Promise((resolve) => (told = resolve));
    await app.connect();
    return { kept }; // settles when the app has been asked about another's writes
  };
  await app.connect();
  await control('offline');
  await app.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), "Alice's"]);
  await app.uploadFailed();
  await control('online');

  await (await signIn('bob')).kept;
  await app.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), "Bob's"]);
  await control('nothing-is-there');
  await (await signIn('alice')).kept; // for Bob's now
  await control('hers-is-there');
  await signIn('bob');
  await app.uploaded();
  return { app, other_users: asked };
}
