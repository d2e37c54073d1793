// A device of a scenario: the SDK's database with the demo's tables, and Postern's
// connector as npm packs it. The environment says where things are:
//   POSTERN_URL    the service, with the development issuer at /dev/token
//   DEVICE_FOLDER  an empty folder for the database
import { PosternConnector } from '@postern/connector';
import { column, LogLevels, PowerSyncDatabase, Schema, Table } from '@powersync/node';

const schema = new Schema({
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

/** The development issuer's token for a user. */
export async function developmentToken(user) {
  const response = await fetch(`${process.env.POSTERN_URL}/dev/token?user=${user}`);
  return (await response.json()).token;
}

export class Device {
  #seen = 0; // the write checkpoint that the last upload ended with

  /**
   * @param {string} user who is signed in
   * @param {object} [options]
   * @param {(send: typeof fetch) => typeof fetch} [options.network] what lies between the connector and Postern
   * @param {(hint: {fresh: boolean}) => Promise<string>} [options.getToken]
   */
  constructor(user, { network = (send) => send, getToken = () => developmentToken(user) } = {}) {
    this.uploads = []; // each POST /api/data that Postern answered with results
    this.rejected = []; // what the connector told the app
    this.db = new PowerSyncDatabase({
      schema,
      database: {
        dbFilename: `${user}.db`,
        dbLocation: process.env.DEVICE_FOLDER,
        readWorkerCount: 1,
        // The other driver, better-sqlite3, must be compiled or downloaded.
        implementation: { type: 'node:sqlite' }
      },
      logger: noise
    });
    this.connector = new PosternConnector({
      url: process.env.POSTERN_URL,
      database: this.db,
      getToken,
      fetch: network((...request) => this.#noted(...request)),
      onRejected: ({ transactionId }, { failed_operation }) => {
        this.rejected.push({ transaction_id: transactionId, code: failed_operation.error_code });
      }
    });
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

  /** Prints, as the scenario's last word, what the test asserts on. */
  async finish(more = {}) {
    const report = {
      client_id: await this.db.getClientId(),
      queue_empty: (await this.db.getNextCrudTransaction()) === null,
      uploads: this.uploads,
      rejected: this.rejected,
      lists: await this.db.getAll('SELECT * FROM lists ORDER BY id'),
      todos: await this.db.getAll('SELECT * FROM todos ORDER BY id'),
      ...more
    };
    await this.db.close();
    process.stdout.write(JSON.stringify(report));
  }

  async #noted(resource, init) {
    const sentAt = Date.now();
    const response = await fetch(resource, init);
    if (init.method === 'POST' && response.ok) {
      const { results } = await response.clone().json();
      this.uploads.push({ request: JSON.parse(init.body), results, sent_at: sentAt, answered_at: Date.now() });
    }
    return response;
  }
}

// Standard output is for the report.
const noise = { log: ({ level, message, error }) => level >= LogLevels.warn && console.error(message, error ?? '') };
