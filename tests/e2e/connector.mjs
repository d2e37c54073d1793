// The connector between a PowerSync database and Postern. Copy it into your app.
// It has no dependencies, and needs a runtime with fetch and AbortController.
//
//   await db.connect(new PosternConnector({
//     url: 'https://postern.example.com',
//     getToken: async ({ fresh }) => the access token of your auth provider
//   }));

const MAX_TRANSACTIONS = 50; // the write API's bound for one request
const MAX_OPERATIONS = 1000; // a batch is closed before it exceeds this; a transaction is never split
const TIMEOUT_MS = 30_000;

/** Postern refused a request as a whole; nothing of it was tried. */
export class PosternError extends Error {
  /**
   * @param {number} status the HTTP status
   * @param {string} message
   */
  constructor(status, message) {
    super(`Postern answered ${status}: ${message}`);
    this.name = 'PosternError';
    this.status = status;
  }
}

/**
 * Implements PowerSync's PowerSyncBackendConnector with Postern's write API.
 *
 * Override onRejected and onFatalTransaction to tell the user what became of a
 * write, and to decide about those the server leaves to the app.
 */
export class PosternConnector {
  #url;
  #getToken;
  #fetch;
  #tokenRefused = false;
  #notBefore = 0; // when the server wants to be asked again, in Date.now()'s milliseconds

  /**
   * @param {object} options
   * @param {string} options.url Postern's address
   * @param {(hint: {fresh: boolean}) => Promise<string | null>} options.getToken
   *   The auth provider's access token for the user who is signed in; null when
   *   nobody is. It is asked before each request, and nothing is cached here, so
   *   that no write goes out under the user who was signed in before. fresh is true
   *   after a token was refused: then get a new one rather than your provider's
   *   cached one.
   * @param {typeof fetch} [options.fetch]
   */
  constructor({ url, getToken, fetch = (...request) => globalThis.fetch(...request) }) {
    this.#url = url.replace(/\/+$/, '');
    this.#getToken = getToken;
    this.#fetch = fetch;
  }

  /**
   * Called by the SDK to reach the PowerSync Service: null means signed out, an
   * error that it should try later.
   */
  async fetchCredentials() {
    const token = await this.#token();
    if (!token) {
      return null;
    }
    const credentials = await this.#request('GET', '/api/credentials', token);
    return {
      endpoint: credentials.endpoint,
      token: credentials.token,
      expiresAt: new Date(credentials.expires_at)
    };
  }

  /**
   * Called by the SDK while writes are queued. Sends one batch; an error keeps the
   * rest of the queue, and the SDK calls again after its retryDelayMs.
   *
   * @param {import('@powersync/common').CommonPowerSyncDatabase} database
   */
  async uploadData(database) {
    const transactions = await nextBatch(database);
    if (transactions.length === 0) {
      return;
    }
    await until(this.#notBefore);
    const token = await this.#token();
    if (!token) {
      throw new Error('nobody is signed in: the writes stay queued');
    }
    const results = await this.#send(token, await database.getClientId(), transactions);
    await this.#settle(transactions, results);
  }

  /**
   * A transaction was rejected for good. The server has stored it, and it leaves
   * the queue when this returns; where this throws, it stays and is answered the
   * same again. The next sync takes its changes back on the device: tell the user.
   *
   * @param {import('@powersync/common').CrudTransaction} transaction
   * @param {object} result a FatalError of openapi.yaml
   */
  async onRejected(transaction, result) {
    console.warn('A write was rejected', result.failed_operation, transaction.crud);
  }

  /**
   * A transaction was rejected, and the server leaves it to the app what happens
   * next. 'complete' gives the write up; 'retain' keeps it, and until it is given
   * up nothing behind it is uploaded and nothing new arrives. Runs again at each
   * retry.
   *
   * @param {import('@powersync/common').CrudTransaction} transaction
   * @param {object} result a FatalError of openapi.yaml
   * @returns {Promise<'retain' | 'complete'>}
   */
  async onFatalTransaction(transaction, result) {
    console.error('A write awaits a decision', result.failed_operation, transaction.crud);
    return 'retain';
  }

  async #token() {
    const token = await this.#getToken({ fresh: this.#tokenRefused });
    this.#tokenRefused = false;
    return token;
  }

