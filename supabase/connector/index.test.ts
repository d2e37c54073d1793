import assert from 'node:assert/strict';
import test from 'node:test';

import { queueOf, success, tokenOf } from '../../service/connector/test/device.ts';
import { SupabaseConnector, type SupabaseSession } from './index.ts';

type Callback = (event: string, session: { access_token: string } | null) => void;

/** supabase-js' client, which keeps count of what is asked, and the tokens that uploads have had. */
function appOf(answers: { get?: SupabaseSession; refresh?: SupabaseSession } = {}) {
  const asked: string[] = [];
  const used: string[] = [];
  let callback: Callback = () => {};
  const answer = (call: string, session: SupabaseSession | undefined) => {
    asked.push(call);
    return Promise.resolve(session ?? { data: { session: null }, error: null });
  };
  const queue = queueOf(0);
  const connector = new SupabaseConnector({
    url: 'https://postern.example.com',
    database: queue,
    supabase: {
      auth: {
        getSession: () => answer('getSession', answers.get),
        refreshSession: () => answer('refreshSession', answers.refresh),
        onAuthStateChange: (given) => void (callback = given)
      }
    },
    fetch: async (_, { headers, body }) => {
      used.push(headers.Authorization!.replace('Bearer ', ''));
      return headers.Authorization!.includes(refused)
        ? Response.json({ message: 'expired token' }, { status: 401 })
        : Response.json({ results: JSON.parse(body as string).transactions.map(() => success) });
    }
  });
  const report = (event: string, token: string | null) => callback(event, token === null ? null : { access_token: token });
  return { connector, queue, asked, used, report };
}

const refused = tokenOf('alice', { refused: true });
const valid = tokenOf('alice');
const sessionOf = (token: string | null): SupabaseSession => ({ data: { session: token === null ? null : { access_token: token } }, error: null });
const failed: SupabaseSession = { data: { session: null }, error: new Error('cannot reach Supabase Auth') };

for (const { name, reported, answers, asked, used, error } of [
  { name: 'the reported token is used as it is', reported: valid, asked: [], used: [valid] },
  { name: 'if it is refused, a new one is asked for', reported: refused, answers: { refresh: sessionOf(valid) }, asked: ['refreshSession'], used: [refused, valid] },
  { name: 'if that cannot be had, the writes stay', reported: refused, answers: { refresh: failed }, asked: ['refreshSession'], used: [refused], error: /cannot reach/ },
  { name: 'if the session has ended, too', reported: refused, answers: { refresh: sessionOf(null) }, asked: ['refreshSession'], used: [refused], error: /expired token/ },
  { name: 'before anything is reported, the session is asked for', answers: { get: sessionOf(valid) }, asked: ['getSession'], used: [valid] },
  { name: 'an app that starts offline is not signed out', reported: null, answers: { get: failed }, asked: ['getSession'], used: [], error: /cannot reach/ },
  { name: 'signed out', reported: null, asked: ['getSession'], used: [], error: /nobody is signed in/ }
] as { name: string; reported?: string | null; answers?: object; asked: string[]; used: string[]; error?: RegExp }[]) {
  test(name, async () => {
    const app = appOf(answers);
    app.queue.write();
    if (reported !== undefined) {
      app.report('INITIAL_SESSION', reported);
    }
    const upload = app.connector.uploadData();
    await (error ? assert.rejects(upload, error) : upload);
    assert.deepEqual([app.asked, app.used, app.queue.left()], [asked, used, error ? [1] : []]);
  });
}

test('who signs in owns what is written from then on', async () => {
  const app = appOf();
  app.report('SIGNED_IN', tokenOf('alice'));
  app.queue.write();
  await app.connector.noteUser();
  app.report('SIGNED_OUT', null);
  app.report('SIGNED_IN', tokenOf('bob'));
  await assert.rejects(app.connector.uploadData(), { name: 'OtherUserError' });
});
