import { subjectOf } from './token.ts';
import { PosternError, type Transport } from './transport.ts';

const FRESH_AGAIN_MS = 30_000; // after a fresh token was refused

/** The user of a call of the SDK, and a token that names them. */
export interface Session {
  token: string;
  readonly user: string;
  readonly abort: AbortSignal;
}

export type GetToken = (hint: { fresh: boolean }) => Promise<string | null>;

/** Sends requests as the user who is signed in. */
export class Sessions {
  readonly #getToken: GetToken;
  readonly #transport: Transport;
  #latestToken: string | null = null;
  #fresh: Promise<unknown> | null = null; // while a fresh token is asked for
  #freshNotBefore = 0;

  constructor(getToken: GetToken, transport: Transport) {
    this.#getToken = getToken;
    this.#transport = transport;
  }

  /** Returns the session of the user who is signed in, null if nobody is. */
  async start(abort: AbortSignal, fresh = false): Promise<Session | null> {
    const token = await this.#transport.timed(abort, 'getToken', () => this.#getToken({ fresh }));
    this.#latestToken = token;
    return token === null ? null : { token, user: subjectOf(token), abort };
  }

  /** Sends a request, and once more with a fresh token if the one at hand is refused. */
  async request(session: Session, method: 'GET' | 'POST', path: string, body?: unknown): Promise<unknown> {
    const send = () => this.#transport.request(session.abort, method, path, session.token, body);
    try {
      return await send();
    } catch (error) {
      if (!isRefusedToken(error) || now() < this.#freshNotBefore || !(await this.#renew(session))) {
        throw error;
      }
    }
    try {
      return await send();
    } catch (error) {
      if (isRefusedToken(error)) {
        this.#freshNotBefore = now() + FRESH_AGAIN_MS; // another one would be refused, too
      }
      throw error;
    }
  }

  /** Gives the session another token of its user, and reports whether there is one. */
  async #renew(session: Session): Promise<boolean> {
    // Another request may have got one since, or may be waiting for one.
    if (this.#latestToken === session.token) {
      this.#fresh ??= this.start(session.abort, true).finally(() => (this.#fresh = null));
      await this.#fresh;
    }
    const token = this.#latestToken;
    if (token === null || token === session.token || subjectOf(token) !== session.user) {
      return false;
    }
    session.token = token;
    return true;
  }
}

function isRefusedToken(error: unknown): boolean {
  return error instanceof PosternError && (error.status === 401 || error.status === 403); // 403 is a proxy's
}

/** The time in milliseconds from any moment on. Date.now() jumps if the device's clock is set. */
export function now(): number {
  return performance.now();
}
