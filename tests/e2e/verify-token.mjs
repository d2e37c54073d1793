// Verifies the token in TOKEN as the PowerSync Service does: with the library that it
// uses, and the checks of its RemoteJWKSCollector.ts and KeyStore.ts, which npm does
// not have. Prints the claims.
import * as jose from 'jose';

const response = await fetch(process.env.KEY_SET, { headers: { Accept: 'application/json' } });
const { keys } = await response.json();
const usable = keys.filter(
  (key) => ['RSA', 'OKP', 'EC'].includes(key.kty) && (key.use ?? 'sig') === 'sig' && (key.key_ops ?? ['verify']).includes('verify')
);

const { payload } = await jose.jwtVerify(
  process.env.TOKEN,
  async ({ kid, alg }) => {
    const key = usable.find((each) => each.kid === kid);
    if (!key || (key.alg ?? alg) !== alg) {
      throw new Error(`no key with kid ${kid} and alg ${alg}`);
    }
    return jose.importJWK(key);
  },
  { clockTolerance: 60, algorithms: ['RS256', 'RS384', 'RS512', 'ES256', 'ES384', 'ES512', 'EdDSA'], requiredClaims: ['sub', 'iat', 'exp', 'aud'] }
);
if (![payload.aud].flat().includes(process.env.AUDIENCE)) {
  throw new Error(`unexpected aud ${payload.aud}`);
}
if (payload.exp - payload.iat > 86_400) {
  throw new Error(`lives for ${payload.exp - payload.iat} seconds`);
}
console.log(JSON.stringify({ claims: payload, thumbprint: await jose.calculateJwkThumbprint(usable[0]) }));
