// Package supabase knows what Supabase Auth's tokens look like and as which
// roles their users write.
package supabase

import (
	"fmt"
	"net/url"
	"strings"

	"postern/service/identity"
)

// Roles are the database roles that Supabase Auth's tokens may ask for. anon and
// service_role are not among them: the one is nobody, the other everybody.
var Roles = []string{"authenticated"}

// Issuer describes the Auth server of a project from its URL,
// https://<ref>.supabase.co. Anonymous sign-ins are accepted: they are users
// with a sub of their own, and row-level security can tell them apart.
//
// See https://supabase.com/docs/guides/auth/jwts.
func Issuer(projectURL string) (identity.Issuer, error) {
	u, err := url.Parse(projectURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return identity.Issuer{}, fmt.Errorf("SUPABASE_URL=%q is not the project's URL: write https://<ref>.supabase.co", projectURL)
	}
	if path := strings.Trim(u.Path, "/"); path != "" && path != "auth/v1" {
		return identity.Issuer{}, fmt.Errorf("SUPABASE_URL=%q has a path: write only https://<ref>.supabase.co", projectURL)
	}
	issuer := u.Scheme + "://" + u.Host + "/auth/v1"
	return identity.Issuer{
		Issuer:     issuer,
		KeySetURL:  issuer + "/.well-known/jwks.json",
		Audience:   []string{"authenticated"},
		Algorithms: []string{"ES256", "RS256"},
		Roles:      Roles,
		Anonymous:  true,
	}, nil
}
