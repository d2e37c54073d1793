/** As much of fetch as the connector uses. */
export type Fetch = (
  url: string,
  init: { method: string; headers: Record<string, string>; body?: string; signal: AbortSignal }
) => Promise<{
  ok: boolean;
  status: number;
  statusText: string;
  headers: { get(name: string): string | null };
  json(): Promise<unknown>;
}>;

/** Postern refused a request as a whole; nothing of it was tried. */
export class PosternError extends Error {
  /** The HTTP status. */
  readonly status: number;
  /** For how many milliseconds the server asks to be left alone. */
  readonly retryAfterMs: number;

  constructor(status: number, message: string, retryAfterMs = 0) {
    super(`Postern answered ${status}: ${message}`);
    this.name = 'PosternError';
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Sends requests to Postern. */
export class Transport {
  readonly #url: string;
  readonly #fetch: Fetch;
  readonly #timeoutMs: number;
  readonly #running = new Set<(reason: Error) => void>();

  constructor(url: string, fetch: Fetch, timeoutMs: number) {
    this.#url = url.replace(/\/+$/, '');
    this.#fetch = fetch;
    this.#timeoutMs = timeoutMs;
  }

  /** Ends everything that runs. What is started later is not affected. */
  abort(): void {
    for (const end of [...this.#running]) {
      end(new Error('aborted'));
    }
  }

  async request(method: 'GET' | 'POST', path: string, token: string, body?: unknown): Promise<unknown> {
    return this.timed(path, async (signal) => {
      const response = await this.#fetch(this.#url + path, {
        method,
        headers: { Authorization: `Bearer ${token}`, ...(body !== undefined && { 'Content-Type': 'application/json' }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal
      });
      if (response.ok) {
        return response.json();
      }
      const problem = (await response.json().catch(() => null)) as { message?: string } | null; // a proxy's may not be JSON
      const seconds = Number(response.headers.get('Retry-After')); // NaN if it is a date: the device's clock may be wrong
      throw new PosternError(response.status, problem?.message ?? response.statusText, seconds > 0 ? seconds * 1000 : 0);
    });
  }

  /** Runs work that must not take longer than a request. */
  timed<T>(name: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return this.#run(work, (end) => {
      // Not AbortSignal.timeout: React Native has none.
      const timer = setTimeout(() => end(new Error(`${name}: no answer in ${this.#timeoutMs} ms`)), this.#timeoutMs);
      return () => clearTimeout(timer);
    });
  }

  /** Runs work that may take as long as a person does. */
  untimed<T>(work: () => Promise<T>): Promise<T> {
    return this.#run(work, () => () => {});
  }

  /**
   * Settles as work does, or fails when it is ended, even if work never settles: after a
   * suspension, requests and the locks of auth libraries may not.
   */
  #run<T>(work: (signal: AbortSignal) => Promise<T>, watch: (end: (reason: Error) => void) => () => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const abort = new AbortController();
      const end = (reason: Error) => {
        abort.abort(reason);
        reject(reason);
        done();
      };
      const unwatch = watch(end);
      const done = () => {
        unwatch();
        this.#running.delete(end);
      };
      this.#running.add(end);
      work(abort.signal).then(resolve, reject).finally(done);
    });
  }
}
