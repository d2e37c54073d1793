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

// Issuer is one party whose tokens are accepted, and on which terms.
type Issuer struct {
	Issuer     string   // the exact iss claim
	KeySetURL  string   // where its JWK set is; https, or http on a loopback address; empty: OIDC discovery tells
	Audience   []string // a token must name at least one of these
	Algorithms []string // the alg values accepted from the key set; asymmetric ones only
	Roles      []string // the database roles a token may ask for in its role claim
	Role       string   // the role of tokens without a role claim; empty refuses them
	Anonymous  bool     // accept tokens of anonymous users

	// Secret is what HS256 tokens are signed with, at least 32 bytes. Where it is
	// nil they are refused, unless Introspect can judge them.
	Secret []byte

	// Introspect asks the issuer itself about a token. Where it is given and
	// Secret is not, it judges HS256 tokens, as long as the issuer's key set has
	// no usable key.
	Introspect Introspect

	// CheckSessions has Introspect asked about every token, so that users who
	// signed out or were banned are refused within 30 s.
	CheckSessions bool
}

// Introspect asks an issuer whether it accepts a token now, and whose it is.
// ErrRefused says that it does not; any other error, that it could not be asked.
// The errors go to the log and must not contain the token. It ends when ctx does
// and is called concurrently.
type Introspect func(ctx context.Context, token string) (subject string, err error)

// ErrRefused is Introspect's answer for a token that the issuer does not accept:
// forged, expired, signed out, or of a user who is banned or gone.
var ErrRefused = errors.New("the issuer does not accept the token")

// AsymmetricAlgorithms are those the PowerSync Service takes from a key set,
// which are also all that Supabase, Neon and OIDC providers sign with.
var AsymmetricAlgorithms = []string{"ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512"}

const (
	hs256          = "HS256"
	minSecretBytes = 32 // RFC 7518, section 3.2: as long as the hash
)

// Validate reports every problem of the issuer's description. The secret is not
// repeated.
func (i Issuer) Validate() error {
	var problems []error
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("issuer %q: "+format, append([]any{i.Issuer}, args...)...))
	}
	if i.Issuer == "" {
		problem("has no iss value")
	}
	if i.KeySetURL != "" {
		if err := checkURL(i.KeySetURL); err != nil {
			problem("key set URL: %w", err)
		}
	} else if err := checkURL(i.Issuer); err != nil {
		problem("has no key set URL, and none can be discovered from its iss value: %w", err)
	}
	if len(i.Audience) == 0 || slices.Contains(i.Audience, "") {
		problem("has no audience or an empty one, so any token of the issuer would be accepted, whoever it was meant for")
	}
	if len(i.Algorithms) == 0 {
		problem("has no algorithms")
	}
	for _, algorithm := range i.Algorithms {
		if !slices.Contains(AsymmetricAlgorithms, algorithm) {
			problem("algorithm %q is not one of %v", algorithm, AsymmetricAlgorithms)
		}
	}
	if len(i.Roles) == 0 {
		problem("has no roles")
	}
	for _, role := range i.Roles {
		if role == "" || role == "none" {
			problem("role %q is not a role: Postgres takes it as the login role", role)
		}
	}
	if i.Role != "" && !slices.Contains(i.Roles, i.Role) {
		problem("role %q is not among its roles %v", i.Role, i.Roles)
	}
	if i.Secret != nil && len(i.Secret) < minSecretBytes {
		problem("the shared secret has %d bytes: HS256 needs %d or more, so copy the whole of it", len(i.Secret), minSecretBytes)
	}
	if i.CheckSessions && i.Introspect == nil {
		problem("sessions cannot be checked without a way to ask the issuer")
	}
	return errors.Join(problems...)
}

// Origin splits an http or https URL into its origin, spelled as issuers spell
// it in their claims (RFC 6454, section 6.2: lower case, no default port), and
// its path without slashes at the ends. Credentials, a query and a fragment are
// refused.
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

// checkURL accepts https anywhere and http on loopback addresses, without
// credentials, which would end in the log.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("it is not a URL")
	case u.Host == "":
		return fmt.Errorf("%q has no host", u.Redacted())
	case u.User != nil:
		return fmt.Errorf("%q has credentials: a key set is public", u.Redacted())
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return fmt.Errorf("%q must be https: keys fetched in the clear can be replaced on the way", u.Redacted())
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
