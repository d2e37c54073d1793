// A user of Neon Auth, as an app's client library sees it. NEON_AUTH_URL says
// where that is.
import { randomUUID } from 'node:crypto';

import { createAuthClient } from 'better-auth/client';
import { jwtClient } from 'better-auth/client/plugins';

export class NeonUser {
  #cookie;

  /** @param {string} name of a new user, who is signed in from then on */
  static async signUp(name) {
    const response = await fetch(`${process.env.NEON_AUTH_URL}/sign-up/email`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Origin: new URL(process.env.NEON_AUTH_URL).origin },
      body: JSON.stringify({ name, email: `${name.toLowerCase()}@example.com`, password: randomUUID() })
    });
    const account = new NeonUser();
    account.id = (await read(response)).user.id;
    account.#cookie = response.headers.getSetCookie().map((cookie) => cookie.split(';')[0]).join('; ');
    return account;
  }

  /** The client library itself. Node.js keeps no cookies, so it is given them. */
  get client() {
    return createAuthClient({
      baseURL: process.env.NEON_AUTH_URL,
      plugins: [jwtClient()],
      fetchOptions: { headers: { Cookie: this.#cookie } }
    });
  }

  /** An access token, good for 15 minutes. */
  token() {
    return this.#get('/token');
  }

  /** An access token of an hour ago, as it may be in an app's cache. */
  expiredToken() {
    return this.#get('/expired-token');
  }

  async #get(path) {
    const response = await fetch(process.env.NEON_AUTH_URL + path, { headers: { Cookie: this.#cookie } });
    return (await read(response)).token;
  }
}

async function read(response) {
  if (!response.ok) {
    throw new Error(`${response.url} answered ${response.status}: ${await response.text()}`);
  }
  return response.json();
}
