// Package identity turns a bearer token into an Identity, or refuses it. It also makes
// tokens for the PowerSync Service. It does not decide what the user may do.
//
// # Trust
//
// The configuration lists the issuers (Issuer). The token's iss claim only selects
// one of them. No token can add a key: the headers jku, x5u, x5c and jwk are not
// read. Each issuer has its own keys, so one issuer's key never verifies another
// issuer's token.
//
// A token is decoded once and strictly: no duplicate names, no padding, no stray
// bits, no line breaks (decodeToken). The signature and the claims come from the same
// decoding, so they cannot belong to different tokens.
//
// # How a token is verified
//
//	alg of the issuer's list  by the key of its key set that kid names, with that key's one algorithm
//	HS256, with Secret        by the shared secret, unless kid names a key of the key set
//	HS256, with Introspect    by asking the issuer, as long as its key set has no usable key
//	anything else             is refused
//
// In every case the claims are checked next (checkClaims). With CheckSessions, the
// issuer is also asked about every token (sessions). Questions about tokens that may be
// invented have turns of their own, so that a flood of them does not delay users whose
// session the issuer has confirmed before. A user who is new must wait among them.
//
// A signature is checked once for each token and key set (verified.go). The claims and
// the session are checked each time.
//
// # Key sets
//
// One goroutine for each issuer fetches its key set: at the start, every few minutes,
// and sooner if a token names an unknown key or the last fetch failed. Fetches for
// unknown keys have a bounded rate, and one fetch answers all requests that wait. So
// a flood of invented kids cannot overload the issuer. A known kid never waits. If a
// fetch fails, or brings no usable key, the last good keys stay in use for an hour. After
// that, and at the start, tokens cannot be verified: clients try again, and the service is
// not ready. A set without keys is right only for an issuer with Secret or Introspect.
//
// So a key that the issuer has revoked works for 7 minutes more, and for an hour if the
// issuer cannot be reached, beside the time that the issuer's own caches take. Supabase's
// take 10 minutes.
//
// # Tokens for the PowerSync Service
//
// PowerSyncMismatch says whether the PowerSync Service can accept a user's token. If it
// cannot, a Minter may sign another one for the user, with a key of Postern's own. Such
// a token has a typ of its own, so that no configuration makes it one that Verify
// accepts. It expires no later than the user's token.
//
// # Failures
//
// A bad token is refused with the Kind of its problem. If a token cannot be verified
// now, it is refused as Unavailable, and the client may send it again. That is so if
// there are no keys yet, or the issuer cannot be reached or is asked too often.
package identity
