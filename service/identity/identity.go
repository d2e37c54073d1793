// Package identity turns a bearer token into an Identity, or refuses it.
//
// Who may issue tokens is given as data (Issuer); the token's own iss claim only
// picks among those. Signatures are checked with the issuer's published key set
// alone. What the user may then do is not decided here.
package identity

import (
	"errors"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Identity is a user, as an issuer vouched for them.
type Identity struct {
	Issuer    string         // the iss claim
	Subject   string         // the sub claim; not empty, no NUL
	Role      string         // the database role to write as; always one of the issuer's Roles
	SessionID string         // the session_id claim; empty where the issuer has none
	KeyID     string         // the key that signed the token; empty with a shared secret
	Algorithm string         // the token's alg
	Audience  []string       // the aud claim
	IssuedAt  time.Time      // the iat claim
	ExpiresAt time.Time      // the exp claim
	Claims    jsontext.Value // the token's claims as they were signed, a JSON object
}

// Kind is the class of a refusal. A client may be told it.
type Kind string

// Every way a token is refused.
const (
	Missing        Kind = "missing token"
	NotAToken      Kind = "malformed token"
	UnknownIssuer  Kind = "unknown issuer"
	UnknownKey     Kind = "unknown key"
	WrongAlgorithm Kind = "wrong algorithm"
	BadSignature   Kind = "bad signature"
	Expired        Kind = "expired token"
	NotYetValid    Kind = "token not valid yet"
	WrongAudience  Kind = "wrong audience"
	NoSubject      Kind = "token without a user"
	WrongRole      Kind = "role not allowed"
	Anonymous      Kind = "anonymous users are not allowed"
	Revoked        Kind = "session ended"
	Unavailable    Kind = "cannot verify now" // our side's or the issuer's trouble; the token may be good
)

// Refusal is the error of Verify. Its text has no part of the token beyond the
// issuer and key id and is fit for a log; a client is told the Kind alone.
type Refusal struct {
	Kind       Kind
	Reason     string
	Issuer     string        // as the token claims it, at most 200 bytes; empty when unreadable
	KeyID      string        // likewise
	RetryAfter time.Duration // with Unavailable
}

func (r *Refusal) Error() string {
	if r.Reason == "" {
		return string(r.Kind)
	}
	return string(r.Kind) + ": " + r.Reason
}

// IsUnavailable reports whether err says that the token could not be judged, so
// that the same token may be accepted a moment later.
func IsUnavailable(err error) bool {
	var refusal *Refusal
	return errors.As(err, &refusal) && refusal.Kind == Unavailable
}
