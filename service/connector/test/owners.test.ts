// Whose queue it is.
import assert from 'node:assert/strict';
import test from 'node:test';

import type { OtherUser, OtherUserDecision } from '../src/index.ts';
import { connectorOf, queueOf, success, tokenOf } from './device.ts';

/** A device that users sign in on, and the uploads that its server has applied. */
function sharedDevice(decision?: OtherUserDecision) {
  const queue = queueOf(0);
  const asked: OtherUser[] = [];
  let user: string | null = null;
  const answer = ({ body }: any) => body.transactions.map(() => success);
  const { connector, requests } = connectorOf(queue, Array(20).fill(answer), {
    getToken: async () => user && tokenOf(user),
    ...(decision && { onOtherUser: (users: OtherUser) => (asked.push(users), decision) })
  });
  return {
    queue,
    asked,
    upload: () => connector.uploadData(),
    async signIn(name: string) {
      user = name;
      await connector.noteUser();
    },
    signOut: () => (user = null),
    /** The ids of what was uploaded, by user. */
    uploaded: () => requests.map(({ body, token }) => {
      assert.equal(token, tokenOf(body.user_id));
      return [body.user_id, body.transactions.map((t: any) => t.transaction_id)];
    })
  };
}

/** Alice's transactions 1 and 2, and Bob's 3, who is signed in. */
async function bobAfterAlice(decision?: OtherUserDecision) {
  const device = sharedDevice(decision);
  await device.signIn('alice');
  device.queue.write();
  device.queue.write();
  device.signOut();
  await device.signIn('bob');
  device.queue.write();
  return device;
}

test('by default, nothing is uploaded until the owner signs in again', async () => {
  const device = await bobAfterAlice();
  await assert.rejects(device.upload(), { name: 'OtherUserError', owner: 'alice', user: 'bob' });
  assert.deepEqual([device.queue.left(), device.uploaded()], [[1, 2, 3], []]);

  await device.signIn('alice');
  await device.upload();
  assert.deepEqual([device.queue.left(), device.uploaded()], [[3], [['alice', [1, 2]]]], "not Bob's");
  await assert.rejects(device.upload(), { name: 'OtherUserError', owner: 'bob', user: 'alice' });

  await device.signIn('bob');
  await device.upload();
  assert.deepEqual([device.queue.left(), device.uploaded()[1]], [[], ['bob', [3]]]);
});

for (const { decision, left, uploaded } of [
  { decision: 'keep', left: [1, 2, 3], uploaded: [] },
  { decision: 'handOver', left: [3], uploaded: [['bob', [1, 2]]] },
  { decision: 'discard', left: [], uploaded: [['bob', [3]]] }
] as const) {
  test(`the app decides: ${decision}`, async () => {
    const device = await bobAfterAlice(decision);
    const upload = device.upload();
    await (decision === 'keep' ? assert.rejects(upload, { name: 'OtherUserError' }) : upload);
    assert.deepEqual(device.asked, [{ owner: 'alice', user: 'bob' }]);
    assert.deepEqual([device.queue.left(), device.uploaded()], [left, uploaded]);
  });
}

test('what is handed over stays so', async () => {
  const device = await bobAfterAlice('handOver');
  await device.upload();
  await device.upload();
  assert.deepEqual([device.asked.length, device.uploaded()], [1, [['bob', [1, 2]], ['bob', [3]]]]);
});

test('what is written before the first sign-in is of who signs in first', async () => {
  const device = sharedDevice();
  device.queue.write();
  await device.signIn('alice');
  device.queue.write();
  await device.upload();
  assert.deepEqual(device.uploaded(), [['alice', [1, 2]]]);
});

test('an empty queue is free for the next user', async () => {
  const device = sharedDevice();
  await device.signIn('alice');
  device.queue.write();
  await device.upload();
  await device.signIn('bob');
  device.queue.write();
  await device.upload();
  assert.deepEqual(device.uploaded(), [['alice', [1]], ['bob', [2]]]);
});

test('users who write nothing do not matter', async () => {
  const device = sharedDevice();
  for (const user of ['alice', 'bob', 'alice', 'carol', 'alice']) {
    await device.signIn(user);
  }
  device.queue.write();
  for (const user of ['bob', 'alice', 'bob', 'alice']) {
    await device.signIn(user);
  }
  device.queue.write();
  await device.upload();
  await device.upload();
  assert.deepEqual(device.uploaded(), [['alice', [1]], ['alice', [2]]]);
});

test('it remembers no more than it needs', async () => {
  const device = await bobAfterAlice('discard');
  await device.upload();
  await device.signIn('carol');
  const { owners } = (await device.queue.getOptional<{ owners: number }>('SELECT count(*) AS owners FROM postern_queue_owners'))!;
  assert.equal(owners, 1);
});
