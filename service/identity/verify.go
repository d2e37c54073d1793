package identity

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

// leeway is how far the issuer's clock and ours may be apart.
const leeway = 30 * time.Second

// Verifier judges tokens. It is safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer
	now     func() time.Time
}

type issuer struct {
	Issuer
	keys     *keySet
	sessions *sessions // nil without Introspect
}

// NewVerifier starts fetching the key sets of the issuers, until ctx ends. An
// issuer that cannot be reached is no error here: see Ready. now judges exp, iat
// and nbf; nil is time.Now.
func NewVerifier(ctx context.Context, issuers []Issuer, logger *slog.Logger, now func() time.Time) (*Verifier, error) {
	return newVerifier(ctx, issuers, http.DefaultTransport, logger, now)
}

func newVerifier(ctx context.Context, issuers []Issuer, transport http.RoundTripper, logger *slog.Logger, now func() time.Time) (*Verifier, error) {
	if now == nil {
		now = time.Now
	}
	v := &Verifier{issuers: make(map[string]*issuer, len(issuers)), now: now}
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
		i.keys = newKeySet(ctx, keySource{issuer: i.Issuer.Issuer, url: i.KeySetURL, client: client}, logger)
		if i.Introspect != nil {
			i.sessions = newSessions(i.Introspect)
		}
	}
	return v, nil
}

// Ready says which issuers' keys have never been fetched; nil when none. It asks
// nobody: the keys arrive by themselves once the issuer can be reached.
func (v *Verifier) Ready() error {
	var missing []string
	for name, i := range v.issuers {
		if i.keys.keys.Load() == nil {
			missing = append(missing, name)
		}
	}
	if missing == nil {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("no key set yet from %s", strings.Join(missing, ", "))
}

// Verify judges a bearer token. Every error is a *Refusal. It takes some 100 µs;
// at most 200 ms more where the token's key is not at hand, and as long as ctx or
// 5 s where the issuer itself is asked.
func (v *Verifier) Verify(ctx context.Context, text string) (Identity, error) {
	if text == "" {
		return Identity{}, &Refusal{Kind: Missing}
	}
	t, refusal := decodeToken(text)
	if refusal == nil {
		var who Identity
		if who, refusal = v.judge(ctx, t); refusal == nil {
			return who, nil
		}
	}
	refusal.Issuer, refusal.KeyID = truncate(t.body.Issuer), truncate(t.head.keyID())
	return Identity{}, refusal
}

func (v *Verifier) judge(ctx context.Context, t token) (Identity, *Refusal) {
	i, ok := v.issuers[t.body.Issuer]
	if !ok {
		return Identity{}, &Refusal{Kind: UnknownIssuer}
	}
	// Nothing speaks for a token that only the issuer can judge until it has been
	// asked, at the end. Its claims come first all the same: most tokens that are
	// made up are not worth the question.
	onlyIssuer := i.onlyIssuerJudges(t.head)
	var refusal *Refusal
	if onlyIssuer {
		refusal = i.refuseUnlessKeyless()
	} else {
		refusal = i.verifySignature(ctx, t)
	}
	if refusal != nil {
		return Identity{}, refusal
	}
	role, refusal := i.check(t.body, v.now())
	if refusal != nil {
		return Identity{}, refusal
	}
	if onlyIssuer || i.CheckSessions {
		if refusal := i.sessions.check(ctx, t.text, *t.body.Subject); refusal != nil {
			return Identity{}, refusal
		}
	}
	return t.identity(role), nil
}

// onlyIssuerJudges reports whether the token is signed with a shared secret that
// the issuer keeps to itself.
func (i *issuer) onlyIssuerJudges(head header) bool {
	return head.Algorithm == hs256 && i.Secret == nil && i.sessions != nil
}

// refuseUnlessKeyless refuses an HS256 token of an issuer that has keys: there
// the way of a key set is open, and the weaker one is not.
func (i *issuer) refuseUnlessKeyless() *Refusal {
	switch loaded := i.keys.keys.Load(); {
	case loaded == nil:
		return unavailable("the issuer's key set has not been fetched yet", retryEvery)
	case len(loaded.ids) > 0:
		return &Refusal{Kind: WrongAlgorithm, Reason: fmt.Sprintf("%q, while the issuer's key set has keys", hs256)}
	}
	return nil
}

func (i *issuer) verifySignature(ctx context.Context, t token) *Refusal {
	key, refusal := i.key(ctx, t.head)
	if refusal != nil {
		return refusal
	}
	if err := jwt.GetSigningMethod(t.head.Algorithm).Verify(t.signed, t.signature, key); err != nil {
		return &Refusal{Kind: BadSignature}
	}
	return nil
}

// key is what the token must have been signed with: the shared secret for HS256
// and nothing else, so that no public key can ever serve as a secret; for all
// other algorithms a key of the key set.
func (i *issuer) key(ctx context.Context, head header) (any, *Refusal) {
	switch {
	case head.Algorithm == hs256 && i.Secret != nil:
		// Supabase gives a kid to its shared secret, too, so that one may be there.
		if i.keys.has(head.keyID()) {
			return nil, &Refusal{Kind: WrongAlgorithm, Reason: "the key of this id is no shared secret"}
		}
		return i.Secret, nil
	case !slices.Contains(i.Algorithms, head.Algorithm):
		return nil, &Refusal{Kind: WrongAlgorithm, Reason: fmt.Sprintf("%q is not one of %v", truncate(head.Algorithm), i.Algorithms)}
	case head.keyID() == "":
		return nil, &Refusal{Kind: UnknownKey, Reason: "the token's header has no kid"}
	}
	return i.keys.find(ctx, head)
}

// check is everything the claims must say (RFC 7519, section 4.1), and the role
// they give.
func (i *issuer) check(body claims, now time.Time) (role string, refusal *Refusal) {
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
	case says(body.Banned):
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

// identity is what a token that holds says of its user.
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
	}
	if t.body.SessionID.Kind() == '"' {
		_ = json.Unmarshal(t.body.SessionID, &who.SessionID) // a string, as just seen
	}
	return who
}
