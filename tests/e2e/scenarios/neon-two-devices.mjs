// Alice has a phone and a tablet with PowerSync's reference connector, and signs in with
// Neon Auth. Nothing that they send says from which of the two it is. The first answer
// to the phone is lost.
import { Device } from '../device.mjs';
import { NeonUser } from '../neon-user.mjs';
import { ReferenceConnector } from '../reference-connector.mjs';

const groceries = crypto.randomUUID();
const alice = await NeonUser.signUp('Alice');
const loseFirstAnswer = (send) => {
  let lost = false;
  return async (...request) => {
    const response = await send(...request);
    if (!lost) {
      lost = true;
      throw new TypeError('the connection was lost');
    }
    return response;
  };
};
const options = { getToken: () => alice.token(), connector: (all) => new ReferenceConnector(all) };
const phone = new Device('phone', { ...options, network: loseFirstAnswer });
const tablet = new Device('tablet', options);
const rename = (name) => ['UPDATE lists SET name = ? WHERE id = ?', name, groceries];

await phone.transaction(['INSERT INTO lists (id, name) VALUES (?, ?)', groceries, 'Groceries']);
await phone.transaction(rename('Food'));
await phone.connect();
await phone.uploaded();

await tablet.connect();
await tablet.transaction(rename('Shopping'));
await tablet.transaction(rename('Food')); // with the number and the content of the phone's
await tablet.uploaded();

const { uploads } = phone;
await phone.db.close();
tablet.uploads.unshift(...uploads);
await tablet.finish({ ids: { groceries }, user_id: alice.id });
