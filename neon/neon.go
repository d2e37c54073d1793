// Package neon holds everything that is specific to Neon: what Neon Auth's tokens look
// like, and the roles, schemas and functions of a project. It takes no part in writes.
package neon

import (
	"errors"
	"fmt"
	"strings"

	"postern/service/identity"
)

// Roles are the database roles that Neon Auth's tokens may name.
var Roles = []string{"authenticated"}

// RoleHint is for a database that lacks the role that users write as.
const RoleHint = "On Neon, the Data API creates it when you turn it on."

// Schemas are those of Neon itself, whose tables are not the app's.
var Schemas = []string{"auth", "neon_auth"}

// Issuer describes Neon Auth (managed Better Auth) from its URL,
// https://ep-….neonauth.<region>.aws.neon.tech/<database>/auth. Its iss and aud
// claims are the URL's origin, without path or slash. It accepts anonymous users,
// each of which has a sub of its own.
//
// See https://neon.com/docs/neon-auth/overview.
func Issuer(authURL string) (identity.Issuer, error) {
	origin, path, err := identity.Origin(authURL)
	switch {
	case err == nil && path == "":
		err = errors.New("has no path")
	case err == nil && strings.Contains("/"+path, "/.well-known/"):
		err = errors.New("is the key set's address")
	}
	if err != nil {
		return identity.Issuer{}, fmt.Errorf("NEON_AUTH_URL %w: copy the Auth URL from the project's Auth page, https://….neonauth.….neon.tech/<database>/auth", err)
	}
	return identity.Issuer{
		Issuer:     origin,
		KeySetURL:  origin + "/" + path + "/.well-known/jwks.json",
		Audience:   []string{origin},
		Algorithms: []string{"EdDSA"},
		Roles:      Roles,
		Anonymous:  true,
	}, nil
}
