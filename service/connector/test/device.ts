// As much of the SDK's database as the connector uses, on SQLite, and a server that
// answers as told.
import { DatabaseSync } from 'node:sqlite';

import { PosternConnector, type Database, type PosternOptions } from '../src/index.ts';

/** A token of the user, unsigned. */
export function tokenOf(user: string, more: object = {}): string {
  return `e30.${Buffer.from(JSON.stringify({ sub: user, ...more })).toString('base64url')}.`;
}

export interface Queue extends Database {
  /** Queues a transaction with so many operations. */
  write(operations?: number): void;
  /** The ids of the queued transactions. */
  left(): number[];
}

/** An upload queue with transactions 1 to n. */
export function queueOf(n: number, operations = 1): Queue {
  const sqlite = new DatabaseSync(':memory:');
  sqlite.exec('CREATE TABLE ps_crud (id INTEGER PRIMARY KEY AUTOINCREMENT, data TEXT, tx_id INTEGER)');
  let written = 0;
  let lock: Promise<unknown> = Promise.resolve();
  const sql = {
    execute: async (query: string, parameters: string[] = []) => sqlite.prepare(query).run(...parameters),
    getOptional: async (query: string, parameters: string[] = []) => sqlite.prepare(query).get(...parameters) ?? null
  };
  const entry = ({ id, tx_id }: Record<string, any>) => ({
    clientId: id, transactionId: tx_id, op: 'PATCH', table: 'lists', id: `row ${id}`,
    opData: { name: 'new' }, previousValues: { name: 'old' }, metadata: 'about it'
  });
  const transaction = (id: number) => ({
    transactionId: id,
    crud: sqlite.prepare('SELECT * FROM ps_crud WHERE tx_id = ? ORDER BY id').all(id).map(entry),
    complete: async () => void sqlite.prepare('DELETE FROM ps_crud WHERE tx_id <= ?').run(id)
  });
  const queue = {
    ...sql,
    write(operations = 1) {
      written++;
      for (let i = 0; i < operations; i++) {
        sqlite.prepare('INSERT INTO ps_crud (tx_id) VALUES (?)').run(written);
      }
    },
    left: () => sqlite.prepare('SELECT DISTINCT tx_id FROM ps_crud ORDER BY tx_id').all().map(({ tx_id }) => tx_id as number),
    writeTransaction: (work: (tx: typeof sql) => Promise<unknown>) => (lock = lock.then(() => work(sql))),
    getClientId: async () => 'device',
    getNextCrudTransaction: async () => (queue.left()[0] ? transaction(queue.left()[0]!) : null),
    async *getCrudTransactions() {
      yield* queue.left().map(transaction);
    }
  };
  for (let i = 0; i < n; i++) {
    queue.write(operations);
  }
  return queue as unknown as Queue;
}

export interface Request {
  method: string;
  path: string;
  token: string;
  packed: boolean;
  body: any;
}

/** What was sent, of which long bodies are packed. */
export async function unpacked({ headers, body }: { headers: Record<string, string>; body?: string | ArrayBuffer }): Promise<any> {
  const sent = new Blob(body === undefined ? [] : [body]).stream();
  const text = await new Response('Content-Encoding' in headers ? sent.pipeThrough(new DecompressionStream('gzip')) : sent).text();
  return text && JSON.parse(text);
}

/** What the server answers: results, a whole body, or the status of a refusal with its headers. */
export type Answer = object | number | { status: number; headers: Record<string, string> } | ((request: Request) => Answer);

/** A connector of Alice, and the requests that it has made. They are answered in turn. */
export function connectorOf(database: Database, answers: Answer[], options: Partial<PosternOptions> = {}) {
  const requests: Request[] = [];
  const connector = new PosternConnector({
    url: 'https://postern.example.com/',
    database,
    getToken: async () => tokenOf('alice'),
    fetch: async (url, { method, headers, body }) => {
      const request = {
        method,
        path: url.replace('https://postern.example.com', ''),
        token: headers.Authorization!.replace('Bearer ', ''),
        packed: 'Content-Encoding' in headers,
        body: await unpacked({ headers, ...(body !== undefined && { body }) })
      };
      requests.push(request);
      let answer = answers.shift() ?? 500;
      if (typeof answer === 'function') {
        answer = answer(request) as object;
      }
      if (typeof answer === 'number') {
        return Response.json({ message: 'refused' }, { status: answer });
      }
      if ('headers' in answer) {
        return Response.json({ message: 'refused' }, answer as ResponseInit);
      }
      return Response.json(Array.isArray(answer) ? { results: answer } : answer);
    },
    ...options
  });
  /** The ids of the transactions of each upload. */
  const sent = () => requests.filter(({ path }) => path === '/api/data').map(({ body }) => body.transactions.map((t: any) => t.transaction_id));
  return { connector, requests, sent };
}

export const success = { status: 'success' };
export const notAttempted = { status: 'not_attempted' };
export const retryable = { status: 'retryable_error', message: 'later', retry_after_ms: 1 };
export const fatal = (requires_client_handling?: boolean) => ({
  status: 'fatal_error',
  message: 'no',
  requires_client_handling,
  failed_operation: { error_code: 'CHECK_VIOLATION', message: 'no' }
});
