// The real web client for the console's phones, which service/local/phone draws. npm ci
// bundles it (bundle-phone.mjs).
import { PosternConnector } from '@postern/connector';
import { column, LogLevels, PowerSyncDatabase, Schema, Table } from '@powersync/web';

const schema = new Schema({ lists: new Table({ created_at: column.text, name: column.text, owner_id: column.text }) });
const logger = { log: ({ level, message, error }) => level >= LogLevels.error && console.warn(message, error ?? '') };
const pace = { retryDelayMs: 1000, crudUploadThrottleMs: 50 };

/** Rows come from dev mode's stand-in for the PowerSync Service. */
class PhoneConnector extends PosternConnector {
  constructor({ endpoint, token, ...options }) {
    super({ ...options, getToken: token });
    this.endpoint = endpoint;
    this.token = token;
  }

  async fetchCredentials() {
    return { endpoint: this.endpoint, token: await this.token() };
  }
}

export async function open({ name, url, user, users, token, send, trouble, changed }) {
  const db = new PowerSyncDatabase({
    schema,
    logger,
    database: { dbFilename: `phone-${name}.db`, worker: 'sdk/worker/worker.js', enableMultiTabs: false }
  });
  let discards = false;
  let isOnline = false;
  const nameOf = (sub) => Object.keys(users).find((known) => users[known] === sub) ?? sub;
  const connector = new PhoneConnector({
    endpoint: url,
    url,
    database: db,
    token: () => token(user),
    fetch: send,
    onRejected: () => {}, // the answer is shown
    onOtherUser: ({ owner }) => {
      if (discards) {
        discards = false;
        return 'discard';
      }
      trouble(`The queued writes are of another user, so they are not uploaded. Sign in as ${nameOf(owner)} again, or discard them.`, () => {
        discards = true;
        trouble('Discarding…');
      });
      return 'keep';
    }
  });
  await db.init();
  (async () => {
    for await (const _ of db.watch('SELECT (SELECT count(*) FROM ps_crud), (SELECT count(*) FROM lists)', [], { tables: ['ps_crud', 'ps_data__lists'] })) {
      if ((await db.getNextCrudTransaction()) === null) trouble();
      changed();
    }
  })();
  const write = (sql, ...values) => db.execute(sql, values);
  return {
    kind: 'The real @powersync/web with @postern/connector. Rows of other devices come from a stand-in for the PowerSync Service.',
    lists: () => db.getAll('SELECT id, name FROM lists ORDER BY name, id'),
    queue: async () => {
      const entries = await db.getAll('SELECT tx_id, data FROM ps_crud ORDER BY id');
      return entries.map(({ tx_id, data }) => {
        const { op, id, data: sent } = JSON.parse(data);
        return `${tx_id}: ${op} ${id.slice(0, 8)} ${sent?.name ?? ''}`;
      });
    },
    add: (text) => write('INSERT INTO lists (id, name) VALUES (uuid(), ?)', text),
    rename: (id, text) => write('UPDATE lists SET name = ? WHERE id = ?', text, id),
    remove: (id) => write('DELETE FROM lists WHERE id = ?', id),
    async online(on) {
      isOnline = on;
      if (on) await db.connect(connector, pace);
      else {
        connector.abort();
        await db.disconnect();
      }
    },
    async signIn(as) {
      connector.abort();
      if ((await db.getNextCrudTransaction()) === null) await db.disconnectAndClear();
      else await db.disconnect(); // what is queued stays with its owner
      user = as;
      trouble();
      if (isOnline) await db.connect(connector, pace);
    }
  };
}
