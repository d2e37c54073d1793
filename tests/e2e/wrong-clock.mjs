import { createClient } from '@supabase/supabase-js';

/** Writes with supabase-js on a device whose clock is some hours off. The password says which token the user has. */
export async function wrongClock({ open, supabaseURL }, hours, password) {
  const now = Date.now;
  Date.now = () => now() + hours * 3_600_000;
  const supabase = createClient(supabaseURL, 'sb_publishable_key', { auth: { persistSession: false, autoRefreshToken: false } });
  const app = open('alice', { supabase });
  await supabase.auth.signInWithPassword({ email: 'alice@example.com', password });

  await app.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), 'Groceries']);
  await app.connect();
  await app.uploaded();
  await app.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', crypto.randomUUID(), 'Chores']);
  await app.uploaded();
  return { app };
}
