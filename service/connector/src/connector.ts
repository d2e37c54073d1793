import type { CrudTransaction, PowerSyncBackendConnector, PowerSyncCredentials } from '@powersync/common';

import { Owners } from './owners.ts';
import { firstOperation, nextBatch, visit, type Database } from './queue.ts';
import { now, Sessions, type GetToken, type Session } from './sessions.ts';
import { abortable, PosternError, Transport, type Fetch } from './transport.ts';
import { replaced, toWire, type Credentials, type FatalError, type Operation, type RejectedWrite, type Result, type Sendable } from './wire.ts';

const TIMEOUT_MS = 30_000;
const MAX_WAIT_MS = 300_000; // a proxy may ask for a day

/** What becomes of a transaction that the server leaves to the app. */
export type Decision =
  /** It stays. Until it is given up, nothing behind it is uploaded and nothing new arrives. */
  | 'retain'
  /** It leaves the queue without effect. */
  | 'complete'
  /** These operations are sent in its place. Once they are applied or rejected for good, it leaves the queue. */
  | { replace: readonly Operation[] };

/** What becomes of queued writes that are not of the user who is signed in. */
export type OtherUserDecision =
  /** They stay, and nothing is uploaded until their owner signs in again. */
  | 'keep'
  /** They become the signed-in user's, and are uploaded as such. */
  | 'handOver'
  /** They leave the queue without effect. */
  | 'discard';

export interface OtherUser {
  /** The sub of the user who made the oldest queued writes. */
  owner: string;
  /** The sub of the user who is signed in. */
  user: string;
}

export interface PosternOptions {
  /** Postern's address. */
  url: string;

  /** The database that the connector is for. It also keeps whose the queued writes are. */
  database: Database;

  /**
   * Returns the access token of the user who is signed in; null if nobody is. It is asked
   * before each request, so that no write goes out under a user of before. fresh is true
   * after a token was refused: then get a new one from the provider, even if the one at
   * hand seems to be valid, because the device's clock may be wrong.
   */
  getToken: GetToken;

  /**
   * A transaction was rejected for good. The server has stored it, and it leaves the
   * queue when this returns. If this throws, it stays and is answered the same again. The
   * next sync takes its changes back on the device: tell the user. Default: a warning on
   * the console.
   */
  onRejected?(transaction: CrudTransaction, error: FatalError): void | Promise<void>;

  /**
   * A transaction was rejected, and the server leaves it to the app what happens next.
   * This runs again at each retry. Default: retain.
   */
  onHeld?(transaction: CrudTransaction, error: FatalError): Decision | Promise<Decision>;

  /** Queued writes are of another user. This runs again at each retry. Default: keep. */
  onOtherUser?(users: OtherUser): OtherUserDecision | Promise<OtherUserDecision>;

  fetch?: Fetch;

  /** For how many milliseconds a request or getToken may run. Default: 30,000. */
  timeoutMs?: number;
}

/** The queued writes are of another user, and stay. */
export class OtherUserError extends Error implements OtherUser {
  readonly owner: string;
  readonly user: string;

  constructor({ owner, user }: OtherUser) {
    super(`the queued writes are of user ${owner}, and ${user} is signed in: they stay queued`);
    this.name = 'OtherUserError';
    this.owner = owner;
    this.user = user;
  }
}

/** Implements PowerSync's backend connector with Postern's write API. */
export class PosternConnector implements PowerSyncBackendConnector {
  readonly #options: PosternOptions;
  readonly #database: Database;
  readonly #owners: Owners;
  readonly #sessions: Sessions;
  #abort = new AbortController();
  #forPowerSync: string | null = null; // the last token that the PowerSync Service was given
  #waiting: { error: Error; until: number } | null = null; // for the server to be ready, and why

  constructor(options: PosternOptions) {
    this.#options = options;
    this.#database = options.database;
    this.#owners = new Owners(options.database);
    const send: Fetch = options.fetch ?? ((url, init) => fetch(url, init));
    const transport = new Transport(options.url, send, options.timeoutMs ?? TIMEOUT_MS);
    this.#sessions = new Sessions((hint) => options.getToken(hint), transport);
  }

  /**
   * Called by the SDK to reach the PowerSync Service. null means signed out, an error
   * that it should try later.
   */
  async fetchCredentials(): Promise<PowerSyncCredentials | null> {
    let session = await this.#session();
    if (session !== null && session.token === this.#forPowerSync) {
      session = await this.#session(true); // the SDK asks again because it needs a newer one
    }
    if (session === null) {
      return null;
    }
    const { endpoint, token, expires_at } = (await this.#sessions.request(session, 'GET', '/api/credentials')) as Credentials;
    this.#forPowerSync = session.token;
    return { endpoint, token, expiresAt: new Date(expires_at) };
  }

  /**
   * Called by the SDK while writes are queued. Sends one batch. If it throws, the rest of
   * the queue stays, and the SDK calls again after its retryDelayMs.
   */
  async uploadData(): Promise<void> {
    if (this.#waiting && now() < this.#waiting.until) {
      throw this.#waiting.error; // it does not wait here, because db.disconnect() would wait for it
    }
    this.#waiting = null;
    const session = await this.#session();
    if (session === null) {
      throw new Error('nobody is signed in: the writes stay queued');
    }
    const transactions = await this.#nextBatch(session);
    if (transactions.length > 0) {
      await this.#settle(session, transactions, await this.#send(session, transactions));
    }
  }

  /**
   * Notes that what is written from now on is of the user who is signed in. db.connect()
   * does so, too: call this after a sign-in only if writes come before db.connect().
   */
  async noteUser(): Promise<void> {
    await this.#session();
  }

  /**
   * Ends the uploads, requests and callbacks that run. What is queued stays queued, and
   * later calls of the SDK are not affected. Call it before db.disconnect() and
   * db.disconnectAndClear(), which wait for uploads.
   */
  abort(): void {
    this.#abort.abort();
    this.#abort = new AbortController();
  }

  /** Returns the session of the user who is signed in, who owns what is written from now on. */
  async #session(fresh = false): Promise<Session | null> {
    const session = await this.#sessions.start(this.#abort.signal, fresh);
    if (session !== null) {
      await this.#owners.note(session.user);
    }
    return session;
  }

