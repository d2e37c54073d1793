/** As much of fetch as the connector uses. A body is JSON, as an ArrayBuffer if it is packed. */
export type Fetch = (
  url: string,
  init: { method: string; headers: Record<string, string>; body?: string | ArrayBuffer; signal: AbortSignal }
) => Promise<{
  ok: boolean;
  status: number;
  statusText: string;
  headers: { get(name: string): string | null };
  json(): Promise<unknown>;
}>;

/** A shorter body, in characters, is not packed: one packet has room for it. */
const PACK_OVER = 1024;

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
  #packs = true;

  constructor(url: string, fetch: Fetch, timeoutMs: number) {
    this.#url = url.replace(/\/+$/, '');
    this.#fetch = fetch;
    this.#timeoutMs = timeoutMs;
  }

  request(abort: AbortSignal, method: 'GET' | 'POST', path: string, token: string, body?: unknown): Promise<unknown> {
    return this.timed(abort, path, async (signal) => {
      const response = await this.#send(signal, method, path, token, body === undefined ? undefined : JSON.stringify(body));
      const answer = await response.json().catch(() => null); // a proxy's may not be JSON
      if (!response.ok) {
        const seconds = Number(response.headers.get('Retry-After')); // NaN if it is a date: the device's clock may be wrong
        const message = (answer as { message?: string } | null)?.message ?? response.statusText;
        throw new PosternError(response.status, message, seconds > 0 ? seconds * 1000 : 0);
      }
      if (answer === null) {
        throw new Error(`${path}: the answer is not JSON, so it is not Postern's`);
      }
      return answer;
    });
  }

  /** Sends a request. A long body is packed, if the platform can do that. */
  async #send(signal: AbortSignal, method: string, path: string, token: string, json?: string): ReturnType<Fetch> {
    const packed = this.#packs && json !== undefined && json.length > PACK_OVER ? await gzip(json) : null;
    const headers = {
      Authorization: `Bearer ${token}`,
      ...(json !== undefined && { 'Content-Type': 'application/json' }),
      ...(packed && { 'Content-Encoding': 'gzip' })
    };
    const body = packed ?? json;
    const response = await this.#fetch(this.#url + path, { method, headers, ...(body !== undefined && { body }), signal });
    if (packed && response.status === 415) { // a proxy's: Postern takes it
      this.#packs = false;
      return this.#send(signal, method, path, token, json);
    }
    return response;
  }

  /** Runs work that must not take longer than a request. */
  timed<T>(abort: AbortSignal, name: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return abortable(abort, work, { name, afterMs: this.#timeoutMs });
  }
}

/** Returns null if the platform cannot pack. React Native cannot. */
async function gzip(text: string): Promise<ArrayBuffer | null> {
  try {
    return await new Response(new Blob([text]).stream().pipeThrough(new CompressionStream('gzip'))).arrayBuffer();
  } catch {
    return null;
  }
}

/**
 * Settles as work does, or fails when it is aborted or takes too long, even if work never
 * settles: after a suspension, requests and the locks of auth libraries may not.
 */
export function abortable<T>(
  abort: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
  timeout?: { name: string; afterMs: number }
): Promise<T> {
  return new Promise((resolve, reject) => {
    const own = new AbortController();
    const end = (message: string) => {
      const error = new Error(message);
      own.abort(error);
      reject(error);
      release();
    };
    const onAbort = () => end('aborted');
    // Not AbortSignal.timeout or AbortSignal.any: React Native has none.
    const timer = timeout && setTimeout(() => end(`${timeout.name}: no answer in ${timeout.afterMs} ms`), timeout.afterMs);
    const release = () => {
      clearTimeout(timer);
      abort.removeEventListener('abort', onAbort);
    };
    if (abort.aborted) {
      onAbort();
      return;
    }
    abort.addEventListener('abort', onAbort);
    (async () => work(own.signal))().then(resolve, reject).finally(release);
  });
}
