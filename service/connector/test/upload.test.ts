// What becomes of queued transactions: run with npm test.
import assert from 'node:assert/strict';
import test from 'node:test';

import type { PosternOptions } from '../src/index.ts';
import { connectorOf, fatal, notAttempted, queueOf, retryable, success, tokenOf } from './device.ts';

for (const { name, results, decision, left, error } of [
  { name: 'all done', results: [success, success, success], left: [] },
  { name: 'a rejected one leaves the queue', results: [success, fatal(false), success], left: [] },
  { name: 'a batch that stopped goes on at the next call', results: [success, fatal(false), notAttempted], left: [3] },
  { name: 'a retryable one stays, with what follows', results: [success, retryable, notAttempted], left: [2, 3], error: /later/ },
  { name: 'success never completes across one that stays', results: [success, retryable, success], left: [2, 3], error: /later/ },
  { name: 'without the app, a held one stays', results: [success, fatal(true), notAttempted], left: [2, 3], error: /kept/ },
  { name: 'the app retains one', results: [success, fatal(true), notAttempted], decision: 'retain', left: [2, 3], error: /kept/ },
  { name: 'the app completes one', results: [success, fatal(true), notAttempted], decision: 'complete', left: [3] },
  { name: 'a fatal error that does not say who decides stays', results: [fatal(), success, success], decision: 'complete', left: [1, 2, 3], error: /kept/ },
  { name: 'an unknown status stays', results: [success, { status: 'accepted' }, success], left: [2, 3], error: /"accepted"/ },
  { name: 'nothing attempted is no progress', results: [notAttempted, notAttempted, notAttempted], left: [1, 2, 3], error: /"not_attempted"/ },
  { name: 'too few results', results: [success], left: [1, 2, 3], error: /number of results/ },
  { name: 'no results', results: {}, left: [1, 2, 3], error: /number of results/ }
] as { name: string; results: object; decision?: 'retain' | 'complete'; left: number[]; error?: RegExp }[]) {
  test(name, async () => {
    const queue = queueOf(3);
    const options: Partial<PosternOptions> = { onRejected: () => {}, ...(decision && { onHeld: () => decision }) };
    const upload = connectorOf(queue, [results, { rejected: [] }], options).connector.uploadData();
    await (error ? assert.rejects(upload, error) : upload);
    assert.deepEqual(queue.left(), left);
  });
}

for (const { name, transactions, packed } of [
  { name: 'a short body goes as it is', transactions: 1, packed: false },
  { name: 'a long body is packed', transactions: 20, packed: true }
]) {
  test(name, async () => {
    const { connector, requests, sent } = connectorOf(queueOf(transactions), [Array(transactions).fill(success)]);
    await connector.uploadData();
    assert.deepEqual(requests.map((request) => request.packed), [packed]);
    assert.equal(sent()[0].length, transactions);
  });
}

test('a platform that cannot pack sends as it is', async (t) => {
  t.mock.property(globalThis, 'CompressionStream', undefined);
  const { connector, requests } = connectorOf(queueOf(20), [Array(20).fill(success)]);
  await connector.uploadData();
  assert.deepEqual(requests.map((request) => request.packed), [false]);
});

test('a proxy that takes no packed body gets none again', async () => {
  const queue = queueOf(20);
  const { connector, requests } = connectorOf(queue, [415, Array(20).fill(success), Array(20).fill(success)]);
  await connector.uploadData();
  for (let i = 0; i < 20; i++) queue.write();
  await connector.uploadData();
  assert.deepEqual(requests.map((request) => request.packed), [true, false, false]);
  assert.deepEqual(queue.left(), []);
});

test('a transaction is sent whole, with all that the device knows of it', async () => {
  const { connector, requests } = connectorOf(queueOf(1, 2), [[success]]);
  await connector.uploadData();
  const operation = (n: number) => ({
    op_id: n, op: 'PATCH', table: 'lists', id: `row ${n}`,
    op_data: { name: 'new' }, previous_values: { name: 'old' }, metadata: 'about it'
  });
  assert.deepEqual(requests, [{
    method: 'POST', path: '/api/data', token: tokenOf('alice'), packed: false,
    body: { client_id: 'device', user_id: 'alice', transactions: [{ transaction_id: 1, crud: [operation(1), operation(2)] }] }
  }]);
});

