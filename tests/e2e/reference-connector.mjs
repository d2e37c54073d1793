// Sends what PowerSync's reference connector sends, byte for byte: by default one
// transaction a request, without the device's id, operations' numbers, previous values or
// metadata. PowerSync's own is not on npm.
export class ReferenceConnector {
  constructor({ url, getToken, fetch, transactions = 1 }) {
    Object.assign(this, { url, getToken, fetch, transactions });
  }

  async fetchCredentials() {
    return { endpoint: this.url, token: await this.getToken() };
  }

  async uploadData(database) {
    const batch = [];
    for await (const transaction of database.getCrudTransactions()) {
      batch.push(transaction);
      if (batch.length === this.transactions) {
        break;
      }
    }
    if (batch.length === 0) {
      return;
    }
    const transactions = batch.map(({ crud, transactionId: transaction_id }) => ({
      crud: crud.map(({ id, op, table, opData }) => ({ id, op, table, transaction_id, op_data: opData })),
      transaction_id
    }));
    const response = await this.fetch(`${this.url}/api/data`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', Authorization: `Bearer ${await this.getToken()}` },
      body: JSON.stringify({ transactions })
    });
    for (const { status } of (await response.json()).results) {
      if (status !== 'success') {
        throw new Error(status);
      }
    }
    await batch.at(-1).complete();
  }
}
