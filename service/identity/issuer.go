package identity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Issuer describes one issuer of tokens and which of its tokens are accepted.
type Issuer struct {
	Issuer     string   // the exact iss claim
	KeySetURL  string   // of its JWK set; https, or http on a loopback address; if empty, OIDC discovery finds it
	Audience   []string // a token must name at least one of these
	Algorithms []string // the alg values accepted from the key set; asymmetric ones only
	Roles      []string // the database roles a token may ask for in its role claim
	Role       string   // the role of tokens without a role claim; if empty, they are refused
	Anonymous  bool     // accept tokens of anonymous users

	// Secret verifies HS256 tokens. It has at least 32 bytes. If it is nil, they are
	// refused, unless Introspect can verify them.
	Secret []byte

	// Introspect asks the issuer about a token. If Secret is nil, it verifies HS256
	// tokens, as long as the issuer's key set has no usable key.
	Introspect Introspect

	// CheckSessions calls Introspect for every token, so that users who signed out
	// or were banned are refused within 30 s.
	CheckSessions bool

	Hints Hints // for people who have to change a setting at the issuer
}

// Hints say in a sentence how to change what the PowerSync Service refuses. If one is
// empty, a general one takes its place.
type Hints struct {
	SigningKey string // to sign with an asymmetric key
	Lifetime   string // to shorten the tokens' lifetime
}

// Introspect asks an issuer whether it accepts a token now, and returns the user's
// subject. The error is ErrRefused if it does not accept the token; any other error
// means that it could not be asked. Errors go to the log and must not contain the
// token. Introspect must end when ctx does and be safe for concurrent use.
type Introspect func(ctx context.Context, token string) (subject string, err error)

// ErrRefused is Introspect's answer for a token that the issuer does not accept:
// forged, expired, signed out, or of a user who is banned or gone.
var ErrRefused = errors.New("the issuer does not accept the token")

// AsymmetricAlgorithms are the algorithms that the PowerSync Service accepts with a key
// set. Supabase, Neon and OIDC providers sign with these and no others.
var AsymmetricAlgorithms = []string{"ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512"}

const (
	hs256          = "HS256"
	minSecretBytes = 32 // RFC 7518, section 3.2: as long as the hash
)

// Validate reports every problem of the issuer's description. Its error does not
// contain the secret.
func (i Issuer) Validate() error {
	var problems []error
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("issuer %q: "+format, append([]any{i.Issuer}, args...)...))
	}
	if i.Issuer == "" {
		problem("has no iss value: set Issuer to the iss claim of its tokens")
	}
	if i.KeySetURL != "" {
		if err := checkURL(i.KeySetURL); err != nil {
			problem("key set URL: %w", err)
		}
	} else if err := checkURL(i.Issuer); err != nil {
		problem("has no key set URL, and none can be discovered from its iss value: %w", err)
	}
	if len(i.Audience) == 0 || slices.Contains(i.Audience, "") {
		problem("has no audience or an empty one: name the aud values of its tokens, or tokens for other services would be accepted")
	}
	if len(i.Algorithms) == 0 {
		problem("has no algorithms: name some of %v", AsymmetricAlgorithms)
	}
	for _, algorithm := range i.Algorithms {
		if !slices.Contains(AsymmetricAlgorithms, algorithm) {
			problem("algorithm %q is not one of %v", algorithm, AsymmetricAlgorithms)
		}
	}
	if len(i.Roles) == 0 {
		problem("has no roles: name the database roles that its users may write as")
	}
	for _, role := range i.Roles {
		if role == "" || role == "none" {
			problem("role %q is not allowed: Postgres would switch back to the login role", role)
		}
	}
	if i.Role != "" && !slices.Contains(i.Roles, i.Role) {
		problem("the role of tokens without a role claim, %q, is not among its roles %v: add it there", i.Role, i.Roles)
	}
	if i.Secret != nil && len(i.Secret) < minSecretBytes {
		problem("the shared secret has %d bytes, and HS256 needs %d or more: copy all of it", len(i.Secret), minSecretBytes)
	}
	if i.CheckSessions && i.Introspect == nil {
		problem("sessions cannot be checked without Introspect")
	}
	return errors.Join(problems...)
}

// Origin splits an http or https URL into its origin and its path. The origin is
// spelled as issuers spell it in claims: in lower case, without a default port (RFC
// 6454, section 6.2). The path has no slashes at its ends. URLs with credentials, a
// query or a fragment are refused.
func Origin(s string) (origin, path string, err error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", "", errors.New("is not a URL")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return "", "", errors.New("is not an http(s) URL")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", "", errors.New("has credentials, a query or a fragment")
	}
	host := strings.ToLower(u.Host)
	host = strings.TrimSuffix(host, map[string]string{"https": ":443", "http": ":80"}[u.Scheme])
	return u.Scheme + "://" + host, strings.Trim(u.EscapedPath(), "/"), nil
}

// checkURL accepts https URLs, and http URLs of loopback addresses. It refuses
// credentials, because URLs are logged.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("it is not a URL")
	case u.Host == "":
		return fmt.Errorf("%q has no host", u.Redacted())
	case u.User != nil:
		return fmt.Errorf("%q has credentials: leave them out, a key set is public", u.Redacted())
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return fmt.Errorf("%q must be https: anybody on the way could replace keys that are fetched over http", u.Redacted())
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
