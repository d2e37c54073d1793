package identity

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

const (
	leeway        = 30 * time.Second
	maxTokenBytes = 16 << 10
	maxTime       = 253402300799 // 9999-12-31T23:59:59Z, the last second most clients can show
)

// Verifier judges tokens. It is safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer
	now     func() time.Time
}

type issuer struct {
	Issuer
	keys   *keySet
	parser *jwt.Parser
}

// NewVerifier starts fetching the key sets of the issuers, until ctx ends. An
// issuer that cannot be reached is no error here: see Ready. A nil now is
// time.Now.
func NewVerifier(ctx context.Context, issuers []Issuer, logger *slog.Logger, now func() time.Time) (*Verifier, error) {
	if now == nil {
		now = time.Now
	}
	v := &Verifier{issuers: make(map[string]*issuer, len(issuers)), now: now}
	client := newHTTPClient()
	for _, description := range issuers {
		if err := description.Validate(); err != nil {
			return nil, err
		}
		if v.issuers[description.Issuer] != nil {
			return nil, fmt.Errorf("issuer %q is configured twice", description.Issuer)
		}
		keys, err := newKeySet(ctx, description.KeySetURL, client, logger)
		if err != nil {
			return nil, fmt.Errorf("issuer %q: %w", description.Issuer, err)
		}
		algorithms := description.Algorithms
		if description.Secret != nil {
			algorithms = append(slices.Clone(algorithms), "HS256")
		}
		v.issuers[description.Issuer] = &issuer{
			Issuer: description,
			keys:   keys,
			// The claims are checked in check, from a decoding that refuses
			// duplicates; the library is asked for the signature alone.
			parser: jwt.NewParser(jwt.WithValidMethods(algorithms), jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding()),
		}
	}
	return v, nil
}

// Ready says which issuers' keys have never been fetched; nil when none.
func (v *Verifier) Ready(ctx context.Context) error {
	var missing []string
	for name, i := range v.issuers {
		if i.keys.memory.ready() {
			continue
		}
		// Asking is also what makes a set that was out of reach at start arrive.
		if refusal := i.keys.find(ctx, ""); refusal != nil && !i.keys.memory.ready() {
			missing = append(missing, name)
		}
	}
	if missing == nil {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("no key set yet from %s", strings.Join(missing, ", "))
}

type header struct {
	Algorithm string         `json:"alg"`
	KeyID     *string        `json:"kid"`
	Critical  jsontext.Value `json:"crit"`
}

type claims struct {
	Issuer    string         `json:"iss"`
	Subject   *string        `json:"sub"`
	Audience  audience       `json:"aud"`
	Expires   *numericDate   `json:"exp"`
	IssuedAt  *numericDate   `json:"iat"`
	NotBefore *numericDate   `json:"nbf"`
	Role      *string        `json:"role"`
	SessionID jsontext.Value `json:"session_id"`
	Anonymous bool           `json:"is_anonymous"`
}

// Verify judges a bearer token. Every error is a *Refusal.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	if token == "" {
		return Identity{}, &Refusal{Kind: Missing}
	}
	head, body, raw, refusal := decodeToken(token)
	if refusal == nil {
		var id Identity
		if id, refusal = v.judge(ctx, token, head, body); refusal == nil {
			id.Claims = raw
			return id, nil
		}
	}
	refusal.Issuer = truncate(body.Issuer)
	if head.KeyID != nil {
		refusal.KeyID = truncate(*head.KeyID)
	}
	return Identity{}, refusal
}

func (v *Verifier) judge(ctx context.Context, token string, head header, body claims) (Identity, *Refusal) {
	i, ok := v.issuers[body.Issuer]
	if !ok {
		return Identity{}, &Refusal{Kind: UnknownIssuer}
	}
	if refusal := i.verifySignature(ctx, token, head); refusal != nil {
		return Identity{}, refusal
	}
	role, refusal := i.check(body, v.now())
	if refusal != nil {
		return Identity{}, refusal
	}
	id := Identity{
		Issuer:    body.Issuer,
		Subject:   *body.Subject,
		Role:      role,
		Algorithm: head.Algorithm,
		Audience:  body.Audience,
		IssuedAt:  body.IssuedAt.time(),
		ExpiresAt: body.Expires.time(),
	}
	if head.KeyID != nil {
		id.KeyID = *head.KeyID
	}
	if body.SessionID.Kind() == '"' {
		if err := json.Unmarshal(body.SessionID, &id.SessionID); err != nil {
			return Identity{}, &Refusal{Kind: NotAToken, Reason: "session_id is not text"}
		}
	}
	return id, nil
}

