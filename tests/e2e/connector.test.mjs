// The connector against a server that answers as told: run with node --test.
import assert from 'node:assert/strict';
import test from 'node:test';

import { PosternConnector } from './connector.mjs';

const success = { status: 'success' };
const notAttempted = { status: 'not_attempted' };
const retryable = { status: 'retryable_error', message: 'later', retry_after_ms: 1 };
const fatal = (requires_client_handling) => ({
  status: 'fatal_error',
  message: 'no',
  requires_client_handling,
  failed_operation: { error_code: 'CHECK_VIOLATION', message: 'no' }
});

class TestConnector extends PosternConnector {
  told = [];
  decision = 'retain';

  async onRejected({ transactionId }) {
    this.told.push(transactionId);
  }

  async onFatalTransaction() {
    return this.decision;
  }
}

/** A queue of transactions 1 to n, as much of the SDK's database as the connector uses. */
function queueOf(n, operations = 1) {
  const queue = {
    left: Array.from({ length: n }, (_, i) => i + 1),
    getClientId: async () => 'device',
    async *getCrudTransactions() {
      for (const transactionId of [...queue.left]) {
        yield {
          transactionId,
          crud: Array.from({ length: operations }, (_, i) => ({ clientId: i, op: 'DELETE', table: 'lists', id: 'a' })),
          complete: async () => (queue.left = queue.left.filter((id) => id > transactionId))
        };
      }
    }
  };
  return queue;
}

/** A connector whose requests are answered in turn: results, a whole body, or the status of a refusal. */
function connector(...answers) {
  const sent = [];
  const hints = [];
  const made = new TestConnector({
    url: 'https://postern.example.com/',
    getToken: async (hint) => {
      hints.push(hint.fresh);
      return 'token';
    },
    fetch: async (url, init) => {
      sent.push({ url, ids: init.body && JSON.parse(init.body).transactions.map((t) => t.transaction_id) });
      const answer = answers.shift();
      return typeof answer === 'number'
        ? Response.json({ message: 'refused' }, { status: answer })
        : Response.json(Array.isArray(answer) ? { results: answer } : answer);
    }
  });
  return Object.assign(made, { sent, hints });
}

for (const { name, results, decision, left, error } of [
  { name: 'all done', results: [success, success, success], left: [] },
  { name: 'a rejected one is dropped', results: [success, fatal(false), success], left: [] },
  { name: 'a batch that stopped goes on at the next call', results: [success, fatal(false), notAttempted], left: [3] },
  { name: 'a retryable one stays, with what follows', results: [success, retryable, notAttempted], left: [2, 3], error: /later/ },
  { name: 'success never completes across one that stays', results: [success, retryable, success], left: [2, 3], error: /later/ },
  { name: 'the app keeps one', results: [success, fatal(true), notAttempted], left: [2, 3], error: /kept/ },
  { name: 'the app gives one up', results: [success, fatal(true), notAttempted], decision: 'complete', left: [3] },
  { name: 'a fatal error that does not say who decides stays', results: [fatal(undefined), success, success], left: [1, 2, 3], error: /kept/ },
  { name: 'an unknown status stays', results: [success, { status: 'accepted' }, success], left: [2, 3], error: /"accepted"/ },
  { name: 'nothing attempted is no progress', results: [notAttempted, notAttempted, notAttempted], left: [1, 2, 3], error: /"not_attempted"/ },
  { name: 'too few results', results: [success], left: [1, 2, 3], error: /number of results/ },
  { name: 'no results', results: {}, left: [1, 2, 3], error: /number of results/ }
]) {
  test(name, async () => {
    const c = connector(results);
    c.decision = decision ?? c.decision;
    const queue = queueOf(3);
    const upload = c.uploadData(queue);
    await (error ? assert.rejects(upload, error) : upload);
    assert.deepEqual(queue.left, left);
  });
}

test('the app is told of a rejected transaction before it leaves the queue', async () => {
  const c = connector([success, fatal(false), success]);
  const queue = queueOf(3);
  c.onRejected = async ({ transactionId }) => {
    assert.deepEqual([transactionId, queue.left], [2, [1, 2, 3]]);
    throw new Error('the app could not show it');
  };
  await assert.rejects(c.uploadData(queue), /could not show it/);
  assert.deepEqual(queue.left, [2, 3]);
});

for (const status of [400, 401, 403, 500, 503]) {
  test(`${status} keeps everything`, async () => {
    const c = connector(status, [success]);
    const queue = queueOf(1);
    await assert.rejects(c.uploadData(queue), { name: 'PosternError', status, message: `Postern answered ${status}: refused` });
    assert.deepEqual(queue.left, [1]);
    await c.uploadData(queue);
    assert.deepEqual(queue.left, []);
    assert.deepEqual(c.hints, [false, status === 401 || status === 403]);
  });
}

test('a batch that is too large is halved', async () => {
  const c = connector(413, 413, [success]);
  const queue = queueOf(5);
  await c.uploadData(queue);
  assert.deepEqual(c.sent.map(({ ids }) => ids), [[1, 2, 3, 4, 5], [1, 2], [1]]);
  assert.deepEqual(queue.left, [2, 3, 4, 5]);
});

test('a request holds 50 transactions at most', async () => {
  const c = connector(Array(50).fill(success));
  const queue = queueOf(60);
  await c.uploadData(queue);
  assert.equal(queue.left.length, 10);
});

test('a request holds 1,000 operations at most, unless one transaction has more', async () => {
  const c = connector([success, success], [success]);
  await c.uploadData(queueOf(3, 500));
  await c.uploadData(queueOf(2, 1001));
  assert.deepEqual(c.sent.map(({ ids }) => ids), [[1, 2], [1]]);
});

test('nothing is sent for an empty queue', async () => {
  const c = connector();
  await c.uploadData(queueOf(0));
  assert.deepEqual(c.sent, []);
});

test('signed out: no credentials, and the writes stay', async () => {
  const c = new PosternConnector({ url: 'https://postern.example.com', getToken: async () => null });
  assert.equal(await c.fetchCredentials(), null);
  await assert.rejects(c.uploadData(queueOf(1)), /nobody is signed in/);
});

test('credentials are as the SDK wants them', async () => {
  const answer = { endpoint: 'https://powersync.example.com', token: 'token', expires_at: '2026-11-23T15:50:30Z', user_id: 'u' };
  const c = connector(answer);
  assert.deepEqual(await c.fetchCredentials(), {
    endpoint: answer.endpoint,
    token: 'token',
    expiresAt: new Date('2026-11-23T15:50:30Z')
  });
  assert.equal(c.sent[0].url, 'https://postern.example.com/api/credentials');
});
