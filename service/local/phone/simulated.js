// A simulation of a PowerSync client, for those who have not installed the real one: the
// rows and the queue are lost when the page is closed. It sends what the client sends, one
// request with all queued transactions, and reads the same stream.

const lists = 'lists';

export function simulate({ url, user, users, token, send, trouble, changed }) {
  const clientID = crypto.getRandomValues(new Uint32Array(4)).join('-');
  const queue = []; // transactions with their owner
  let rows = new Map(); // what the device shows
  let number = 0;
  let isOnline = false;
  let stop = new AbortController();

  const local = (op, id, data) => {
    const previous = rows.get(id);
    if (op === 'DELETE') rows.delete(id);
    else rows.set(id, { ...previous, ...data });
    number++;
    queue.push({ owner: user, transaction_id: number, crud: [{ op_id: number, op, table: lists, id, ...(data && { op_data: data }) }] });
    changed();
    upload();
  };

  let uploading = false;
  async function upload() {
    if (uploading) return;
    uploading = true;
    try {
      while (isOnline && queue.length > 0) {
        const { owner } = queue[0];
        if (owner !== user) return otherUser(owner);
        trouble();
        const batch = queue.filter((t) => t.owner === owner).slice(0, 50).map(({ owner: _, ...sent }) => sent);
        const response = await send(`${url}/api/data`, {
          method: 'POST',
          headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${await token(user)}` },
          body: JSON.stringify({ client_id: clientID, user_id: users[owner], transactions: batch })
        });
        const { results = [] } = await response.json();
        const done = results.findIndex(({ status }) => status !== 'success' && status !== 'fatal_error');
        queue.splice(0, done < 0 ? results.length : done);
        changed();
        if (done >= 0 || results.length === 0) await pause(1000);
      }
    } catch {
      await pause(1000);
      setTimeout(upload);
    } finally {
      uploading = false;
    }
    if (isOnline && queue.length === 0) await fetch(`${url}/write-checkpoint2.json`);
  }

  function otherUser(owner) {
    trouble(`The queued writes are of another user, so they are not uploaded. Sign in as ${Object.keys(users).find((n) => n === owner) ?? owner} again, or discard them.`, () => {
      queue.length = 0;
      trouble();
      changed();
      upload();
    });
  }

  /** Reads what the user may see, and shows it while nothing is queued. */
  async function download({ signal }) {
    while (!signal.aborted) {
      try {
        const response = await fetch(`${url}/sync/stream`, { method: 'POST', signal, headers: { Authorization: `Token ${await token(user)}` } });
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = '';
        let arrived = new Map();
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          const lines = (text + value).split('\n');
          text = lines.pop();
          for (const line of lines.map((l) => JSON.parse(l))) {
            if (line.data) arrived = new Map(line.data.data.map(({ object_id, data }) => [object_id, JSON.parse(data)]));
            if (line.checkpoint_complete && queue.length === 0) {
              rows = arrived;
              changed();
            }
          }
        }
      } catch {
        // offline, or the service ended
      }
      await pause(500);
    }
  }

  return {
    kind: 'A simulation of a PowerSync client. For the real one, run npm ci in tests/e2e of the repository, and load this page again.',
    lists: async () => [...rows].map(([id, { name }]) => ({ id, name })).sort((a, b) => (a.name ?? '').localeCompare(b.name ?? '')),
    queue: async () => queue.map(({ transaction_id, crud: [{ op, id, op_data }] }) => `${transaction_id}: ${op} ${id.slice(0, 8)} ${op_data?.name ?? ''}`),
    add: async (name) => local('PUT', uuid(), { name }),
    rename: async (id, name) => local('PATCH', id, { name }),
    remove: async (id) => local('DELETE', id),
    async online(on) {
      isOnline = on;
      stop.abort();
      stop = new AbortController();
      if (on) {
        download(stop);
        upload();
      }
    },
    async signIn(as) {
      user = as;
      if (queue.length === 0) rows = new Map();
      changed();
      if (isOnline) await this.online(true);
    }
  };
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  return [...bytes].map((b) => b.toString(16).padStart(2, '0')).join('').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
