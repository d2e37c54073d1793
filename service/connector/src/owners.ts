import type { Database } from './queue.ts';

/**
 * Remembers whose the queued writes are, in a table beside the queue: so a copy of the
 * database file has both. A row says that the operations from a number on, until the
 * next row's, are of that user. A new row is made when another user is seen.
 */
export class Owners {
  readonly #database: Database;
  #table: Promise<unknown> | null = null;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Notes that what is written from now on is the user's, and what is queued if nobody was noted before. */
  async note(user: string): Promise<void> {
    await this.#ready();
    if ((await this.#database.getOptional<{ user: string }>(LAST))?.user === user) {
      return;
    }
    await this.#database.writeTransaction(async (tx) => {
      const last = await tx.getOptional<{ user: string }>(LAST);
      if (last?.user === user) {
        return; // another tab was faster
      }
      await tx.execute(last ? ADD : ADD_FIRST, [user]);
      await tx.execute(FORGET);
    });
  }

  /** Whose operation that is, and the number of the next owner's first, null if there is none. */
  async of(operation: number): Promise<{ user: string; until: number | null }> {
    await this.#ready();
    return (await this.#database.getOptional<{ user: string; until: number | null }>(OWNER, [operation, operation]))!;
  }

  /** Makes another user the owner of that operation and those up to the next owner's. */
  async handOver(operation: number, user: string): Promise<void> {
    await this.#database.execute(HAND_OVER, [user, operation]);
  }

  async #ready(): Promise<void> {
    this.#table ??= this.#database.execute(CREATE);
    try {
      await this.#table;
    } catch (error) {
      this.#table = null;
      throw error;
    }
  }
}

const CREATE = 'CREATE TABLE IF NOT EXISTS postern_queue_owners (first_op INTEGER PRIMARY KEY, user TEXT NOT NULL)';

const LAST = 'SELECT user FROM postern_queue_owners ORDER BY first_op DESC LIMIT 1';

const OWNER = `
SELECT user, (SELECT min(first_op) FROM postern_queue_owners WHERE first_op > ?) AS until
  FROM postern_queue_owners WHERE first_op <= ? ORDER BY first_op DESC LIMIT 1`;

// The SDK's queue numbers its operations with AUTOINCREMENT, so numbers are never used again.
const NEXT = `(SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'ps_crud')`;

const ADD_FIRST = 'INSERT INTO postern_queue_owners (first_op, user) VALUES (0, ?)';

const ADD = `INSERT OR REPLACE INTO postern_queue_owners (first_op, user) VALUES (${NEXT}, ?)`;

// Rows before the one that the oldest queued operation belongs to.
const FORGET = `
DELETE FROM postern_queue_owners WHERE first_op < (
  SELECT max(first_op) FROM postern_queue_owners WHERE first_op <= coalesce((SELECT min(id) FROM ps_crud), ${NEXT}))`;

const HAND_OVER = `
UPDATE postern_queue_owners SET user = ?
 WHERE first_op = (SELECT max(first_op) FROM postern_queue_owners WHERE first_op <= ?)`;