  /** Returns the oldest transactions, if they are the user's or the app makes them so. */
  async #nextBatch({ user, abort }: Session): Promise<CrudTransaction[]> {
    for (;;) {
      const oldest = await this.#database.getNextCrudTransaction();
      if (oldest === null) {
        return [];
      }
      const { user: owner, until } = await this.#owners.of(firstOperation(oldest));
      if (owner === user) {
        return nextBatch(this.#database, until);
      }
      const ask = async () => (await this.#options.onOtherUser?.({ owner, user })) ?? 'keep';
      switch (await abortable(abort, ask)) {
        case 'handOver':
          await this.#owners.handOver(firstOperation(oldest), user);
          break;
        case 'discard': {
          let last = oldest;
          await visit(this.#database, until, (transaction) => ((last = transaction), true));
          await last.complete();
          break;
        }
        default:
          throw new OtherUserError({ owner, user });
      }
    }
  }

  /** Sends the transactions, or as many from the first on as the server takes at once. */
  async #send(session: Session, transactions: readonly Sendable[]): Promise<Result[]> {
    try {
      const { results } = (await this.#sessions.request(session, 'POST', '/api/data', {
        client_id: await this.#database.getClientId(),
        user_id: session.user,
        transactions: transactions.map(toWire)
      })) as { results?: Result[] };
      if (results?.length !== transactions.length) {
        throw new Error('Postern answered another number of results than transactions were sent');
      }
      return results;
    } catch (error) {
      if (!(error instanceof PosternError)) {
        throw error;
      }
      if (error.status === 413 && transactions.length > 1) {
        return this.#send(session, transactions.slice(0, Math.floor(transactions.length / 2)));
      }
      throw this.#later(error, error.retryAfterMs);
    }
  }

  /**
   * Takes out of the queue what has been answered for good, up to the first transaction
   * that has not. Completing one completes all before it, so none may be completed
   * across one that must stay.
   */
  async #settle(session: Session, transactions: CrudTransaction[], results: Result[]): Promise<void> {
    let last: CrudTransaction | null = null;
    try {
      for (const [i, result] of results.entries()) {
        if (result.status === 'not_attempted' && last) {
          return; // the SDK calls again at once, because the queue has moved
        }
        await this.#judge(session, transactions[i]!, result);
        last = transactions[i]!;
      }
    } finally {
      await last?.complete();
    }
  }

  /** Returns when the transaction may leave the queue, and throws when it must stay. */
  async #judge(session: Session, transaction: CrudTransaction, result: Result): Promise<void> {
    const name = `transaction ${transaction.transactionId}`;
    switch (result.status) {
      case 'success':
        return;
      case 'fatal_error':
        if (result.requires_client_handling === false) {
          return abortable(session.abort, async () => (this.#options.onRejected ?? warn)(transaction, result));
        }
        if (result.requires_client_handling === true && (await this.#decide(session, transaction, result))) {
          return this.#release(session, transaction);
        }
        throw new Error(`${name} was rejected and is kept: ${result.message}`);
      case 'retryable_error':
        throw this.#later(new Error(`${name} could not be stored yet: ${result.message}`), result.retry_after_ms);
      default:
        throw new Error(`${name} was answered ${JSON.stringify((result as Result).status)}`);
    }
  }

  /** Asks the app about a held transaction, and reports whether it leaves the queue. */
  async #decide(session: Session, transaction: CrudTransaction, held: FatalError): Promise<boolean> {
    const ask = async () => (await this.#options.onHeld?.(transaction, held)) ?? 'retain';
    const decision = await abortable(session.abort, ask);
    if (typeof decision === 'string') {
      return decision === 'complete';
    }
    const [result] = (await this.#send(session, [replaced(transaction, decision.replace)])) as [Result];
    if (result.status === 'fatal_error' && result.requires_client_handling !== false) {
      throw new Error(`the replacement of transaction ${transaction.transactionId} was rejected, and it is kept: ${result.message}`);
    }
    await this.#judge(session, transaction, result);
    return true;
  }

  /**
   * Closes the server's record of a held transaction that leaves the queue. If that fails,
   * the server does it when the device's next transaction arrives.
   */
  async #release(session: Session, transaction: CrudTransaction): Promise<void> {
    try {
      const clientId = await this.#database.getClientId();
      const { rejected } = (await this.#sessions.request(session, 'GET', '/api/rejected?status=held')) as { rejected: RejectedWrite[] };
      for (const { id, client_id, transaction_id } of rejected) {
        if (client_id === clientId && transaction_id === transaction.transactionId) {
          await this.#sessions.request(session, 'POST', `/api/rejected/${encodeURIComponent(id)}/dismiss`);
        }
      }
    } catch (error) {
      console.warn('The record of a held write is still open', error);
    }
  }

  /** Returns the error of an upload, which is not repeated before that time is over. */
  #later(error: Error, afterMs: number): Error {
    if (afterMs > 0) {
      this.#waiting = { error, until: now() + Math.min(afterMs, MAX_WAIT_MS) };
    }
    return error;
  }
}

function warn(transaction: CrudTransaction, error: FatalError): void {
  console.warn('A write was rejected', error.failed_operation, transaction.crud);
}
