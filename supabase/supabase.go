// Package supabase holds everything that is specific to Supabase: what Supabase Auth's
// tokens look like, how to ask Supabase Auth about a token, and the roles, schemas and
// functions of a project. It takes no part in writes.
package supabase

import (
	"fmt"

	"postern/service/identity"
)

// Roles are the database roles that Supabase Auth's tokens may name. anon is not
// among them because it is no user, nor service_role because row-level security does
// not bind it.
var Roles = []string{"authenticated"}

// RoleHint is for a database that lacks the role that users write as.
const RoleHint = "Every Supabase project has it: check that DATABASE_URL is the project's."

// Schemas are those of Supabase itself, whose tables are not the app's.
var Schemas = []string{"auth", "storage", "realtime", "vault", "extensions", "graphql", "graphql_public", "net", "cron", "pgbouncer", "pgsodium", "pgmq", "supabase_functions", "supabase_migrations"}

// ServiceRole is the role that row-level security does not bind. The team may replay a
// rejected write as it.
const ServiceRole = "service_role"

// authPath is the path of Supabase Auth below a project's URL.
const authPath = "/auth/v1"

// Issuer describes the Auth server of a project from its URL,
// https://<ref>.supabase.co. It accepts anonymous sign-ins: each is a user with a
// sub of its own, which row-level security can tell from others. The audience
// excludes the ID tokens of OAuth clients, which have the same issuer and keys.
// HS256 is off until Secret or Introspect is set.
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
			SigningKey: "Rotate to an ES256 signing key under JWT Keys in the Supabase dashboard. If the PowerSync Service has the JWT secret (supabase_jwt_secret), set it here, too, as SUPABASE_JWT_SECRET",
			Lifetime:   "Shorten the access token expiry time under Sessions in the Supabase dashboard",
		},
	}, nil
}
