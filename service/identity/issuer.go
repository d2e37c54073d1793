package identity

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
)

// Issuer is one party whose tokens are accepted, and on which terms.
type Issuer struct {
	Issuer     string   // the exact iss claim
	KeySetURL  string   // where its JWK set is; https, or http on a loopback address
	Audience   []string // a token must name at least one of these
	Algorithms []string // the alg values accepted; asymmetric ones only
	Roles      []string // the database roles a token may ask for in its role claim
	Role       string   // the role of tokens without a role claim; empty refuses them
	Anonymous  bool     // accept tokens with is_anonymous true
	Secret     []byte   // the shared secret of HS256 tokens without a kid; nil refuses them
}

// AsymmetricAlgorithms are those the PowerSync Service takes from a key set,
// which are also all that Supabase, Neon and OIDC providers sign with.
var AsymmetricAlgorithms = []string{"ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512"}

// Validate reports every problem of the issuer's description.
func (i Issuer) Validate() error {
	var problems []error
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("issuer %q: "+format, append([]any{i.Issuer}, args...)...))
	}
	if i.Issuer == "" {
		problem("has no iss value")
	}
	if err := checkURL(i.KeySetURL); err != nil {
		problem("key set URL: %w", err)
	}
	if len(i.Audience) == 0 {
		problem("has no audience, so any token of the issuer would be accepted, whoever it was meant for")
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
	if i.Role != "" && !slices.Contains(i.Roles, i.Role) {
		problem("role %q is not among its roles %v", i.Role, i.Roles)
	}
	return errors.Join(problems...)
}

// checkURL accepts https anywhere and http on loopback addresses.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a URL", s)
	case u.Host == "":
		return fmt.Errorf("%q has no host", s)
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return fmt.Errorf("%q must be https: keys fetched in the clear can be replaced on the way", s)
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
