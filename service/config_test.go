package service_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/service/identity"
)

// valid is a configuration without problems.
func valid() service.Config {
	c := service.Default()
	c.DatabaseURL = "postgres://postern:secret@db.example.com:5432/postgres"
	c.SupabaseURL = "https://abcdefghijklmnopqrst.supabase.co"
	return c
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, valid().Validate())

	const secret, powerSync = "hunter2", "https://abc.powersync.journeyapps.com"
	key, err := identity.NewSigningKey()
	require.NoError(t, err)
	signingKey, err := key.PrivateJWK()
	require.NoError(t, err)
	publicKey := regexp.MustCompile(`,"d":"[^"]+"`).ReplaceAllString(signingKey, "")
	for _, test := range []struct {
		name   string
		change func(*service.Config)
		want   string // key, value, remedy
	}{
		{"NoDatabase", func(c *service.Config) { c.DatabaseURL = "" }, "DATABASE_URL is not set: set it to the URL of Postern's login role, which `postern migrate` prints"},
		{"OtherDatabase", func(c *service.Config) { c.DatabaseURL = "mysql://app:" + secret + "@x/y" }, "DATABASE_URL is not a Postgres URL: write postgres://user:password@host:5432/database"},
		{"BrokenDatabase", func(c *service.Config) { c.DatabaseURL = "postgres://app:" + secret + "@x:port/y" }, "DATABASE_URL is not a Postgres URL: write postgres://"},
		{"NoIssuer", func(c *service.Config) { c.SupabaseURL = "" }, "no issuer of tokens is set: set SUPABASE_URL, NEON_AUTH_URL or POSTERN_ISSUER"},
		{"SecretWithoutProject", func(c *service.Config) {
			c.SupabaseURL, c.NeonAuthURL, c.SupabaseJWTSecret = "", "https://x.neon.tech/db/auth", secret
		}, "SUPABASE_JWT_SECRET, SUPABASE_PUBLISHABLE_KEY and SUPABASE_SESSIONS have no effect without SUPABASE_URL: set it to https://"},
		{"SecretKey", func(c *service.Config) { c.SupabasePublishableKey = "sb_secret_" + secret }, "SUPABASE_PUBLISHABLE_KEY is a secret key, which gives access to everything: set it to the key that begins with sb_publishable_"},
		{"SeveralIssuers", func(c *service.Config) { c.NeonAuthURL = "https://x.neon.tech/db/auth" }, "SUPABASE_URL and NEON_AUTH_URL are set, but a policy's owner and auth.uid() know a user by the token's sub alone: set POSTERN_SUBJECTS=unique if"},
		{"OtherSubjects", func(c *service.Config) { c.Subjects = "shared" }, `POSTERN_SUBJECTS="shared" is not unique: leave it out`},
		{"OtherSessions", func(c *service.Config) { c.SupabaseSessions = "always" }, `SUPABASE_SESSIONS="always" is not check: leave it out, or set it to check`},
		{"SessionsWithoutKey", func(c *service.Config) { c.SupabaseSessions = "check" }, "SUPABASE_SESSIONS=check needs SUPABASE_PUBLISHABLE_KEY: set it to the key that begins with sb_publishable_"},
		{"IssuerWithoutAudience", func(c *service.Config) { c.SupabaseURL, c.Issuer = "", "https://id.example.com" }, `POSTERN_ISSUER="https://id.example.com" needs POSTERN_AUDIENCE: set it to the aud claim of its tokens`},
		{"KeySetWithoutIssuer", func(c *service.Config) { c.KeySetURL = "https://id.example.com/keys" }, "POSTERN_JWKS_URL and POSTERN_AUDIENCE have no effect without POSTERN_ISSUER: set it to the iss claim"},
		{"AudienceWithoutIssuer", func(c *service.Config) { c.Audience = []string{"app"} }, "POSTERN_JWKS_URL and POSTERN_AUDIENCE have no effect without POSTERN_ISSUER: set it to the iss claim"},
		{"AnonymousUsers", func(c *service.Config) { c.AnonymousUsers = "yes" }, `POSTERN_ANONYMOUS_USERS="yes" is neither allow nor refuse: write one of them`},
		{"PowerSyncURL", func(c *service.Config) { c.PowerSyncURL = "abc.powersync.journeyapps.com" }, `POWERSYNC_URL="abc.powersync.journeyapps.com" is not an http(s) URL: copy your instance's URL`},
		{"NoKey", func(c *service.Config) { c.PowerSyncURL, c.SigningKey = powerSync, secret }, "POSTERN_SIGNING_KEY is neither PEM nor a JWK: set it to a P-256 key in PEM or as a JWK, such as `postern token keygen` prints"},
		{"NoSecondKey", func(c *service.Config) { c.PowerSyncURL, c.SigningKey, c.SecondKey = powerSync, signingKey, "{"+secret }, "POSTERN_SECOND_KEY is not a JWK: set it to"},
		{"PublicKey", func(c *service.Config) { c.PowerSyncURL, c.SigningKey = powerSync, publicKey }, "POSTERN_SIGNING_KEY has the public half of a key: set it to the private one"},
		{"SameKeyTwice", func(c *service.Config) { c.PowerSyncURL, c.SigningKey, c.SecondKey = powerSync, signingKey, publicKey }, "POSTERN_SIGNING_KEY and POSTERN_SECOND_KEY have the same kid: leave POSTERN_SECOND_KEY out"},
		{"SecondKeyAlone", func(c *service.Config) { c.SecondKey = signingKey }, "POSTERN_SECOND_KEY and POSTERN_TOKEN_CLAIMS have no effect without POSTERN_SIGNING_KEY: set it to the key that"},
		{"ClaimsAlone", func(c *service.Config) { c.TokenClaims = []string{"email"} }, "POSTERN_SECOND_KEY and POSTERN_TOKEN_CLAIMS have no effect without POSTERN_SIGNING_KEY"},
		{"KeyWithoutPowerSync", func(c *service.Config) { c.SigningKey = signingKey }, "POSTERN_SIGNING_KEY has no effect without POWERSYNC_URL: set it to your instance's URL"},
		{"ReservedClaim", func(c *service.Config) {
			c.PowerSyncURL, c.SigningKey, c.TokenClaims = powerSync, signingKey, []string{"email", "sub"}
		}, `POSTERN_TOKEN_CLAIMS: "sub" is not a claim that can be copied: write names such as email`},
		{"NoLifetime", func(c *service.Config) { c.PowerSyncURL, c.SigningKey, c.TokenLifetime = powerSync, signingKey, "900" }, `POSTERN_TOKEN_LIFETIME="900" is not a duration from 1m to 24h: write 15m or 1h`},
		{"ShortLifetime", func(c *service.Config) { c.PowerSyncURL, c.SigningKey, c.TokenLifetime = powerSync, signingKey, "59s" }, `POSTERN_TOKEN_LIFETIME="59s" is not a duration from 1m to 24h`},
		{"LongLifetime", func(c *service.Config) {
			c.PowerSyncURL, c.SigningKey, c.TokenLifetime = powerSync, signingKey, "24h1s"
		}, `POSTERN_TOKEN_LIFETIME="24h1s" is not a duration from 1m to 24h`},
		{"Listen", func(c *service.Config) { c.Listen = "6060" }, `POSTERN_LISTEN="6060" is not host:port: write :6060 or 127.0.0.1:6060`},
		{"OnReject", func(c *service.Config) { c.OnReject = "drop" }, `POSTERN_ON_REJECT="drop" is neither skip nor stop: skip goes on with the transactions after a rejected one`},
		{"OriginWithoutScheme", func(c *service.Config) { c.AllowedOrigins = []string{"https://a.example.com", "app.example.com"} }, `POSTERN_ALLOWED_ORIGINS: "app.example.com" is not an origin: write https://app.example.com`},
		{"OriginWithSlash", func(c *service.Config) { c.AllowedOrigins = []string{"https://app.example.com/"} }, `POSTERN_ALLOWED_ORIGINS: "https://app.example.com/" is not an origin: write https://app.example.com, without a slash at the end, or * alone`},
		{"NoOrigins", func(c *service.Config) { c.AllowedOrigins = nil }, "POSTERN_ALLOWED_ORIGINS is empty: write the origins of your web apps"},
		{"AllOriginsAndOne", func(c *service.Config) { c.AllowedOrigins = []string{"https://app.example.com", "*"} }, `POSTERN_ALLOWED_ORIGINS: "*" is not an origin: write https://app.example.com, without a slash at the end, or * alone`},
		{"OriginWithPath", func(c *service.Config) { c.AllowedOrigins = []string{"https://app.example.com/app"} }, `POSTERN_ALLOWED_ORIGINS: "https://app.example.com/app" is not an origin`},
		{"NoOperations", func(c *service.Config) { c.MaxOperations = 0 }, "POSTERN_MAX_OPERATIONS=0 is out of range: write the number of operations"},
		{"BodyLimitTooSmall", func(c *service.Config) { c.BodyLimit = 1023 }, "POSTERN_BODY_LIMIT=1023 is out of range: write a number of bytes from 1024 to 1073741824"},
		{"BodyLimitTooLarge", func(c *service.Config) { c.BodyLimit = 1<<30 + 1 }, "POSTERN_BODY_LIMIT=1073741825 is out of range: write a number of bytes"},
		{"Log", func(c *service.Config) { c.Log = "verbose" }, `POSTERN_LOG="verbose" is not a level: write debug, info, warn or error`},
		{"DecisionSubject", func(c *service.Config) { c.DecisionSubject = "md5" }, `POSTERN_DECISION_SUBJECT="md5" is neither plain, hashed nor omitted: write one of them`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := valid()
			test.change(&c)
			err := c.Validate()
			require.ErrorContains(t, err, test.want)
			require.Len(t, strings.Split(err.Error(), "\n"), 1, "one problem")
			require.NotContains(t, err.Error(), secret)
		})
	}

	t.Run("AllAtOnce", func(t *testing.T) {
		t.Parallel()
		c := valid()
		wanted := 0
		for _, test := range []struct {
			key    string
			change func(*service.Config)
		}{
			{"DATABASE_URL", func(c *service.Config) { c.DatabaseURL = "" }},
			{"SUPABASE_SESSIONS", func(c *service.Config) { c.SupabaseSessions = "always" }},
			{"POSTERN_ISSUER", func(c *service.Config) { c.Issuer = "https://id.example.com" }},
			{"POSTERN_SUBJECTS", func(*service.Config) {}}, // of two issuers
			{"POSTERN_ANONYMOUS_USERS", func(c *service.Config) { c.AnonymousUsers = "" }},
			{"POWERSYNC_URL", func(c *service.Config) { c.PowerSyncURL = "ftp://x" }},
			{"POSTERN_LISTEN", func(c *service.Config) { c.Listen = "" }},
			{"POSTERN_ON_REJECT", func(c *service.Config) { c.OnReject = "" }},
			{"POSTERN_ALLOWED_ORIGINS", func(c *service.Config) { c.AllowedOrigins = []string{"x", "y"} }},
			{"POSTERN_BODY_LIMIT", func(c *service.Config) { c.BodyLimit = 0 }},
			{"POSTERN_LOG", func(c *service.Config) { c.Log = "" }},
			{"POSTERN_DECISION_SUBJECT", func(c *service.Config) { c.DecisionSubject = "" }},
		} {
			test.change(&c)
			wanted++
			require.ErrorContains(t, c.Validate(), test.key)
		}
		require.Len(t, strings.Split(c.Validate().Error(), "\n"), wanted+1, "both origins are named")
	})
}

