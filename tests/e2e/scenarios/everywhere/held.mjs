// The server leaves a transaction to the app, which first keeps it and then edits it.
export default async function ({ open }) {
  const asked = [];
  const app = open('alice', {
    onHeld({ transactionId, crud }, { failed_operation: { error_code, operation_index } }) {
      asked.push({ transaction_id: transactionId, code: error_code });
      if (asked.length === 1) {
        return 'retain';
      }
      return { replace: crud.map((entry, i) => (i === operation_index ? { ...entry, opData: { name: 'Shorter' } } : entry)) };
    }
  });
  for (const name of ['First', 'A name that is too long for a list', 'Third']) {
    await app.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), name]);
  }
  await app.connect();
  await app.uploaded();
  return { app, held: asked };
}
