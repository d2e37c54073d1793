// A program for Node.js, with any provider.
import { OtherUserError, PosternConnector, PosternError, type PosternOptions } from '@postern/connector';
import { column, PowerSyncDatabase, Schema, Table } from '@powersync/node';

const options: Pick<PosternOptions, 'url' | 'getToken'> = {
  url: 'https://postern.example.com',
  getToken: async ({ fresh }) => (fresh ? null : (process.env.TOKEN ?? null))
};
const schema = new Schema({ lists: new Table({ name: column.text }) });
const db = new PowerSyncDatabase({ schema, database: { dbFilename: 'app.db' } });
await db.connect(new PosternConnector({ ...options, database: db, fetch, timeoutMs: 10_000 }));

db.registerListener({
  statusChanged({ dataFlowStatus: { uploadError } }) {
    if (uploadError instanceof OtherUserError) {
      console.error(`sign in as ${uploadError.owner}`);
    } else if (uploadError instanceof PosternError) {
      console.error(uploadError.status);
    }
  }
});
