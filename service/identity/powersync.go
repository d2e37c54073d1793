package identity

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// maxPowerSyncLifetime is the longest lifetime of a token that the PowerSync Service
// accepts.
const maxPowerSyncLifetime = 24 * time.Hour

// PowerSyncMismatch explains why the PowerSync Service would refuse who's token, and
// which setting to change. It is empty if the PowerSync Service can accept the token.
// audiences are the aud values that the PowerSync Service accepts; if there are none,
// the audience is not checked. hints are the issuer's, see Verifier.Hints.
//
// Verify has already checked sub, iat and exp. Whether the PowerSync Service has the
// token's key cannot be known here.
//
// See https://docs.powersync.com/configuration/auth/custom.
func PowerSyncMismatch(who Identity, audiences []string, hints Hints) string {
	lifetime := who.ExpiresAt.Sub(who.IssuedAt)
	switch {
	case !slices.Contains(AsymmetricAlgorithms, who.Algorithm):
		return fmt.Sprintf("the PowerSync Service accepts only tokens that are signed with a key of a key set. This one is signed with a shared secret (%s). %s", who.Algorithm, cmp.Or(hints.SigningKey, "Configure your auth provider to sign with an asymmetric key"))
	case who.KeyID == "":
		return "the PowerSync Service accepts only tokens with a kid in the header, and this one has none. Configure your auth provider to set the kid of its signing key"
	case len(audiences) > 0 && !slices.ContainsFunc(who.Audience, func(a string) bool { return slices.Contains(audiences, a) }):
		return fmt.Sprintf("the token's audience is %q, and the PowerSync Service accepts %q. Add it to the PowerSync Service's client_auth.audience (Client Auth in the dashboard) and to Postern's POWERSYNC_AUDIENCE", who.Audience, audiences)
	case lifetime > maxPowerSyncLifetime:
		return fmt.Sprintf("the token's lifetime is %s, and the PowerSync Service accepts 24 hours at most. %s", lifetime.Round(time.Second), cmp.Or(hints.Lifetime, "Shorten the access token's lifetime at your auth provider"))
	}
	return ""
}
