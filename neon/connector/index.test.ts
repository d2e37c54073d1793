import assert from 'node:assert/strict';
import test from 'node:test';

import { queueOf, success, tokenOf } from '../../service/connector/test/device.ts';
import { NeonConnector, type NeonAuthClient } from './index.ts';

const refusal = (status: number) => ({ data: null, error: { status, message: 'no' } });

for (const { name, token, error } of [
  { name: 'each upload takes a new token', token: async () => ({ data: { token: tokenOf('alice') }, error: null }) },
  { name: 'signed out', token: async () => refusal(401), error: /nobody is signed in/ },
  { name: "signed out, as Neon's client says it", token: () => Promise.reject(Object.assign(new Error('no'), { status: 401 })), error: /nobody is signed in/ },
  { name: 'Neon Auth is in trouble', token: async () => refusal(503), error: /Neon Auth answered 503: no/ },
  { name: 'offline', token: () => Promise.reject(new TypeError('fetch failed')), error: /fetch failed/ },
  { name: 'no token', token: async () => ({ data: null, error: null }), error: /no token/ }
] as { name: string; token: NeonAuthClient['token']; error?: RegExp }[]) {
  test(name, async () => {
    const queue = queueOf(1);
    const connector = new NeonConnector({
      url: 'https://postern.example.com',
      database: queue,
      auth: { token },
      fetch: async (_, { headers }) => {
        assert.equal(headers.Authorization, `Bearer ${tokenOf('alice')}`);
        return Response.json({ results: [success] });
      }
    });
    const upload = connector.uploadData();
    await (error ? assert.rejects(upload, error) : upload);
    assert.deepEqual(queue.left(), error ? [1] : []);
  });
}
