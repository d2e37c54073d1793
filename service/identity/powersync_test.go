package identity

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPowerSyncMismatch(t *testing.T) {
	t.Parallel()
	issued := time.Unix(1_800_000_000, 0)
	living := func(d time.Duration) func(*Identity) {
		return func(i *Identity) { i.ExpiresAt = issued.Add(d) }
	}
	hs256Living := func(d time.Duration) func(*Identity) {
		return func(i *Identity) { i.Algorithm, i.KeyID, i.ExpiresAt = "HS256", "", issued.Add(d) }
	}
	const week, day = 7 * 24 * time.Hour, 24 * time.Hour
	for name, c := range map[string]struct {
		change    func(*Identity)
		audiences []string
		secret    string // of the issuer
		shared    bool
		want      []string // what the message names; none: no mismatch
	}{
		"nothing wrong":                {change: func(*Identity) {}},
		"audience configured":          {change: func(*Identity) {}, audiences: []string{"other", "authenticated"}},
		"one audience of several":      {change: func(i *Identity) { i.Audience = []string{"x", "authenticated"} }, audiences: []string{"authenticated"}},
		"EdDSA":                        {change: func(i *Identity) { i.Algorithm = "EdDSA" }},
		"exactly 24 hours":             {change: living(day)},
		"a second more":                {change: living(day + time.Second), want: []string{"24h0m1s", "24 hours at most", "at your auth provider"}},
		"a secret of the issuer alone": {change: hs256Living(time.Hour), shared: true, want: []string{"HS256", "ES256 signing key"}},
		"HS256 with a kid":             {change: func(i *Identity) { i.Algorithm = "HS256" }, shared: true, want: []string{"HS256", "ES256 signing key"}},
		"a shared secret":              {change: hs256Living(time.Hour), secret: testSecret, shared: true},
		"a shared secret, and a kid":   {change: func(i *Identity) { i.Algorithm = "HS256" }, secret: testSecret, shared: true},
		"a shared secret has audience": {change: hs256Living(time.Hour), audiences: []string{"powersync"}, secret: testSecret, shared: true},
		"a shared secret, for a week":  {change: hs256Living(week), secret: testSecret, shared: true},
		"a shared secret, for longer":  {change: hs256Living(week + time.Hour), secret: testSecret, shared: true, want: []string{"169h0m0s", "168 hours at most"}},
		"a secret that is not shared":  {change: hs256Living(time.Hour), secret: testSecret, want: []string{"HS256", "ES256 signing key"}},
		"a key in spite of the secret": {change: living(day + time.Second), secret: testSecret, shared: true, want: []string{"24 hours at most"}},
		"no kid":                       {change: func(i *Identity) { i.KeyID = "" }, want: []string{"kid"}},
		"another audience":             {change: func(*Identity) {}, audiences: []string{"powersync"}, want: []string{`"authenticated"`, `"powersync"`, "client_auth.audience", "POWERSYNC_AUDIENCE"}},
		"another audience of many":     {change: func(i *Identity) { i.Audience = []string{"x", "y"} }, audiences: []string{"z"}, want: []string{`"x" "y"`}},
		"an issuer that is not ours":   {change: func(i *Identity) { i.Issuer, i.Algorithm = "other", "HS256" }, secret: testSecret, shared: true, want: []string{"Configure your auth provider"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			description := testDescription()
			description.Hints = Hints{SigningKey: "Rotate to an ES256 signing key"}
			if c.secret != "" {
				description.Secret = []byte(c.secret)
			}
			v, _ := verifierOn(t, newKeyServer(t), nil, description)
			who := Identity{
				Issuer: testIssuer, Subject: "a", Algorithm: "ES256", KeyID: "k", Audience: []string{"authenticated"},
				IssuedAt: issued, ExpiresAt: issued.Add(time.Hour),
			}
			c.change(&who)
			message := v.PowerSyncMismatch(who, c.audiences, c.shared)
			require.Equal(t, c.want == nil, message == "", message)
			for _, part := range c.want {
				require.Contains(t, message, part)
			}
		})
	}
}