func TestValidateRejectedWrites(t *testing.T) {
	t.Parallel()
	const good = "0123456789abcdef"
	for _, test := range []struct {
		name   string
		change func(*service.Config)
		want   string // empty: no problem
	}{
		{"HTTPS", func(c *service.Config) { c.WebhookURL, c.WebhookSecret = "https://example.com/hook", good }, ""},
		{"HTTPOnLoopback", func(c *service.Config) { c.WebhookURL, c.WebhookSecret = "http://127.0.0.1:9/hook", good }, ""},
		{"HTTPOnIPv6Loopback", func(c *service.Config) { c.WebhookURL, c.WebhookSecret = "http://[::1]/", good }, ""},
		{"HTTPOnLocalhost", func(c *service.Config) { c.WebhookURL, c.WebhookSecret = "http://localhost:3000", good }, ""},
		{"OneDay", func(c *service.Config) { c.RejectedRetention = "1d" }, ""},
		{"Hours", func(c *service.Config) { c.RejectedRetention = "36h" }, ""},
		{"NoUnit", func(c *service.Config) { c.RejectedRetention = "90" }, `POSTERN_REJECTED_RETENTION="90" is neither a number of days nor a duration of at least an hour: write 90d or 36h`},
		{"NoDays", func(c *service.Config) { c.RejectedRetention = "0d" }, `POSTERN_REJECTED_RETENTION="0d" is neither`},
		{"NegativeHours", func(c *service.Config) { c.RejectedRetention = "-2h" }, `POSTERN_REJECTED_RETENTION="-2h" is neither`},
		{"MetricsListen", func(c *service.Config) { c.MetricsListen = "9091" }, `POSTERN_METRICS_LISTEN="9091" is not host:port: write 127.0.0.1:9091, or :9091 for a scraper on another machine`},
		{"ConsolePassword", func(c *service.Config) { c.ConsolePassword = good }, ""},
		{"ShortConsolePassword", func(c *service.Config) { c.ConsolePassword = "hidden" }, "POSTERN_CONSOLE_PASSWORD has 6 bytes: set one of at least 16 bytes"},
		{"WebhookWithoutSecret", func(c *service.Config) { c.WebhookURL = "https://example.com" }, "POSTERN_WEBHOOK_URL and POSTERN_WEBHOOK_SECRET go together: set both, or neither"},
		{"WebhookOverHTTP", func(c *service.Config) { c.WebhookURL, c.WebhookSecret = "http://example.com?key=hidden", good }, "POSTERN_WEBHOOK_URL is not an https URL: write https://"},
		{"ShortSecret", func(c *service.Config) { c.WebhookURL, c.WebhookSecret = "https://example.com", "hidden" }, "POSTERN_WEBHOOK_SECRET has 6 bytes: set one of at least 16 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := valid()
			test.change(&c)
			err := c.Validate()
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "hidden")
		})
	}
}

