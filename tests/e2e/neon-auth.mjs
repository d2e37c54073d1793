// Better Auth, set up as Neon Auth documents itself: https://neon.com/docs/auth/overview.
// It runs on a loopback port of its own, and its users live in memory. Its one line
// of output is the Auth URL, which NEON_AUTH_URL is set to; it ends with its
// standard input.
import { createServer } from 'node:http';
import { DatabaseSync } from 'node:sqlite';

import { betterAuth } from 'better-auth';
import { getMigrations } from 'better-auth/db/migration';
import { fromNodeHeaders, toNodeHandler } from 'better-auth/node';
import { admin, anonymous, jwt } from 'better-auth/plugins';

const path = '/neondb/auth';
const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const origin = `http://127.0.0.1:${server.address().port}`;

const options = {
  baseURL: origin,
  basePath: path,
  secret: 'all it protects is gone with this process',
  database: new DatabaseSync(':memory:'),
  emailAndPassword: { enabled: true },
  trustedOrigins: ['http://127.0.0.1:*'], // of web apps
  advanced: { database: { generateId: 'uuid' } },
  telemetry: { enabled: false },
  plugins: [
    admin({ defaultRole: 'authenticated', adminRoles: ['admin'] }),
    anonymous(),
    jwt({
      jwks: { jwksPath: '/.well-known/jwks.json' }, // EdDSA is the plugin's default, and so are 15 minutes
      jwt: { issuer: origin, audience: origin }
    })
  ]
};
await (await getMigrations(options)).runMigrations();
const auth = betterAuth(options);

/** The token that GET /token gave the user an hour ago. No test can wait for one to expire. */
async function expiredToken(request, response) {
  const { token } = await auth.api.getToken({ headers: fromNodeHeaders(request.headers) });
  const payload = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
  payload.iat -= 3600;
  payload.exp -= 3600;
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify(await auth.api.signJWT({ body: { payload } })));
}

const betterAuthHandler = toNodeHandler(auth);
server.on('request', (request, response) => {
  if (request.headers.origin) {
    response.setHeader('Access-Control-Allow-Origin', request.headers.origin);
    response.setHeader('Access-Control-Allow-Credentials', 'true');
    response.setHeader('Access-Control-Allow-Headers', request.headers['access-control-request-headers'] ?? '');
  }
  if (request.method === 'OPTIONS') response.end();
  else if (request.url === `${path}/expired-token`) expiredToken(request, response);
  else betterAuthHandler(request, response);
});

console.log(origin + path);
process.stdin.on('end', () => process.exit()).resume();
