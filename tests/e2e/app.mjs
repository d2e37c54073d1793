// An app with the demo's tables and Postern's connector as npm packs it, on any
// platform: device.mjs has the one for Node.js, tab.mjs the one for browsers.
import { PosternConnector } from '@postern/connector';
import { SupabaseConnector } from '@postern/connector/supabase';
import { column, LogLevels, Schema, Table } from '@powersync/common';

export const schema = new Schema({
  lists: new Table(
    { created_at: column.text, name: column.text, owner_id: column.text },
    { trackMetadata: true }
  ),
  todos: new Table(
    {
      created_at: column.text,
      completed_at: column.text,
      description: column.text,
      completed: column.integer,
      created_by: column.text,
      completed_by: column.text,
      list_id: column.text
    },
    { trackPrevious: true }
  ),
  // As `postern migrate --print` has it, in part.
  rejected_writes: new Table({ status: column.text, code: column.text, message: column.text }),
  // One row, which the stand-in for the PowerSync Service counts up with each
  // write checkpoint: how often it has seen the queue run empty.
  checkpoints: new Table({ number: column.integer })
});

// Shorter than the SDK's 5 s and 1 s, which no test has to wait for.
const pace = { retryDelayMs: 100, crudUploadThrottleMs: 10 };

// Standard output is for the report.
export const logger = { log: ({ level, message, error }) => level >= LogLevels.warn && console.error(message, error ?? '') };

export class App {
  #seen = 0; // the write checkpoint that the last upload ended with

  /**
   * @param {import('@powersync/common').CommonPowerSyncDatabase} db
   * @param {string} url Postern's, with the development issuer at /dev/token
   * @param {string} user who is signed in
   * @param {object} [options] the connector's, and:
   * @param {(send: typeof fetch) => typeof fetch} [options.network] what lies between the connector and Postern
   * @param {(options: object) => object} [options.connector] makes another connector than Postern's
   */
  constructor(db, url, user, { network = (send) => send, connector, ...options } = {}) {
    this.db = db;
    this.url = url;
    this.user = user;
    this.uploads = []; // each POST /api/data that Postern answered with results
    this.rejected = []; // what the connector told the app
    const make = connector ?? ((all) => (all.supabase ? new SupabaseConnector(all) : new PosternConnector(all)));
    this.connector = make({
      url,
      database: db,
      getToken: () => this.developmentToken(this.user),
      fetch: network((...request) => this.#noted(...request)),
      onRejected: ({ transactionId }, { failed_operation }) => {
        this.rejected.push({ transaction_id: transactionId, code: failed_operation.error_code });
      },
      ...options
    });
  }

  /** The development issuer's token for a user. */
  async developmentToken(user) {
    const response = await fetch(`${this.url}/dev/token?user=${user}`);
    return (await response.json()).token;
  }

  /** One local transaction; statements are arrays of SQL and its parameters. */
  async transaction(...statements) {
    await this.db.writeTransaction(async (tx) => {
      for (const [sql, ...parameters] of statements) {
        await tx.execute(sql, parameters);
      }
    });
  }

  /** Goes online, and returns when the device has what the server has. */
  async connect() {
    await this.db.connect(this.connector, pace);
    await this.db.waitForFirstSync();
  }

  /**
   * Returns when what is queued, at least one write, has been uploaded and has come
   * back: the SDK applies no checkpoint while a write is queued or unacknowledged.
   */
  async uploaded() {
    const query = `SELECT (SELECT count(*) FROM ps_crud) AS queued,
                          (SELECT coalesce(max(number), 0) FROM checkpoints) AS checkpoint`;
    for await (const { rows } of this.db.watch(query, [], { tables: ['ps_crud', 'checkpoints'], throttleMs: 0 })) {
      const { queued, checkpoint } = rows.item(0);
      if (queued === 0 && checkpoint > this.#seen) {
        this.#seen = checkpoint;
        return;
      }
    }
  }

  /** Returns when so many operations are queued. */
  queued(count) {
    return this.#counted('ps_crud', count);
  }

  /** Returns when the device has so many lists. */
  listed(count) {
    return this.#counted('lists', count);
  }

  async #counted(table, count) {
    for await (const { rows } of this.db.watch(`SELECT count(*) AS n FROM ${table}`, [], { tables: [table], throttleMs: 0 })) {
      if (rows.item(0).n === count) {
        return;
      }
    }
  }

  /** Returns when an upload has failed. */
  async uploadFailed() {
    await this.db.waitForStatus(({ dataFlowStatus }) => dataFlowStatus.uploadError);
  }

  /** What the test asserts on. */
  async report(more = {}) {
    return {
      client_id: await this.db.getClientId(),
      queue_empty: (await this.db.getNextCrudTransaction()) === null,
      uploads: this.uploads,
      rejected: this.rejected,
      lists: await this.db.getAll('SELECT * FROM lists ORDER BY id'),
      todos: await this.db.getAll('SELECT * FROM todos ORDER BY id'),
      ...more
    };
  }

  async #noted(resource, init) {
    const sentAt = Date.now();
    const response = await fetch(resource, init);
    if (init.method === 'POST' && response.ok) {
      const { results } = await response.clone().json();
      const sent = new Blob([init.body]);
      const packed = init.headers['Content-Encoding'] === 'gzip';
      const body = await new Response(packed ? sent.stream().pipeThrough(new DecompressionStream('gzip')) : sent).text();
      this.uploads.push({ body, bytes: sent.size, packed, request: JSON.parse(body), results, sent_at: sentAt, answered_at: Date.now() });
    }
    return response;
  }
}
