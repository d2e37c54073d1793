package service

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write README.md's table of settings again")

// README.md's table and the page of limits are what the code says.
func TestReference(t *testing.T) {
	t.Parallel()
	page := filepath.Join("limits", "README.md")
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(LimitsReference()), 0o600))
	}
	written, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, LimitsReference(), string(written), "run: go test ./service -run TestReference -update")

	const begin, end = "<!-- go test ./service -run TestReference -update -->\n\n", "\n<!-- the end of the settings -->\n"
	path := filepath.Join("..", "README.md")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(content), begin)
	require.True(t, found, "README.md lacks %q", begin)
	table, after, found := strings.Cut(rest, end)
	require.True(t, found, "README.md lacks %q", end)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(before+begin+Reference()+end+after), 0o600))
		return
	}
	require.Equal(t, Reference(), table, "run: go test ./service -run TestReference -update")
}

func TestEverySettingIsDescribed(t *testing.T) {
	t.Parallel()
	require.Len(t, descriptions, len(keys()))
	for _, key := range keys() {
		require.NotEmpty(t, descriptions[key].meaning, key)
	}
	for _, key := range []string{"POSTERN_TOKEN_LIFETIME", "POSTERN_REJECTED_RETENTION"} {
		require.NotEmpty(t, descriptions[key].reason, key)
	}
	for field := range reflect.TypeFor[Config]().Fields() {
		if field.Type.Kind() == reflect.Int {
			d := descriptions[field.Tag.Get("env")]
			require.NotEmpty(t, d.unit, field.Name)
			require.NotEmpty(t, d.reason, field.Name)
		}
	}
}

func TestSecretsAreMasked(t *testing.T) {
	t.Parallel()
	const secret = "hunter2hunter2"
	for name, c := range map[string]struct {
		cfg  Config
		key  string
		want string
	}{
		"a database's password":      {Config{DatabaseURL: "postgres://postern:" + secret + "@db:5432/app"}, "DATABASE_URL", "postgres://postern:xxxxx@db:5432/app"},
		"a password in the query":    {Config{DatabaseURL: "postgres://postern:x@db/app?password=" + secret}, "DATABASE_URL", "(secret)"},
		"a file of passwords":        {Config{DatabaseURL: "postgres://postern:x@db/app?sslpassword=" + secret}, "DATABASE_URL", "(secret)"},
		"words instead of a URL":     {Config{DatabaseURL: "host=db password=" + secret}, "DATABASE_URL", "(secret)"},
		"a shared secret":            {Config{SupabaseJWTSecret: secret}, "SUPABASE_JWT_SECRET", "(secret)"},
		"a console's password":       {Config{ConsolePassword: secret}, "POSTERN_CONSOLE_PASSWORD", "(secret)"},
		"a signing key":              {Config{SigningKey: secret}, "POSTERN_SIGNING_KEY", "(secret)"},
		"a webhook's URL":            {Config{WebhookURL: "https://hooks.example.com/" + secret}, "POSTERN_WEBHOOK_URL", "(secret)"},
		"credentials of another URL": {Config{KeySetURL: "https://app:" + secret + "@id.example.com/keys"}, "POSTERN_JWKS_URL", "https://app:xxxxx@id.example.com/keys"},
		"a secret that is not set":   {Config{}, "POSTERN_SIGNING_KEY", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, c.cfg.shown(c.key))
		})
	}
}
