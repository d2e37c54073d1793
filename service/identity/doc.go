// Package identity turns a bearer token into an Identity, or refuses it. What
// the user may then do is not decided here.
//
// # Trust
//
// Who may issue tokens is given as data (Issuer). The token's own iss claim only
// picks among those, before anything of it is believed. Nothing in a token adds a
// key: jku, x5u, x5c and jwk headers are not read. Each issuer has a keyfunc of
// its own, so that one issuer's key never verifies another's token.
//
// A token is decoded once, strictly: no duplicate names, no padding, no stray
// bits, no line breaks (decodeToken). The same decoding serves the signature's
// check and the claims', so that the two cannot read different tokens.
//
// # How a token is proven
//
//	alg of the issuer's list  the key of its key set that kid names, for the one algorithm of that key
//	HS256, with Secret        the shared secret; never where kid names a key of the key set
//	HS256, with Introspect    the issuer itself says so; only while its key set has no usable key
//	anything else             refused
//
// Then the claims are judged, however the token was proven. With CheckSessions
// the issuer is asked about every token on top (sessions).
//
// # Key sets
//
// One goroutine an issuer fetches its key set: at start, every few minutes, and
// sooner when a token names an unknown key or the last fetch failed. A fetch
// brings the whole set, so one fetch at a bounded rate serves all who wait, and
// a flood of made-up kids only makes the set fresher. A known kid never waits. A
// fetch that fails leaves the last good keys in use.
//
// # Failures
//
// A token that is bad is refused with the Kind that says why. A token that
// cannot be judged (no keys yet, key server or Auth server out of reach, asked
// too often) is refused as Unavailable: the client may keep it and come back.
package identity
