// What the write API takes and answers: service/openapi.yaml.
import type { CrudEntry, CrudTransaction, UpdateType } from '@powersync/common';

/** An operation that an app sends in place of a queued one, in the SDK's spelling. */
export interface Operation extends Pick<CrudEntry, 'table' | 'id' | 'opData' | 'previousValues' | 'metadata'> {
  op: `${UpdateType}`;
}

/** A transaction that can never be applied as it is. */
export interface FatalError {
  status: 'fatal_error';
  /** A sentence for the user about their write. */
  message: string;
  /** true: the app decides whether the transaction leaves the queue. */
  requires_client_handling: boolean;
  failed_operation: {
    error_code: string;
    message: string;
    details?: Record<string, unknown>;
    /** The index in crud of the operation that caused the error; absent if no single one did. */
    operation_index?: number;
  };
}

export interface RetryableError {
  status: 'retryable_error';
  message: string;
  retry_after_ms: number;
}

export type Result = { status: 'success' } | RetryableError | FatalError | { status: 'not_attempted' };

/** A rejected write, as GET /api/rejected lists it, in part. */
export interface RejectedWrite {
  id: string;
  client_id?: string;
  transaction_id?: number;
}

/** What GET /api/credentials answers. */
export interface Credentials {
  endpoint: string;
  token: string;
  expires_at: string;
  user_id: string;
}

/** What is sent of a transaction: one of the queue, or what the app sends in its place. */
export interface Sendable {
  transactionId?: number | undefined;
  crud: readonly (Operation & Partial<Pick<CrudEntry, 'clientId'>>)[];
}

/** Returns the transaction with other operations, under the same ids. */
export function replaced(transaction: CrudTransaction, operations: readonly Operation[]): Sendable {
  const ids = transaction.crud.map((entry) => entry.clientId);
  const crud = operations.map((operation, i) => ({ ...operation, ...(ids[i] !== undefined && { clientId: ids[i] }) }));
  return { transactionId: transaction.transactionId, crud };
}

/** The form of a transaction in the body of POST /api/data. */
export function toWire({ transactionId, crud }: Sendable): unknown {
  return {
    transaction_id: transactionId,
    crud: crud.map((entry) => ({
      op_id: entry.clientId, // the SDK's name for the operation's number in the queue
      op: entry.op,
      table: entry.table,
      id: entry.id,
      op_data: entry.opData,
      previous_values: entry.previousValues,
      metadata: entry.metadata
    }))
  };
}
