package identity

import (
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Identity is a user, as an issuer vouched for them.
type Identity struct {
	Issuer    string         // the iss claim
	Subject   string         // the sub claim; not blank, no NUL
	Role      string         // the database role to write as; always one of the issuer's Roles
	SessionID string         // the session_id claim; empty where the issuer has none
	KeyID     string         // the token's kid; empty where it has none, as HS256 tokens may
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
	Revoked        Kind = "session ended"     // signed out, banned, or not accepted by the issuer itself
	Unavailable    Kind = "cannot verify now" // our side's or the issuer's trouble; the token may be good
)

// Refusal is the error of Verify. Its text is for the log: of the token it has
// at most the alg or role that was wrong, never the token. A client is told the
// Kind alone.
type Refusal struct {
	Kind       Kind
	Reason     string
	Issuer     string        // as the token claims it, at most 200 bytes; empty when unreadable
	KeyID      string        // likewise
	RetryAfter time.Duration // with Unavailable: whole seconds, 1 or more
}

func (r *Refusal) Error() string {
	if r.Reason == "" {
		return string(r.Kind)
	}
	return string(r.Kind) + ": " + r.Reason
}

// unavailable refuses a token that could not be judged.
func unavailable(reason string, retryAfter time.Duration) *Refusal {
	return &Refusal{Kind: Unavailable, Reason: reason, RetryAfter: max(time.Second, retryAfter.Round(time.Second))}
}

// BearerToken takes the token out of an Authorization header's value (RFC 6750,
// section 2.1; the scheme's case is free, RFC 9110, section 11.1). It is empty
// when the header has another scheme or no token.
func BearerToken(authorization string) string {
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.Trim(token, " ")
}
