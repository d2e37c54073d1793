package identity

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// MaxTokenLifetime is the longest lifetime of a token that the PowerSync Service accepts
// with a key set.
const MaxTokenLifetime = 24 * time.Hour

// maxSecretLifetime is the longest that it accepts with supabase_jwt_secret. See
// SUPABASE_KEY_OPTIONS in
// https://github.com/powersync-ja/powersync-service/blob/main/packages/service-core/src/auth/StaticSupabaseKeyCollector.ts.
const maxSecretLifetime = 7*24*time.Hour + 20*time.Minute

// PowerSyncMismatch explains why the PowerSync Service would refuse who's token, and
// which setting to change. It is empty if the PowerSync Service can accept the token.
// audiences are the aud values that the PowerSync Service accepts; if there are none,
// the audience is not checked.
//
// secretShared says that the PowerSync Service has the Secret of an issuer that has one,
// as its supabase_jwt_secret. With it, it accepts HS256 tokens without a kid, and has an
// audience of its own, which Supabase's tokens have.
//
// Verify has already checked sub, iat and exp. Whether the PowerSync Service has the
// token's key cannot be known here.
//
// See https://docs.powersync.com/configuration/auth/custom.
func (v *Verifier) PowerSyncMismatch(who Identity, audiences []string, secretShared bool) string {
	var of Issuer
	if i := v.issuers[who.Issuer]; i != nil {
		of = i.Issuer
	}
	lifetime := who.ExpiresAt.Sub(who.IssuedAt)
	if who.Algorithm == hs256 && of.Secret != nil && secretShared {
		return lifetimeMismatch(lifetime, maxSecretLifetime, of.Hints)
	}
	switch {
	case !slices.Contains(AsymmetricAlgorithms, who.Algorithm):
		return fmt.Sprintf("the PowerSync Service accepts only tokens that are signed with a key of a key set. This one is signed with a shared secret (%s). %s", who.Algorithm, cmp.Or(of.Hints.SigningKey, "Configure your auth provider to sign with an asymmetric key"))
	case who.KeyID == "":
		return "the PowerSync Service accepts only tokens with a kid in the header, and this one has none. Configure your auth provider to set the kid of its signing key"
	case len(audiences) > 0 && !slices.ContainsFunc(who.Audience, func(a string) bool { return slices.Contains(audiences, a) }):
		return fmt.Sprintf("the token's audience is %q, and the PowerSync Service accepts %q. Add it to the PowerSync Service's client_auth.audience (Client Auth in the dashboard) and to Postern's POWERSYNC_AUDIENCE", who.Audience, audiences)
	}
	return lifetimeMismatch(lifetime, MaxTokenLifetime, of.Hints)
}

func lifetimeMismatch(lifetime, most time.Duration, hints Hints) string {
	if lifetime <= most {
		return ""
	}
	return fmt.Sprintf("the token's lifetime is %s, and the PowerSync Service accepts %v hours at most. %s",
		lifetime.Round(time.Second), int(most.Hours()), cmp.Or(hints.Lifetime, "Shorten the access token's lifetime at your auth provider"))
}
