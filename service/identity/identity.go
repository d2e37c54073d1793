package identity

import (
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Identity is a user whose token was verified.
type Identity struct {
	Issuer    string         // the iss claim
	Subject   string         // the sub claim; not blank, no NUL
	Role      string         // the database role to write as; one of the issuer's Roles
	SessionID string         // the session_id claim; empty if there is none
	KeyID     string         // the token's kid; may be empty with HS256
	Algorithm string         // the token's alg
	Audience  []string       // the aud claim
	IssuedAt  time.Time      // the iat claim
	ExpiresAt time.Time      // the exp claim
	Claims    jsontext.Value // the token's claims as the issuer spelled them, a JSON object

	ClaimedRole string // the role claim; empty if there is none, or no Verifier has read the claims
}

// Kind is the class of a refusal. Clients may see it.
type Kind string

// The kinds of refusals.
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
	Revoked        Kind = "session ended"     // the user signed out or is banned, or the issuer does not accept the token
	Unavailable    Kind = "cannot verify now" // a failure here or at the issuer; the token may be good
)

// Refusal is the error of Verify. Its text is for the log: it may quote the token's
// alg or role, but never the token. Clients see only the Kind.
type Refusal struct {
	Kind       Kind
	Reason     string
	Issuer     string        // the token's iss claim, cut to 100 bytes; empty if it cannot be read
	KeyID      string        // the token's kid, in the same way
	RetryAfter time.Duration // with Unavailable: whole seconds, 1 or more
}

func (r *Refusal) Error() string {
	if r.Reason == "" {
		return string(r.Kind)
	}
	return string(r.Kind) + ": " + r.Reason
}

// unavailable refuses a token that could not be verified.
func unavailable(reason string, retryAfter time.Duration) *Refusal {
	return &Refusal{Kind: Unavailable, Reason: reason, RetryAfter: max(time.Second, retryAfter.Round(time.Second))}
}

// BearerToken returns the token of an Authorization header's value (RFC 6750, section
// 2.1). The scheme may be in any case (RFC 9110, section 11.1). The result is empty
// if the header has another scheme or no token.
func BearerToken(authorization string) string {
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.Trim(token, " ")
}
