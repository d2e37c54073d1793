package identity

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	ask := func(context.Context, string) (string, error) { return "", nil }
	for name, c := range map[string]struct {
		change  func(*Issuer)
		problem string // empty: none
	}{
		"complete":                    {func(*Issuer) {}, ""},
		"http on loopback":            {func(i *Issuer) { i.KeySetURL = "http://127.0.0.1:8080/jwks.json" }, ""},
		"http on IPv6 loopback":       {func(i *Issuer) { i.KeySetURL = "http://[::1]/jwks.json" }, ""},
		"http on localhost":           {func(i *Issuer) { i.KeySetURL = "http://localhost/jwks.json" }, ""},
		"discovered":                  {func(i *Issuer) { i.KeySetURL = "" }, ""},
		"secret":                      {func(i *Issuer) { i.Secret = []byte(testSecret) }, ""},
		"sessions checked":            {func(i *Issuer) { i.Introspect, i.CheckSessions = ask, true }, ""},
		"no iss":                      {func(i *Issuer) { i.Issuer = "" }, "no iss"},
		"http":                        {func(i *Issuer) { i.KeySetURL = "http://issuer.example.com/jwks.json" }, "must be https"},
		"http on a loopback name":     {func(i *Issuer) { i.KeySetURL = "http://127.0.0.1.example.com/jwks.json" }, "must be https"},
		"http on a private address":   {func(i *Issuer) { i.KeySetURL = "http://10.0.0.1/jwks.json" }, "must be https"},
		"file":                        {func(i *Issuer) { i.KeySetURL = "file:///etc/passwd" }, "no host"},
		"no URL":                      {func(i *Issuer) { i.KeySetURL = "https://a b" }, "not a URL"},
		"credentials":                 {func(i *Issuer) { i.KeySetURL = "https://user:hunter2@issuer.example.com" }, "credentials"},
		"not discoverable":            {func(i *Issuer) { i.Issuer, i.KeySetURL = "supabase", "" }, "none can be discovered"},
		"discoverable over http":      {func(i *Issuer) { i.Issuer, i.KeySetURL = "http://issuer.example.com", "" }, "must be https"},
		"no audience":                 {func(i *Issuer) { i.Audience = nil }, "no audience"},
		"empty audience":              {func(i *Issuer) { i.Audience = []string{"a", ""} }, "no audience"},
		"no algorithms":               {func(i *Issuer) { i.Algorithms = nil }, "no algorithms"},
		"symmetric algorithm":         {func(i *Issuer) { i.Algorithms = []string{"ES256", "HS256"} }, `"HS256" is not one of`},
		"algorithm none":              {func(i *Issuer) { i.Algorithms = []string{"none"} }, `"none" is not one of`},
		"no roles":                    {func(i *Issuer) { i.Roles = nil }, "no roles"},
		"role none":                   {func(i *Issuer) { i.Roles = []string{"authenticated", "none"} }, "login role"},
		"default role not allowed":    {func(i *Issuer) { i.Role = "other" }, "not among its roles"},
		"secret too short":            {func(i *Issuer) { i.Secret = []byte("hunter2") }, "has 7 bytes"},
		"empty secret":                {func(i *Issuer) { i.Secret = []byte{} }, "has 0 bytes"},
		"sessions that nobody checks": {func(i *Issuer) { i.CheckSessions = true }, "cannot be checked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			description := testDescription()
			c.change(&description)
			err := description.Validate()
			if c.problem == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.problem)
			require.NotContains(t, err.Error(), "hunter2")
			_, err = NewVerifier(t.Context(), []Issuer{description}, slog.New(slog.DiscardHandler), nil)
			require.Error(t, err)
		})
	}
	t.Run("twice the same", func(t *testing.T) {
		t.Parallel()
		_, err := NewVerifier(t.Context(), []Issuer{testDescription(), testDescription()}, slog.New(slog.DiscardHandler), nil)
		require.ErrorContains(t, err, "configured twice")
	})
	t.Run("all problems at once", func(t *testing.T) {
		t.Parallel()
		err := Issuer{}.Validate()
		for _, problem := range []string{"no iss", "no key set URL", "no audience", "no algorithms", "no roles"} {
			require.ErrorContains(t, err, problem)
		}
	})
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, origin, path string }{
		{"https://a.example.com", "https://a.example.com", ""},
		{"https://A.Example.com:443/", "https://a.example.com", ""},
		{"https://a.example.com:8443/b/c/", "https://a.example.com:8443", "b/c"},
		{"http://127.0.0.1:80/b", "http://127.0.0.1", "b"},
		{"http://[::1]:9999", "http://[::1]:9999", ""},
		{"https://a.example.com:80", "https://a.example.com:80", ""},
	} {
		origin, path, err := Origin(c.url)
		require.NoError(t, err, c.url)
		require.Equal(t, c.origin, origin, c.url)
		require.Equal(t, c.path, path, c.url)
	}
	for _, url := range []string{"", "a.example.com", "//a.example.com", "ftp://a.example.com", "https://", "https://:443", "https:///b", "https://a:b@c.example.com", "https://a.example.com?x", "https://a.example.com/?", "https://a.example.com#x", "https://a b"} {
		_, _, err := Origin(url)
		require.Error(t, err, "%q", url)
	}
}
