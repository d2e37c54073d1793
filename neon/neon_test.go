package neon_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/neon"
)

func TestIssuer(t *testing.T) {
	t.Parallel()
	const origin = "https://ep-red-sun-a1b2c3d4.neonauth.c-2.us-east-1.aws.neon.tech"
	for url, want := range map[string][2]string{
		origin + "/neondb/auth":          {origin, "/neondb/auth"},
		origin + "/neondb/auth/":         {origin, "/neondb/auth"},
		origin + ":443/neondb/auth":      {origin, "/neondb/auth"},
		"http://127.0.0.1:3000/api/auth": {"http://127.0.0.1:3000", "/api/auth"},
	} {
		issuer, err := neon.Issuer(url)
		require.NoError(t, err, url)
		require.NoError(t, issuer.Validate(), url)
		require.Equal(t, want[0], issuer.Issuer)
		require.Equal(t, want[0]+want[1]+"/.well-known/jwks.json", issuer.KeySetURL)
		require.Equal(t, []string{want[0]}, issuer.Audience, "aud is the origin, too")
		require.Equal(t, []string{"EdDSA"}, issuer.Algorithms)
		require.Equal(t, []string{"authenticated"}, issuer.Roles)
		require.Empty(t, issuer.Role)
	}
}

func TestIssuerRefuses(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "neondb", "https://ep-x.neonauth.aws.neon.tech", "https://ep-x.neonauth.aws.neon.tech/",
		"https://ep-x.neonauth.aws.neon.tech/neondb/auth/.well-known/jwks.json",
		"https://user:hunter2@ep-x.neonauth.aws.neon.tech/neondb/auth", "https://ep-x.neonauth.aws.neon.tech/neondb/auth?x=hunter2",
		"postgresql://neondb_owner:hunter2@ep-x-pooler.aws.neon.tech/neondb",
	} {
		_, err := neon.Issuer(url)
		require.ErrorContains(t, err, "NEON_AUTH_URL", url)
		require.ErrorContains(t, err, "copy the Auth URL", url)
		require.NotContains(t, err.Error(), "hunter2")
	}
	issuer, err := neon.Issuer("http://ep-x.neonauth.aws.neon.tech/neondb/auth")
	require.NoError(t, err)
	require.ErrorContains(t, issuer.Validate(), "must be https")
}
