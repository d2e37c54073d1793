// Package neon knows what Neon Auth's tokens look like and as which roles their
// users write.
package neon

import (
	"fmt"
	"net/url"
	"strings"

	"postern/service/identity"
)

// Roles are the database roles that Neon Auth's tokens may ask for.
var Roles = []string{"authenticated"}

// Issuer describes Neon Auth (managed Better Auth) from its URL,
// https://ep-….neonauth.<region>.aws.neon.tech/<database>/auth. Its iss and aud
// claims are the URL's origin, without path or slash.
//
// See https://neon.com/docs/neon-auth/overview.
func Issuer(authURL string) (identity.Issuer, error) {
	u, err := url.Parse(authURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return identity.Issuer{}, fmt.Errorf("NEON_AUTH_URL=%q is not Neon Auth's URL: copy it from the project's Auth page, https://….neonauth.….neon.tech/<database>/auth", authURL)
	}
	origin := u.Scheme + "://" + u.Host
	return identity.Issuer{
		Issuer:     origin,
		KeySetURL:  strings.TrimRight(authURL, "/") + "/.well-known/jwks.json",
		Audience:   []string{origin},
		Algorithms: []string{"EdDSA"},
		Roles:      Roles,
		Anonymous:  true,
	}, nil
}