// verifySignature checks the token against the issuer's keys alone. HS256 comes
// into play only where the issuer has a shared secret and the token names no
// key, so that no public key can ever serve as a secret.
func (i *issuer) verifySignature(ctx context.Context, token string, head header) *Refusal {
	var key jwt.Keyfunc
	switch {
	case head.Algorithm == "HS256" && i.Secret != nil && head.KeyID == nil:
		key = func(*jwt.Token) (any, error) { return i.Secret, nil }
	case !slices.Contains(i.Algorithms, head.Algorithm):
		return &Refusal{Kind: WrongAlgorithm, Reason: fmt.Sprintf("%q is not one of %v", truncate(head.Algorithm), i.Algorithms)}
	case head.KeyID == nil:
		return &Refusal{Kind: UnknownKey, Reason: "the token's header has no kid"}
	default:
		if refusal := i.keys.find(ctx, *head.KeyID); refusal != nil {
			return refusal
		}
		key = i.keys.keyfunc.KeyfuncCtx(ctx)
	}
	if _, err := i.parser.Parse(token, key); err != nil {
		if errors.Is(err, jwt.ErrTokenMalformed) {
			return &Refusal{Kind: NotAToken}
		}
		return &Refusal{Kind: BadSignature}
	}
	return nil
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
		return "", &Refusal{Kind: WrongAudience, Reason: fmt.Sprintf("none of %v", i.Audience)}
	case body.Subject == nil || strings.TrimSpace(*body.Subject) == "" || strings.ContainsRune(*body.Subject, 0):
		return "", &Refusal{Kind: NoSubject}
	case body.Anonymous && !i.Anonymous:
		return "", &Refusal{Kind: Anonymous}
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

// decodeToken reads the compact serialisation (RFC 7515, section 7.1) strictly:
// three parts of unpadded base64url, JSON objects without duplicate names, and
// no extension that must be understood (section 4.1.11).
func decodeToken(token string) (head header, body claims, raw jsontext.Value, refusal *Refusal) {
	malformed := func(reason string) (header, claims, jsontext.Value, *Refusal) {
		return head, body, nil, &Refusal{Kind: NotAToken, Reason: reason}
	}
	if len(token) > maxTokenBytes {
		return malformed(fmt.Sprintf("longer than %d bytes", maxTokenBytes))
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return malformed(fmt.Sprintf("%d parts, not 3", len(parts)))
	}
	strict := base64.RawURLEncoding.Strict()
	headBytes, err := strict.DecodeString(parts[0])
	if err != nil || json.Unmarshal(headBytes, &head) != nil {
		return malformed("unreadable header")
	}
	raw, err = strict.DecodeString(parts[1])
	if err != nil || raw.Kind() != '{' {
		return malformed("unreadable claims")
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		var semantic *json.SemanticError
		if errors.As(err, &semantic) {
			return malformed("claim " + truncate(semantic.JSONPointer.LastToken()) + " is of a wrong type")
		}
		return malformed("unreadable claims")
	}
	if head.Critical != nil {
		return malformed("the header has critical extensions")
	}
	return head, body, raw, nil
}

// audience is the aud claim: a string or an array of strings.
type audience []string

func (a *audience) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == '"' {
		var one string
		err := json.UnmarshalDecode(d, &one)
		*a = audience{one}
		return err
	}
	return json.UnmarshalDecode(d, (*[]string)(a))
}

// numericDate is a time claim in seconds since 1970; fractions are allowed.
type numericDate float64

func (n *numericDate) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var seconds float64
	if err := json.UnmarshalDecode(d, &seconds); err != nil {
		return err
	}
	if seconds < 0 || seconds > maxTime {
		return errors.New("out of range")
	}
	*n = numericDate(seconds)
	return nil
}

func (n numericDate) time() time.Time {
	whole, fraction := math.Modf(float64(n))
	return time.Unix(int64(whole), int64(fraction*float64(time.Second)))
}

func truncate(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	for cut := most; ; cut-- {
		if utf8.RuneStart(s[cut]) {
			return s[:cut]
		}
	}
}
