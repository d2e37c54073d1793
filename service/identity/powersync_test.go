package identity

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPowerSyncMismatch(t *testing.T) {
	t.Parallel()
	issued := time.Unix(1_800_000_000, 0)
	for name, c := range map[string]struct {
		change    func(*Identity)
		audiences []string
		want      []string // what the message names; none: no mismatch
	}{
		"nothing wrong":            {func(*Identity) {}, nil, nil},
		"audience configured":      {func(*Identity) {}, []string{"other", "authenticated"}, nil},
		"one audience of several":  {func(i *Identity) { i.Audience = []string{"x", "authenticated"} }, []string{"authenticated"}, nil},
		"EdDSA":                    {func(i *Identity) { i.Algorithm = "EdDSA" }, nil, nil},
		"exactly 24 hours":         {func(i *Identity) { i.ExpiresAt = issued.Add(24 * time.Hour) }, nil, nil},
		"a second more":            {func(i *Identity) { i.ExpiresAt = issued.Add(24*time.Hour + time.Second) }, nil, []string{"24h0m1s", "lifetime", "at your auth provider"}},
		"shared secret":            {func(i *Identity) { i.Algorithm, i.KeyID = "HS256", "" }, nil, []string{"HS256", "ES256 signing key"}},
		"shared secret with a kid": {func(i *Identity) { i.Algorithm = "HS256" }, nil, []string{"HS256", "ES256 signing key"}},
		"no kid":                   {func(i *Identity) { i.KeyID = "" }, nil, []string{"kid"}},
		"another audience":         {func(*Identity) {}, []string{"powersync"}, []string{`"authenticated"`, `"powersync"`, "client_auth.audience", "POWERSYNC_AUDIENCE"}},
		"another audience of many": {func(i *Identity) { i.Audience = []string{"x", "y"} }, []string{"z"}, []string{`"x" "y"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			who := Identity{
				Subject: "a", Algorithm: "ES256", KeyID: "k", Audience: []string{"authenticated"},
				IssuedAt: issued, ExpiresAt: issued.Add(time.Hour),
			}
			c.change(&who)
			message := PowerSyncMismatch(who, c.audiences, Hints{SigningKey: "Rotate to an ES256 signing key"})
			require.Equal(t, c.want == nil, message == "", message)
			for _, part := range c.want {
				require.Contains(t, message, part)
			}
		})
	}
}
