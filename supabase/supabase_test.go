package supabase_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/supabase"
)

func TestIssuer(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"https://abcdefghijklmnopqrst.supabase.co":          "https://abcdefghijklmnopqrst.supabase.co/auth/v1",
		"https://abcdefghijklmnopqrst.supabase.co/":         "https://abcdefghijklmnopqrst.supabase.co/auth/v1",
		"https://abcdefghijklmnopqrst.supabase.co/auth/v1/": "https://abcdefghijklmnopqrst.supabase.co/auth/v1",
		"HTTPS://ABC.supabase.co:443":                       "https://abc.supabase.co/auth/v1",
		"https://api.example.com":                           "https://api.example.com/auth/v1",
		"http://127.0.0.1:54321":                            "http://127.0.0.1:54321/auth/v1",
	} {
		issuer, err := supabase.Issuer(url)
		require.NoError(t, err, url)
		require.NoError(t, issuer.Validate(), url)
		require.Equal(t, want, issuer.Issuer)
		require.Equal(t, want+"/.well-known/jwks.json", issuer.KeySetURL)
		require.Equal(t, []string{"authenticated"}, issuer.Audience)
		require.Equal(t, []string{"authenticated"}, issuer.Roles)
		require.Empty(t, issuer.Role, "a token without a role is nobody's")
		require.Nil(t, issuer.Secret)
		require.Nil(t, issuer.Introspect)
	}
}

func TestIssuerRefuses(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "abcdefghijklmnopqrst", "abcdefghijklmnopqrst.supabase.co", "postgres://postgres:hunter2@db.abc.supabase.co:5432/postgres",
		"https://supabase.com/dashboard/project/abcdefghijklmnopqrst", "https://abc.supabase.co/rest/v1",
		"https://user:hunter2@abc.supabase.co", "https://abc.supabase.co?apikey=hunter2", "https://abc.supabase.co/#x", "https://",
	} {
		_, err := supabase.Issuer(url)
		require.ErrorContains(t, err, "SUPABASE_URL", url)
		require.ErrorContains(t, err, "https://<ref>.supabase.co", url)
		require.NotContains(t, err.Error(), "hunter2")
	}
	// In the clear, only on this machine.
	issuer, err := supabase.Issuer("http://abc.supabase.co")
	require.NoError(t, err)
	require.ErrorContains(t, issuer.Validate(), "must be https")
}