test('the app is told of a rejected transaction before it leaves the queue', async () => {
  const queue = queueOf(3);
  const { connector } = connectorOf(queue, [[success, fatal(false), success]], {
    onRejected({ transactionId }, { message }) {
      assert.deepEqual([transactionId, message, queue.left()], [2, 'no', [1, 2, 3]]);
      throw new Error('the app could not show it');
    }
  });
  await assert.rejects(connector.uploadData(), /could not show it/);
  assert.deepEqual(queue.left(), [2, 3]);
});

test('a request holds 50 transactions at most', async () => {
  const queue = queueOf(60);
  await connectorOf(queue, [Array(50).fill(success)]).connector.uploadData();
  assert.equal(queue.left().length, 10);
});

for (const { name, operations, want } of [
  { name: 'a request holds 1,000 operations at most', operations: 500, want: [[1, 2]] },
  { name: 'a transaction is never split', operations: 1001, want: [[1]] }
]) {
  test(name, async () => {
    const { connector, sent } = connectorOf(queueOf(3, operations), [want[0]!.map(() => success)]);
    await connector.uploadData();
    assert.deepEqual(sent(), want);
  });
}

test('a batch that is too large is halved', async () => {
  const queue = queueOf(5);
  const { connector, sent } = connectorOf(queue, [413, 413, [success]]);
  await connector.uploadData();
  assert.deepEqual(sent(), [[1, 2, 3, 4, 5], [1, 2], [1]]);
  assert.deepEqual(queue.left(), [2, 3, 4, 5]);
});

test('nothing is sent for an empty queue', async () => {
  const { connector, requests } = connectorOf(queueOf(0), []);
  await connector.uploadData();
  assert.deepEqual(requests, []);
});

for (const { name, second, told, left, error } of [
  { name: 'a replacement that is applied', second: [success], told: [], left: [2] },
  { name: 'a replacement that is rejected for good', second: [fatal(false)], told: [1], left: [2] },
  { name: 'a replacement that is held, too', second: [fatal(true)], told: [], left: [1, 2], error: /replacement of transaction 1/ },
  { name: 'a replacement that must wait', second: [retryable], told: [], left: [1, 2], error: /later/ }
]) {
  test(name, async () => {
    const queue = queueOf(2);
    const rejected: unknown[] = [];
    const held = [
      { id: 'another device', client_id: 'other', transaction_id: 1 },
      { id: 'another transaction', client_id: 'device', transaction_id: 7 },
      { id: 'this one', client_id: 'device', transaction_id: 1 }
    ];
    const { connector, requests, sent } = connectorOf(queue, [[fatal(true), notAttempted], second, { rejected: held }, {}], {
      onHeld: ({ crud }) => ({ replace: [{ ...crud[0]!, opData: { name: 'better' } }, { op: 'DELETE', table: 'todos', id: 'x' }] }),
      onRejected: ({ transactionId }) => void rejected.push(transactionId)
    });
    const upload = connector.uploadData();
    await (error ? assert.rejects(upload, error) : upload);
    assert.deepEqual(queue.left(), left);
    assert.deepEqual(rejected, told);
    assert.deepEqual(sent(), [[1, 2], [1]], 'under the same id');
    const [first, added] = requests[1]!.body.transactions[0].crud;
    assert.deepEqual([first.op_id, first.op_data, added.op, added.op_id], [1, { name: 'better' }, 'DELETE', undefined]);
    const closed = requests.slice(2).map(({ method, path }) => `${method} ${path}`);
    assert.deepEqual(closed, error ? [] : ['GET /api/rejected?status=held', 'POST /api/rejected/this%20one/dismiss']);
  });
}
