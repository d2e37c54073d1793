package identity

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"postern/service/limits"
)

// leeway is the allowed difference between the issuer's clock and ours.
const leeway = 30 * time.Second

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	issuers  map[string]*issuer
	verified verified
	now      func() time.Time
}

type issuer struct {
	Issuer
	keys     *keySet
	sessions *sessions // nil if there is no Introspect
}

// NewVerifier returns a Verifier that fetches the issuers' key sets until ctx ends. An
// issuer that cannot be reached is not an error here; see Ready. exp, iat and nbf are
// compared with now; if it is nil, with time.Now.
func NewVerifier(ctx context.Context, issuers []Issuer, logger *slog.Logger, now func() time.Time) (*Verifier, error) {
	return newVerifier(ctx, issuers, http.DefaultTransport, logger, now)
}

func newVerifier(ctx context.Context, issuers []Issuer, transport http.RoundTripper, logger *slog.Logger, now func() time.Time) (*Verifier, error) {
	if now == nil {
		now = time.Now
	}
	v := &Verifier{issuers: make(map[string]*issuer, len(issuers)), now: now, verified: verified{most: limits.This().Tokens()}}
	for _, description := range issuers {
		if err := description.Validate(); err != nil {
			return nil, err
		}
		if v.issuers[description.Issuer] != nil {
			return nil, fmt.Errorf("issuer %q is configured twice", description.Issuer)
		}
		v.issuers[description.Issuer] = &issuer{Issuer: description}
	}
	client := newHTTPClient(transport)
	for _, i := range v.issuers {
		source := keySource{issuer: i.Issuer.Issuer, url: i.KeySetURL, client: client, mayBeEmpty: i.Secret != nil || i.Introspect != nil}
		i.keys = newKeySet(ctx, source, logger)
		if i.Introspect != nil {
			i.sessions = newSessions(i.Introspect)
		}
	}
	return v, nil
}

