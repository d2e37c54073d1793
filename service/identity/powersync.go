package identity

import (
	"fmt"
	"slices"
	"time"
)

// powerSyncLongest is how long a token may live for the PowerSync Service.
const powerSyncLongest = 24 * time.Hour

// PowerSyncMismatch says why the PowerSync Service would refuse the token of
// who, in words for the person who configures it, with the setting to change; it
// is empty when nothing speaks against the token. audiences are the aud values
// the PowerSync Service is configured for; without any, the audience is not
// judged.
//
// Verify has seen to sub, iat and exp already. Whether the PowerSync Service has
// the key itself cannot be told from here.
//
// See https://docs.powersync.com/configuration/auth/custom.
func PowerSyncMismatch(who Identity, audiences []string) string {
	lifetime := who.ExpiresAt.Sub(who.IssuedAt)
	switch {
	case !slices.Contains(AsymmetricAlgorithms, who.Algorithm):
		return fmt.Sprintf("the PowerSync Service takes tokens signed with a key of your provider's key set; this one is signed with a shared secret (%s): on Supabase, rotate to an ES256 signing key under JWT Keys", who.Algorithm)
	case who.KeyID == "":
		return "the PowerSync Service takes only tokens whose header has a kid; this one has none: let your auth provider set the kid of its signing key"
	case len(audiences) > 0 && !slices.ContainsFunc(who.Audience, func(a string) bool { return slices.Contains(audiences, a) }):
		return fmt.Sprintf("the token's audience %q is not one the PowerSync Service is configured for, %q: add it to client_auth.audience there (Client Auth in the dashboard) and to POWERSYNC_AUDIENCE here", who.Audience, audiences)
	case lifetime > powerSyncLongest:
		return fmt.Sprintf("the token lives for %s, and the PowerSync Service takes 24 hours at most: shorten the access token's lifetime at your auth provider (on Supabase: Access token expiry time)", lifetime.Round(time.Second))
	}
	return ""
}
