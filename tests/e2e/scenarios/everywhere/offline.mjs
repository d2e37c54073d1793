// A device goes offline, is used there, and comes back.
export default async function ({ open, control }) {
  const app = open('alice');
  const [groceries, chores] = [crypto.randomUUID(), crypto.randomUUID()];
  await app.connect();
  await app.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', groceries, 'Groceries']);
  await app.uploaded();

  await control('offline');
  await app.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', chores, 'Chores']);
  await app.transaction(
    ['UPDATE lists SET name = ? WHERE id = ?', 'Food', groceries],
    ['INSERT INTO todos (id, list_id, description) VALUES (?, ?, ?)', crypto.randomUUID(), groceries, 'Milk']
  );
  await app.uploadFailed();
  await app.transaction(['DELETE FROM lists WHERE id = ?', chores]);

  await control('online');
  await app.uploaded();
  return { app, ids: { groceries, chores } };
}
