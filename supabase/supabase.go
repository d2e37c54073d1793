// Package supabase knows what Supabase Auth's tokens look like, as which roles
// their users write, and how Supabase Auth is asked about a token. It is not on
// the path of writes.
package supabase

import (
	"fmt"

	"postern/service/identity"
)

// Roles are the database roles that Supabase Auth's tokens may ask for. anon and
// service_role are not among them: the one is nobody, the other everybody.
var Roles = []string{"authenticated"}

// RoleHint is for a database that lacks the role that users write as.
const RoleHint = "Every Supabase project has it: check that DATABASE_URL is the project's."

// Schemas are those of Supabase itself, whose tables are not the app's.
var Schemas = []string{"auth", "storage", "realtime", "vault", "extensions", "graphql", "graphql_public", "net", "cron", "pgbouncer", "pgsodium", "pgmq", "supabase_functions", "supabase_migrations"}

// ServiceRole is the role that row-level security does not bind. The team may replay a
// rejected write as it.
const ServiceRole = "service_role"

// authPath is where a project has Supabase Auth.
const authPath = "/auth/v1"

// Issuer describes the Auth server of a project from its URL,
// https://<ref>.supabase.co. Anonymous sign-ins are accepted: they are users
// with a sub of their own, and row-level security can tell them apart. The
// audience keeps out the ID tokens of OAuth clients, which have the same issuer
// and keys. HS256 is off until Secret or Introspect is set.
//
// See https://supabase.com/docs/guides/auth/jwts.
func Issuer(projectURL string) (identity.Issuer, error) {
	origin, path, err := identity.Origin(projectURL)
	if err == nil && path != "" && "/"+path != authPath {
		err = fmt.Errorf("has the path /%s", path)
	}
	if err != nil {
		return identity.Issuer{}, fmt.Errorf("SUPABASE_URL %w: write the project's URL alone, https://<ref>.supabase.co", err)
	}
	return identity.Issuer{
		Issuer:     origin + authPath,
		KeySetURL:  origin + authPath + "/.well-known/jwks.json",
		Audience:   []string{"authenticated"},
		Algorithms: []string{"ES256", "RS256"},
		Roles:      Roles,
		Anonymous:  true,
		Hints: identity.Hints{
			SigningKey: "Rotate to an ES256 signing key under JWT Keys in the Supabase dashboard",
			Lifetime:   "Shorten the access token expiry time under Sessions in the Supabase dashboard",
		},
	}, nil
}
