import type { CommonPowerSyncDatabase, CrudTransaction } from '@powersync/common';

const MAX_TRANSACTIONS = 50; // the write API's bound for one request
const MAX_OPERATIONS = 1000; // a batch is closed before it exceeds this; a transaction is never split

// Hermes may have no Symbol.asyncIterator. Then the SDK uses this one, too.
const asyncIterator: typeof Symbol.asyncIterator = Symbol.asyncIterator ?? Symbol.for('Symbol.asyncIterator');

/** As much of the SDK's database as the connector uses. */
export type Database = Pick<
  CommonPowerSyncDatabase,
  'getClientId' | 'getNextCrudTransaction' | 'getCrudTransactions' | 'execute' | 'getOptional' | 'writeTransaction'
>;

/** The number of a transaction's first operation in the queue. */
export function firstOperation(transaction: CrudTransaction): number {
  return transaction.crud[0]!.clientId;
}

/**
 * Passes the queue's transactions to take, the oldest first, while their operations are
 * before that number, and until take returns false. It does not use for await, which
 * React Native's compiler does not know everywhere.
 */
export async function visit(database: Database, until: number | null, take: (next: CrudTransaction) => boolean): Promise<void> {
  const transactions = database.getCrudTransactions()[asyncIterator]();
  for (;;) {
    const { done, value } = await transactions.next();
    if (done || (until !== null && firstOperation(value) >= until) || !take(value)) {
      return;
    }
  }
}

/** Returns the oldest whole transactions before that operation, at least one if there is any. */
export async function nextBatch(database: Database, until: number | null): Promise<CrudTransaction[]> {
  const batch: CrudTransaction[] = [];
  let operations = 0;
  await visit(database, until, (transaction) => {
    operations += transaction.crud.length;
    if (batch.length > 0 && operations > MAX_OPERATIONS) {
      return false;
    }
    batch.push(transaction);
    return batch.length < MAX_TRANSACTIONS;
  });
  return batch;
}
