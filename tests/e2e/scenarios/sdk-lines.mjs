// A connector of the shape of PowerSync's reference connector for JavaScript, one
// transaction a request, with the lines that service/upload/SDKS.md adds to it.
import { randomUUID } from 'node:crypto';

import { Device } from '../device.mjs';
import { ReferenceConnector } from '../reference-connector.mjs';

class Connector extends ReferenceConnector {
  async fetchCredentials() {
    const response = await this.fetch(`${this.url}/api/credentials`, { method: 'GET', headers: await this.authorization() });
    return response.json();
  }

  async authorization() {
    return { Authorization: `Bearer ${await this.getToken()}` };
  }

  async uploadData(database) {
    const transaction = await database.getNextCrudTransaction();
    if (!transaction) return;
    const response = await this.fetch(`${this.url}/api/data`, {
      method: 'POST',
      headers: { ...(await this.authorization()), 'content-type': 'application/json' },
      body: JSON.stringify({
        client_id: await database.getClientId(),
        transactions: [
          {
            transaction_id: transaction.transactionId,
            crud: transaction.crud.map((op) => ({
              id: op.id,
              op: op.op,
              table: op.table,
              transaction_id: op.transactionId,
              op_data: op.opData,
              op_id: op.clientId,
              previous_values: op.previousValues,
              metadata: op.metadata
            }))
          }
        ]
      })
    });
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    const [result] = (await response.json()).results;
    if (result.status !== 'success') throw new Error(result.message);
    await transaction.complete();
  }
}

const device = new Device('alice', { connector: (options) => new Connector(options) });
const [list, todo] = [randomUUID(), randomUUID()];
await device.transaction(
  ['INSERT INTO lists (id, name, _metadata) VALUES (?, ?, ?)', list, 'Groceries', 'made on the phone'],
  ['INSERT INTO todos (id, list_id, description, completed) VALUES (?, ?, ?, 0)', todo, list, 'Milk']
);
await device.transaction(['UPDATE todos SET completed = 1 WHERE id = ?', todo]);
await device.connect();
await device.uploaded();

await device.finish();
