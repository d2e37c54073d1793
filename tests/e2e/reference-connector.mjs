// Sends what PowerSync's reference connectors send by default: one transaction a
// request, without the device's id, operations' numbers, previous values or metadata.
export class ReferenceConnector {
  constructor({ url, getToken, fetch }) {
    Object.assign(this, { url, getToken, fetch });
  }

  async fetchCredentials() {
    return { endpoint: this.url, token: await this.getToken() };
  }

  async uploadData(database) {
    const transaction = await database.getNextCrudTransaction();
    const { transactionId: transaction_id } = transaction;
    const crud = transaction.crud.map(({ id, op, table, opData }) => ({ id, op, table, transaction_id, op_data: opData }));
    const response = await this.fetch(`${this.url}/api/data`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', Authorization: `Bearer ${await this.getToken()}` },
      body: JSON.stringify({ transactions: [{ crud, transaction_id }] })
    });
    const { results: [{ status }] } = await response.json();
    if (status !== 'success') {
      throw new Error(status);
    }
    await transaction.complete();
  }
}
