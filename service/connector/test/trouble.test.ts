// Refusals, clocks, and requests that do not end.
import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate } from 'node:timers/promises';

import { connectorOf, queueOf, retryable, success, tokenOf } from './device.ts';

for (const status of [400, 409, 500, 501, 503]) {
  test(`${status} keeps everything, and the next call goes on`, async () => {
    const queue = queueOf(1);
    const { connector } = connectorOf(queue, [status, [success]]);
    await assert.rejects(connector.uploadData(), { name: 'PosternError', status, message: `Postern answered ${status}: refused` });
    assert.deepEqual(queue.left(), [1]);
    await connector.uploadData();
    assert.deepEqual(queue.left(), []);
  });
}

/** A provider whose cached token stays the same until a fresh one is asked for. */
function provider() {
  const hints: boolean[] = [];
  let token = tokenOf('alice', { n: 0 });
  return {
    hints,
    getToken: async ({ fresh }: { fresh: boolean }) => {
      hints.push(fresh);
      return (token = fresh ? tokenOf('alice', { n: hints.length }) : token);
    }
  };
}

for (const status of [401, 403]) {
  test(`${status} takes a fresh token at once, whatever the clock says of the one at hand`, async () => {
    const queue = queueOf(1);
    const { hints, getToken } = provider();
    const { connector, requests } = connectorOf(queue, [status, [success]], { getToken });
    await connector.uploadData();
    assert.deepEqual(queue.left(), []);
    assert.deepEqual(hints, [false, true]);
    assert.notEqual(requests[0]!.token, requests[1]!.token);
  });
}

test('a fresh token that is refused, too, is not followed by another one at once', async () => {
  const { hints, getToken } = provider();
  const { connector } = connectorOf(queueOf(1), [401, 401, 401], { getToken });
  await assert.rejects(connector.uploadData(), { status: 401 });
  await assert.rejects(connector.uploadData(), { status: 401 });
  assert.deepEqual(hints, [false, true, false]);
});

for (const { name, late } of [
  { name: 'requests that are refused at the same time share one fresh token', late: false },
  { name: 'a request that is refused after another one uses its fresh token', late: true }
]) {
  test(name, async () => {
    const old = tokenOf('alice', { n: 0 });
    const asked: boolean[] = [];
    const gate = Promise.withResolvers<void>(); // for the second refusal
    const requests: string[] = [];
    const { connector } = connectorOf(queueOf(1), [], {
      getToken: async ({ fresh }) => {
        asked.push(fresh);
        if (!fresh && asked.includes(true)) {
          return tokenOf('alice', { n: 1 });
        }
        if (fresh && !late) {
          gate.resolve();
          await setImmediate();
        }
        return fresh ? tokenOf('alice', { n: 1 }) : old;
      },
      fetch: async (url, { headers }) => {
        requests.push(url);
        if (headers.Authorization === `Bearer ${old}`) {
          if (url.endsWith('/api/credentials')) {
            await gate.promise;
          }
          return Response.json({ message: 'expired token' }, { status: 401 });
        }
        return Response.json({ results: [success], endpoint: 'https://powersync.example.com', token: 'token', expires_at: '2026-11-23T15:50:30Z' });
      }
    });
    const credentials = connector.fetchCredentials();
    while (requests.length === 0) {
      await setImmediate();
    }
    await connector.uploadData();
    gate.resolve();
    await credentials;
    assert.deepEqual(asked, [false, false, true]);
  });
}

test('writes never go out under a user who has signed in meanwhile', async () => {
  const queue = queueOf(1);
  const getToken = async ({ fresh }: { fresh: boolean }) => tokenOf(fresh ? 'bob' : 'alice');
  const { connector, requests } = connectorOf(queue, [401, [success]], { getToken });
  await assert.rejects(connector.uploadData(), { status: 401 });
  assert.deepEqual([requests.length, queue.left()], [1, [1]]);
});

for (const { name, answer, ms } of [
  { name: 'retry_after_ms', answer: [{ ...retryable, retry_after_ms: 5000 }], ms: 5000 },
  { name: 'Retry-After', answer: { status: 503, headers: { 'Retry-After': '7' } }, ms: 7000 },
  { name: 'at most five minutes', answer: { status: 503, headers: { 'Retry-After': '86400' } }, ms: 300_000 },
  { name: 'no time at all if Retry-After is a date', answer: { status: 503, headers: { 'Retry-After': 'Fri, 01 Jan 2027 00:00:00 GMT' } }, ms: 0 }
]) {
  test(`no upload before the server wants one: ${name}`, async (t) => {
    let time = 1_000_000;
    t.mock.method(performance, 'now', () => time);
    const queue = queueOf(1);
    const { connector, requests } = connectorOf(queue, [answer, [success]]);
    await assert.rejects(connector.uploadData(), /later|503/);
    if (ms > 0) {
      time += ms - 1;
      await assert.rejects(connector.uploadData(), /later|503/, 'with the reason');
      assert.equal(requests.length, 1);
      time += 1;
    }
    await connector.uploadData();
    assert.deepEqual(queue.left(), []);
  });
}