  /** Sends the transactions, or as many from the first on as the server takes at once. */
  async #send(token, clientId, transactions) {
    const body = { client_id: clientId, transactions: transactions.map(toTransaction) };
    try {
      const { results } = await this.#request('POST', '/api/data', token, body);
      if (results?.length !== transactions.length) {
        throw new Error('Postern answered another number of results than transactions were sent');
      }
      return results;
    } catch (error) {
      if (error.status === 413 && transactions.length > 1) {
        return this.#send(token, clientId, transactions.slice(0, Math.floor(transactions.length / 2)));
      }
      throw error;
    }
  }

  async #request(method, path, token, body) {
    // Not AbortSignal.timeout: React Native has none.
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(new Error(`${path}: no answer in ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
    try {
      const response = await this.#fetch(this.#url + path, {
        method,
        headers: { Authorization: `Bearer ${token}`, ...(body && { 'Content-Type': 'application/json' }) },
        body: body && JSON.stringify(body),
        signal: abort.signal
      });
      if (!response.ok) {
        this.#tokenRefused ||= response.status === 401 || response.status === 403;
        const problem = await response.json().catch(() => null); // a proxy's answer may not be JSON
        throw new PosternError(response.status, problem?.message ?? response.statusText);
      }
      return await response.json();
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Takes out of the queue what has been answered for good, up to the first
   * transaction that has not. Completing one completes all before it, so none may
   * be completed across one that must stay.
   */
  async #settle(transactions, results) {
    let last = null;
    try {
      for (const [i, result] of results.entries()) {
        if (result.status === 'not_attempted' && last) {
          return; // the SDK calls again at once, as the queue has moved
        }
        await this.#judge(transactions[i], result);
        last = transactions[i];
      }
    } finally {
      await last?.complete();
    }
  }

  /** Returns when the transaction may leave the queue, and throws when it must stay. */
  async #judge(transaction, result) {
    const name = `transaction ${transaction.transactionId}`;
    switch (result.status) {
      case 'success':
        return;
      case 'fatal_error':
        if (result.requires_client_handling === false) {
          return this.onRejected(transaction, result);
        }
        if (result.requires_client_handling === true && (await this.onFatalTransaction(transaction, result)) === 'complete') {
          return;
        }
        throw new Error(`${name} was rejected and is kept: ${result.message}`);
      case 'retryable_error':
        this.#notBefore = Date.now() + (result.retry_after_ms ?? 0);
        throw new Error(`${name} could not be stored yet: ${result.message}`);
      default:
        throw new Error(`${name} was answered ${JSON.stringify(result.status)}`);
    }
  }
}

/** The oldest whole transactions of the queue, at least one unless it is empty. */
async function nextBatch(database) {
  const batch = [];
  let operations = 0;
  for await (const transaction of database.getCrudTransactions()) {
    operations += transaction.crud.length;
    if (batch.length > 0 && operations > MAX_OPERATIONS) {
      break;
    }
    batch.push(transaction);
    if (batch.length === MAX_TRANSACTIONS) {
      break;
    }
  }
  return batch;
}

function toTransaction({ transactionId, crud }) {
  return { transaction_id: transactionId, crud: crud.map(toOperation) };
}

function toOperation(entry) {
  return {
    op_id: entry.clientId, // the SDK's name for the operation's number in the queue
    op: entry.op,
    table: entry.table,
    id: entry.id,
    op_data: entry.opData,
    previous_values: entry.previousValues,
    metadata: entry.metadata
  };
}

async function until(time) {
  const wait = time - Date.now();
  if (wait > 0) {
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}
