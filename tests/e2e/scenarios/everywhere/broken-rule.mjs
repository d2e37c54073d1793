// A rule cannot be evaluated for the second of three transactions, until the team
// corrects it.
export default async function ({ open, control }) {
  const app = open('alice');
  for (const name of ['First', 'Second', 'Third']) {
    await app.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), name]);
  }
  await app.db.connect(app.connector, { retryDelayMs: 100, crudUploadThrottleMs: 10 });
  await app.queued(2);
  await app.uploadFailed();
  await control('correct-the-rule');
  await app.uploaded();
  return { app };
}