// Ready returns an error if no issuer's keys are at hand, or if the first fetch of one is
// still running, or nil. One issuer that cannot be reached is no reason to turn the others'
// users away; its failed fetches are logged. Ready does not fetch; that happens in the
// background.
func (v *Verifier) Ready() error {
	var missing []string
	fetching := false
	for name, i := range v.issuers {
		if i.keys.current() == nil {
			missing = append(missing, name)
			fetching = fetching || !i.keys.tried.Load()
		}
	}
	if len(missing) < len(v.issuers) && !fetching {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("the key set of %s has not been fetched yet, or not for an hour", strings.Join(missing, ", "))
}

// Verify verifies a bearer token. Every error is a *Refusal. It takes some 100 µs, and
// a few for a token that it remembers. If the token's key is unknown, it takes up to
// 200 ms more. If the issuer is asked about the token, it takes up to 9 s more, or
// until ctx ends.
func (v *Verifier) Verify(ctx context.Context, text string) (Identity, error) {
	if text == "" {
		return Identity{}, &Refusal{Kind: Missing}
	}
	hash := sha256.Sum256([]byte(text))
	t, known := v.verified.find(hash)
	var refusal *Refusal
	if !known {
		t, refusal = decodeToken(text)
	}
	if refusal == nil {
		var who Identity
		if who, refusal = v.verify(ctx, hash, t); refusal == nil {
			return who, nil
		}
	}
	refusal.Issuer, refusal.KeyID = truncate(t.body.Issuer), truncate(t.head.keyID())
	return Identity{}, refusal
}

func (v *Verifier) verify(ctx context.Context, hash [sha256.Size]byte, t token) (Identity, *Refusal) {
	i, ok := v.issuers[t.body.Issuer]
	if !ok {
		return Identity{}, &Refusal{Kind: UnknownIssuer}
	}
	// If only the issuer can verify the token, it is asked at the end. The claims are
	// checked before, because most invented tokens fail there.
	introspect := i.needsIntrospection(t.head)
	var refusal *Refusal
	if introspect {
		refusal = i.requireNoKeys()
	} else {
		refusal = v.verifySignature(ctx, i, hash, t)
	}
	if refusal != nil {
		return Identity{}, refusal
	}
	role, refusal := i.checkClaims(t.body, v.now())
	if refusal != nil {
		return Identity{}, refusal
	}
	if introspect || i.CheckSessions {
		if refusal := i.sessions.check(ctx, t, !introspect); refusal != nil {
			return Identity{}, refusal
		}
	}
	return t.identity(role), nil
}

// needsIntrospection reports whether the token is signed with a shared secret that only
// the issuer has.
func (i *issuer) needsIntrospection(head header) bool {
	return head.Algorithm == hs256 && i.Secret == nil && i.sessions != nil
}

// requireNoKeys refuses an HS256 token if the issuer has usable keys, because then its
// tokens must be signed with those.
func (i *issuer) requireNoKeys() *Refusal {
	switch loaded := i.keys.current(); {
	case loaded == nil:
		return unavailable("the issuer's key set has not been fetched yet", retryEvery)
	case len(loaded.ids) > 0:
		return &Refusal{Kind: WrongAlgorithm, Reason: fmt.Sprintf("%q is not accepted, because the issuer's key set has keys", hs256)}
	}
	return nil
}

// verifySignature verifies the signature, unless it was verified before with the same
// keys.
func (v *Verifier) verifySignature(ctx context.Context, i *issuer, hash [sha256.Size]byte, t token) *Refusal {
	with := i.keys.current()
	if t.verifiedWith != nil && t.verifiedWith == with {
		return nil
	}
	key, refusal := i.key(ctx, t.head)
	if refusal != nil {
		return refusal
	}
	if err := jwt.GetSigningMethod(t.head.Algorithm).Verify(t.signed, t.signature, key); err != nil {
		return &Refusal{Kind: BadSignature}
	}
	if with != nil && with == i.keys.current() {
		v.verified.remember(hash, t, with)
	}
	return nil
}

// key returns the key that must verify the token: for HS256 the shared secret, for all
// other algorithms a key of the key set. So a public key never serves as a secret.
func (i *issuer) key(ctx context.Context, head header) (any, *Refusal) {
	switch {
	case head.Algorithm == hs256 && i.Secret != nil:
		// Supabase gives its shared secret a kid, too, so a kid is no reason to refuse.
		if i.keys.has(head.keyID()) {
			return nil, &Refusal{Kind: WrongAlgorithm, Reason: "the key with this kid is not a shared secret"}
		}
		return i.Secret, nil
	case !slices.Contains(i.Algorithms, head.Algorithm):
		return nil, &Refusal{Kind: WrongAlgorithm, Reason: fmt.Sprintf("%q is not one of %v", truncate(head.Algorithm), i.Algorithms)}
	case head.keyID() == "":
		return nil, &Refusal{Kind: UnknownKey, Reason: "the token's header has no kid"}
	}
	return i.keys.find(ctx, head)
}

// checkClaims checks the claims (RFC 7519, section 4.1) and returns the role to write as.
func (i *issuer) checkClaims(body claims, now time.Time) (role string, refusal *Refusal) {
	switch {
	case body.Expires == nil || body.IssuedAt == nil:
		return "", &Refusal{Kind: NotAToken, Reason: "exp and iat are required"}
	case !now.Before(body.Expires.time().Add(leeway)):
		return "", &Refusal{Kind: Expired}
	case body.IssuedAt.time().After(now.Add(leeway)):
		return "", &Refusal{Kind: NotYetValid, Reason: "iat is in the future"}
	case body.NotBefore != nil && body.NotBefore.time().After(now.Add(leeway)):
		return "", &Refusal{Kind: NotYetValid, Reason: "nbf is in the future"}
	case !slices.ContainsFunc(body.Audience, func(a string) bool { return slices.Contains(i.Audience, a) }):
		return "", &Refusal{Kind: WrongAudience, Reason: fmt.Sprintf("none of %q", i.Audience)}
	case body.Subject == nil || strings.TrimSpace(*body.Subject) == "" || strings.ContainsRune(*body.Subject, 0):
		return "", &Refusal{Kind: NoSubject}
	case body.anonymous() && !i.Anonymous:
		return "", &Refusal{Kind: Anonymous}
	case isSet(body.Banned):
		return "", &Refusal{Kind: Revoked, Reason: "the issuer says that the user is banned"}
	}
	role = i.Role
	if body.Role != nil {
		role = *body.Role
	}
	if !slices.Contains(i.Roles, role) {
		return "", &Refusal{Kind: WrongRole, Reason: fmt.Sprintf("%q is not one of %v", truncate(role), i.Roles)}
	}
	return role, nil
}

// identity returns the user of a verified token.
func (t token) identity(role string) Identity {
	who := Identity{
		Issuer:    t.body.Issuer,
		Subject:   *t.body.Subject,
		Role:      role,
		KeyID:     t.head.keyID(),
		Algorithm: t.head.Algorithm,
		Audience:  t.body.Audience,
		IssuedAt:  t.body.IssuedAt.time(),
		ExpiresAt: t.body.Expires.time(),
		Claims:    t.raw,
		SessionID: t.sessionID(),
	}
	if t.body.Role != nil {
		who.ClaimedRole = *t.body.Role
	}
	return who
}

// sessionID is the session_id claim; empty if there is none.
func (t token) sessionID() (id string) {
	if t.body.SessionID.Kind() == '"' {
		_ = json.Unmarshal(t.body.SessionID, &id) // it is a string, so this cannot fail
	}
	return id
}
