// An app for browsers, with Supabase Auth.
import { SupabaseConnector, type Decision } from '@postern/connector/supabase';
import { column, PowerSyncDatabase, Schema, Table } from '@powersync/web';
import { createClient } from '@supabase/supabase-js';

export const supabase = createClient('https://ref.supabase.co', 'sb_publishable_key');
const schema = new Schema({ lists: new Table({ name: column.text }) });
export const db = new PowerSyncDatabase({ schema, database: { dbFilename: 'app.db' } });

export const connector = new SupabaseConnector({
  url: 'https://postern.example.com',
  database: db,
  supabase,
  onRejected: (_, { message }) => alert(message),
  onHeld({ crud }, { failed_operation: { error_code, operation_index } }): Decision {
    const failed = crud[operation_index ?? 0];
    if (error_code === 'TITLE_TOO_LONG' && failed) {
      const title = String(failed.opData?.title).slice(0, 200);
      return { replace: crud.map((entry) => (entry === failed ? { ...entry, opData: { ...entry.opData, title } } : entry)) };
    }
    return confirm('Give this change up?') ? 'complete' : 'retain';
  },
  onOtherUser: ({ owner, user }) => (confirm(`Discard what ${owner} wrote, ${user}?`) ? 'discard' : 'keep')
});

export async function signOut(): Promise<void> {
  connector.abort();
  await db.disconnect();
  await supabase.auth.signOut();
}

await db.connect(connector);
