// An app for phones, with Neon Auth.
import { NeonConnector } from '@postern/connector/neon';
import { column, PowerSyncDatabase, Schema, Table } from '@powersync/react-native';
import { createAuthClient } from 'better-auth/client';
import { jwtClient } from 'better-auth/client/plugins';

export const auth = createAuthClient({ baseURL: 'https://ep-example.neonauth.example.com/neondb/auth', plugins: [jwtClient()] });
const schema = new Schema({ lists: new Table({ name: column.text }) });
export const db = new PowerSyncDatabase({ schema, database: { dbFilename: 'app.db' } });
export const connector = new NeonConnector({ url: 'https://postern.example.com', database: db, auth });

export async function open(): Promise<void> {
  await db.connect(connector);
}