// load reads a file with a content of its own.
func load(t *testing.T, content string) (service.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), service.ConfigFile)
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return service.LoadConfig(file)
}

// By default nobody but this machine reaches the metrics. On Fly.io the scraper is on
// another machine.
func TestMetricsListenOnLoopback(t *testing.T) {
	t.Parallel()
	host, port, err := net.SplitHostPort(service.Default().MetricsListen)
	require.NoError(t, err)
	require.True(t, net.ParseIP(host).IsLoopback(), host)
	fly, err := os.ReadFile("../fly.toml")
	require.NoError(t, err)
	require.Contains(t, string(fly), "\nPOSTERN_METRICS_LISTEN = \":"+port+"\" ")
	require.Contains(t, string(fly), "\n[metrics]\nport = "+port+"\n")
}

func TestLoadConfig(t *testing.T) {
	t.Parallel()

	t.Run("NoFile", func(t *testing.T) {
		t.Parallel()
		c, err := service.LoadConfig(filepath.Join(t.TempDir(), service.ConfigFile))
		require.NoError(t, err)
		require.Equal(t, service.Default().BodyLimit, c.BodyLimit)
	})

	t.Run("File", func(t *testing.T) {
		t.Parallel()
		c, err := load(t, "NEON_AUTH_URL: https://x.neon.tech/db/auth\nPOSTERN_AUDIENCE: [a, b]\nPOSTERN_BODY_LIMIT: 2048\n")
		require.NoError(t, err)
		require.Equal(t, "https://x.neon.tech/db/auth", c.NeonAuthURL)
		require.Equal(t, []string{"a", "b"}, c.Audience)
		require.Equal(t, 2048, c.BodyLimit)
		require.Equal(t, service.Default().OnReject, c.OnReject, "a key that is not set keeps its default")
	})

	for name, content := range map[string]string{"Empty": "", "Comments": "# POSTERN_LOG: debug\n", "Separator": "---\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := load(t, content)
			require.NoError(t, err)
			require.Equal(t, service.Default().Listen, c.Listen, "the defaults stay")
		})
	}

	const secret = "hunter2"
	for _, test := range []struct{ name, content, want string }{
		{"UnknownKey", "DATABASE_URL: postgres://app:" + secret + "@x/y\nPOSTERN_LOG: info\nPOSTERN_POLICY: rules\n", `[3:1] unknown field "POSTERN_POLICY"`},
		{"SameKeyTwice", "POSTERN_LOG: info\nSUPABASE_JWT_SECRET: " + secret + "\nPOSTERN_LOG: warn\n", `[3:1] mapping key "POSTERN_LOG" already defined at [1:1]`},
		{"NotANumber", "SUPABASE_JWT_SECRET: " + secret + "\nPOSTERN_BODY_LIMIT: lots\n", `[2:21]`},
		{"NotYAML", "SUPABASE_JWT_SECRET: " + secret + "\nPOSTERN_LOG: [info\n", `[2:14]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, test.content)
			require.ErrorContains(t, err, service.ConfigFile+": ")
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), secret)
		})
	}
}