for (const { name, options } of [
  { name: 'a request', options: { fetch: () => new Promise<never>(() => {}) } },
  { name: 'an answer', options: { fetch: async () => ({ ...Response.json({}), ok: true, json: () => new Promise<never>(() => {}) }) as never } },
  { name: 'getToken', options: { getToken: () => new Promise<never>(() => {}) } }
]) {
  test(`${name} that never settles ends in time, and keeps everything`, async () => {
    const queue = queueOf(1);
    const { connector } = connectorOf(queue, [], { ...options, timeoutMs: 1 });
    await assert.rejects(connector.uploadData(), /no answer in 1 ms/);
    assert.deepEqual(queue.left(), [1]);
  });
}

test('abort ends what runs, and nothing that comes later', async () => {
  const queue = queueOf(1);
  const signals: AbortSignal[] = [];
  const { promise: sending, resolve } = Promise.withResolvers<void>();
  const { connector } = connectorOf(queue, [], {
    fetch: async (_, { signal }) => {
      signals.push(signal);
      resolve();
      return signals.length === 1 ? new Promise<never>(() => {}) : Response.json({ results: [success] });
    }
  });
  const upload = connector.uploadData();
  await sending;
  connector.abort();
  await assert.rejects(upload, /aborted/);
  assert.equal(signals[0]!.aborted, true);
  assert.deepEqual(queue.left(), [1]);
  await connector.uploadData();
  assert.deepEqual(queue.left(), []);
});

test('abort ends a question to the user, and completes what is done', async () => {
  const queue = queueOf(2);
  const { promise: asking, resolve } = Promise.withResolvers<void>();
  const held = { status: 'fatal_error', message: 'no', requires_client_handling: true };
  const { connector } = connectorOf(queue, [[success, held]], {
    onHeld: () => {
      resolve();
      return new Promise<never>(() => {});
    }
  });
  const upload = connector.uploadData();
  await asking;
  connector.abort();
  await assert.rejects(upload, /aborted/);
  assert.deepEqual(queue.left(), [2]);
});

test('abort ends an upload that waits for the database', async () => {
  const queue = queueOf(1);
  const { connector, requests } = connectorOf(queue, [[success]]);
  const getClientId = queue.getClientId;
  queue.getClientId = async () => {
    connector.abort();
    return getClientId();
  };
  await assert.rejects(connector.uploadData(), /aborted/);
  assert.deepEqual([requests, queue.left()], [[], [1]]);
});

test('an answer of 200 that is not JSON is not taken for an answer', async () => {
  const queue = queueOf(1);
  const { connector } = connectorOf(queue, [], { fetch: async () => new Response('<h1>Welcome to our Wi-Fi</h1>') });
  await assert.rejects(connector.uploadData(), /not Postern's/);
  assert.deepEqual(queue.left(), [1]);
});

test('getToken may fail before it returns a promise', async () => {
  const getToken = () => {
    throw new Error('no provider');
  };
  await assert.rejects(connectorOf(queueOf(1), [], { getToken }).connector.uploadData(), /no provider/);
});

test('signed out: no credentials, and the writes stay', async () => {
  const queue = queueOf(1);
  const { connector, requests } = connectorOf(queue, [], { getToken: async () => null });
  assert.equal(await connector.fetchCredentials(), null);
  await assert.rejects(connector.uploadData(), /nobody is signed in/);
  assert.deepEqual([requests, queue.left()], [[], [1]]);
});

test('credentials are as the SDK wants them, and newer each time', async () => {
  const answer = { endpoint: 'https://powersync.example.com', token: 'token', expires_at: '2026-11-23T15:50:30Z', user_id: 'alice' };
  const { hints, getToken } = provider();
  const { connector, requests } = connectorOf(queueOf(0), [answer, answer], { getToken });
  assert.deepEqual(await connector.fetchCredentials(), {
    endpoint: 'https://powersync.example.com', token: 'token', expiresAt: new Date('2026-11-23T15:50:30Z')
  });
  await connector.fetchCredentials();
  assert.deepEqual(hints, [false, false, true]);
  assert.notEqual(requests[0]!.token, requests[1]!.token);
});

for (const { name, token } of [
  { name: 'no JWT', token: 'opaque' },
  { name: 'no sub', token: `e30.${btoa('{}')}.` }
]) {
  test(`a token that names no user is a mistake of the app: ${name}`, async () => {
    const { connector } = connectorOf(queueOf(1), [], { getToken: async () => token });
    await assert.rejects(connector.uploadData(), /a JWT with a sub/);
  });
}

test('a sub may have any characters', async () => {
  const { connector, requests } = connectorOf(queueOf(1), [[success]], { getToken: async () => tokenOf('Zoë 🦊 ?>~') });
  await connector.uploadData();
  assert.equal(requests[0]!.body.user_id, 'Zoë 🦊 ?>~');
});
