package service

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/goccy/go-yaml"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/service/apply"
	"postern/service/identity"
)

// ConfigFile is read where it exists; its keys are the environment's.
const ConfigFile = "postern.yaml"

// Config is everything the service can be told. The zero value of a field means
// that it was not said.
type Config struct {
	DatabaseURL string `env:"DATABASE_URL" yaml:"DATABASE_URL"` // Postgres, as Postern's login role

	SupabaseURL            string   `env:"SUPABASE_URL" yaml:"SUPABASE_URL"`                         // https://<ref>.supabase.co
	SupabaseJWTSecret      string   `env:"SUPABASE_JWT_SECRET" yaml:"SUPABASE_JWT_SECRET"`           // accepts legacy HS256 tokens
	SupabasePublishableKey string   `env:"SUPABASE_PUBLISHABLE_KEY" yaml:"SUPABASE_PUBLISHABLE_KEY"` // to ask Supabase Auth about tokens
	SupabaseSessions       string   `env:"SUPABASE_SESSIONS" yaml:"SUPABASE_SESSIONS"`               // check: ask about each
	NeonAuthURL            string   `env:"NEON_AUTH_URL" yaml:"NEON_AUTH_URL"`                       // https://….neonauth.….neon.tech/<db>/auth
	Issuer                 string   `env:"POSTERN_ISSUER" yaml:"POSTERN_ISSUER"`                     // the iss claim of any other OIDC issuer
	KeySetURL              string   `env:"POSTERN_JWKS_URL" yaml:"POSTERN_JWKS_URL"`                 // that issuer's JWK set; found by discovery where empty
	Audience               []string `env:"POSTERN_AUDIENCE" yaml:"POSTERN_AUDIENCE"`                 // the aud values accepted from it
	AnonymousUsers         string   `env:"POSTERN_ANONYMOUS_USERS" yaml:"POSTERN_ANONYMOUS_USERS"`   // allow or refuse

	PowerSyncURL      string   `env:"POWERSYNC_URL" yaml:"POWERSYNC_URL"`           // the PowerSync Service, for GET /api/credentials
	PowerSyncAudience []string `env:"POWERSYNC_AUDIENCE" yaml:"POWERSYNC_AUDIENCE"` // the aud values it accepts; empty: not checked

	Policies       string   `env:"POSTERN_POLICIES" yaml:"POSTERN_POLICIES"`               // the folder of policies
	Listen         string   `env:"POSTERN_LISTEN" yaml:"POSTERN_LISTEN"`                   // host:port
	OnReject       string   `env:"POSTERN_ON_REJECT" yaml:"POSTERN_ON_REJECT"`             // skip or stop
	AllowedOrigins []string `env:"POSTERN_ALLOWED_ORIGINS" yaml:"POSTERN_ALLOWED_ORIGINS"` // for browsers; * is all
	BodyLimit      int      `env:"POSTERN_BODY_LIMIT" yaml:"POSTERN_BODY_LIMIT"`           // bytes
	Log            string   `env:"POSTERN_LOG" yaml:"POSTERN_LOG"`                         // debug, info, warn or error

	MetricsListen     string `env:"POSTERN_METRICS_LISTEN" yaml:"POSTERN_METRICS_LISTEN"`         // host:port of GET /metrics
	RejectedRetention string `env:"POSTERN_REJECTED_RETENTION" yaml:"POSTERN_REJECTED_RETENTION"` // how long closed rejected writes are kept: 90d
	WebhookURL        string `env:"POSTERN_WEBHOOK_URL" yaml:"POSTERN_WEBHOOK_URL"`               // told of each rejected write; empty: nobody is
	WebhookSecret     string `env:"POSTERN_WEBHOOK_SECRET" yaml:"POSTERN_WEBHOOK_SECRET"`         // signs what is sent there
}

// Default is what holds where nothing else is said.
func Default() Config {
	return Config{
		Policies:       "policies",
		Listen:         ":6060",
		OnReject:       string(apply.Skip),
		AnonymousUsers: "allow",
		AllowedOrigins: []string{"*"},
		BodyLimit:      8 << 20,
		Log:            "info",

		MetricsListen:     ":9091",
		RejectedRetention: "90d",
	}
}

// LoadConfig reads defaults, then the file where it exists, then the
// environment. The result has not been validated: flags come last.
func LoadConfig(file string) (Config, error) {
	cfg := Default()
	content, err := os.ReadFile(file)
	if err == nil {
		if err := yaml.UnmarshalWithOptions(content, &cfg, yaml.Strict()); err != nil {
			// Without the lines around it, which may hold secrets.
			return Config{}, fmt.Errorf("%s: %s", file, yaml.FormatError(err, false, false))
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	wrong, err := cfg.readEnvironment()
	if err != nil {
		return Config{}, err
	}
	for _, list := range [][]string{cfg.Audience, cfg.PowerSyncAudience, cfg.AllowedOrigins} {
		for i, value := range list {
			list[i] = strings.TrimSpace(value) // a, b as well as a,b
		}
	}
	if len(wrong) > 0 {
		return Config{}, errors.Join(append(wrong, cfg.Validate())...)
	}
	return cfg, nil
}

// readEnvironment lists the variables whose value is not of the type it has to be.
func (c *Config) readEnvironment() (wrong []error, err error) {
	err = env.Parse(c)
	var all env.AggregateError
	if err == nil || !errors.As(err, &all) {
		return nil, err
	}
	for _, one := range all.Errors {
		var parse env.ParseError
		if !errors.As(one, &parse) {
			return nil, fmt.Errorf("reading the environment: %w", one)
		}
		field, _ := reflect.TypeFor[Config]().FieldByName(parse.Name)
		name := field.Tag.Get("env")
		wrong = append(wrong, fmt.Errorf("%s=%q is not of type %s", name, os.Getenv(name), parse.Type))
	}
	return wrong, nil
}

// Validate reports every problem at once, each with key, value and remedy.
// Values that may hold a password are not repeated.
func (c Config) Validate() error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.DatabaseURL == "" {
		problem("DATABASE_URL is not set: give it the URL of Postern's login role, which `postern migrate` prints")
	} else if _, err := pgxpool.ParseConfig(c.DatabaseURL); err != nil {
		problem("DATABASE_URL is not a Postgres URL: write postgres://user:password@host:5432/database")
	}
	c.validateIssuers(problem)
	if c.PowerSyncURL != "" && !isHTTPURL(c.PowerSyncURL) {
		problem("POWERSYNC_URL=%q is not an http(s) URL: copy your instance's URL from the PowerSync dashboard", c.PowerSyncURL)
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		problem("POSTERN_LISTEN=%q is not host:port: write :6060 or 127.0.0.1:6060", c.Listen)
	}
	if on := apply.OnReject(c.OnReject); on != apply.Skip && on != apply.Stop {
		problem("POSTERN_ON_REJECT=%q is neither skip nor stop", c.OnReject)
	}
	c.validateOrigins(problem)
	if c.BodyLimit < 1<<10 || c.BodyLimit > 1<<30 {
		problem("POSTERN_BODY_LIMIT=%d is not between 1024 bytes and 1 GiB", c.BodyLimit)
	}
	c.validateRejected(problem)
	if _, err := c.LogLevel(); err != nil {
		problem("POSTERN_LOG=%q is not one of debug, info, warn, error", c.Log)
	}
	return errors.Join(problems...)
}

func (c Config) validateIssuers(problem func(format string, args ...any)) {
	if c.SupabaseURL == "" && c.NeonAuthURL == "" && c.Issuer == "" {
		problem("no issuer of tokens: set SUPABASE_URL, NEON_AUTH_URL or POSTERN_ISSUER")
	}
	if c.SupabaseURL == "" && (c.SupabaseJWTSecret != "" || c.SupabasePublishableKey != "" || c.SupabaseSessions != "") {
		problem("SUPABASE_JWT_SECRET, SUPABASE_PUBLISHABLE_KEY and SUPABASE_SESSIONS say nothing without SUPABASE_URL: set it to https://<ref>.supabase.co")
	}
	if strings.HasPrefix(c.SupabasePublishableKey, "sb_secret_") {
		problem("SUPABASE_PUBLISHABLE_KEY is a secret key, which opens everything and is not needed: use the one that begins with sb_publishable_")
	}
	switch {
	case c.SupabaseSessions != "" && c.SupabaseSessions != "check":
		problem("SUPABASE_SESSIONS=%q is not check: leave it out, or set it to check to ask Supabase Auth whether each session still exists", c.SupabaseSessions)
	case c.SupabaseSessions == "check" && c.SupabasePublishableKey == "":
		problem("SUPABASE_SESSIONS=check needs SUPABASE_PUBLISHABLE_KEY, to ask Supabase Auth with")
	}
	if c.Issuer != "" && len(c.Audience) == 0 {
		problem("POSTERN_ISSUER=%q needs POSTERN_AUDIENCE, whom its tokens are for", c.Issuer)
	}
	if c.Issuer == "" && (c.KeySetURL != "" || len(c.Audience) != 0) {
		problem("POSTERN_JWKS_URL and POSTERN_AUDIENCE say nothing without POSTERN_ISSUER: set it to the iss claim of that issuer's tokens")
	}
	if c.AnonymousUsers != "allow" && c.AnonymousUsers != "refuse" {
		problem("POSTERN_ANONYMOUS_USERS=%q is neither allow nor refuse", c.AnonymousUsers)
	}
}

func (c Config) validateOrigins(problem func(format string, args ...any)) {
	if slices.Equal(c.AllowedOrigins, []string{"*"}) {
		return
	}
	if len(c.AllowedOrigins) == 0 {
		problem("POSTERN_ALLOWED_ORIGINS is empty: write the origins of your web apps, https://app.example.com, or *")
	}
	for _, origin := range c.AllowedOrigins {
		if _, path, err := identity.Origin(origin); err != nil || path != "" || strings.HasSuffix(origin, "/") {
			problem("POSTERN_ALLOWED_ORIGINS: %q is not an origin: write https://app.example.com, without a slash at the end, or * alone", origin)
		}
	}
}

// LogLevel is Log as slog knows it.
func (c Config) LogLevel() (level slog.Level, err error) {
	err = level.UnmarshalText([]byte(c.Log))
	return level, err
}

func isHTTPURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// rejectedRetention is RejectedRetention, which has been validated.
func (c Config) rejectedRetention() time.Duration {
	d, _ := parseDays(c.RejectedRetention)
	return d
}

// parseDays reads a duration as Go spells it, or a number of days: 90d.
func parseDays(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 36500 {
			return 0, errors.New("not a number of days")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < time.Hour {
		err = errors.New("too short")
	}
	return d, err
}

func (c Config) validateRejected(problem func(format string, args ...any)) {
	if _, err := parseDays(c.RejectedRetention); err != nil {
		problem("POSTERN_REJECTED_RETENTION=%q is neither a number of days, 90d, nor a duration of an hour or more, 36h", c.RejectedRetention)
	}
	if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
		problem("POSTERN_METRICS_LISTEN=%q is not host:port: write :9091 or 127.0.0.1:9091", c.MetricsListen)
	}
	if (c.WebhookURL == "") != (c.WebhookSecret == "") {
		problem("POSTERN_WEBHOOK_URL and POSTERN_WEBHOOK_SECRET go together: set both, or neither")
	}
	if c.WebhookURL != "" && !isPrivateURL(c.WebhookURL) {
		problem("POSTERN_WEBHOOK_URL is not an https URL (http is for loopback addresses alone)") // it may hold a secret
	}
	if n := len(c.WebhookSecret); n > 0 && n < minWebhookSecret {
		problem("POSTERN_WEBHOOK_SECRET has %d bytes: give it %d or more, such as `openssl rand -hex 32` makes", n, minWebhookSecret)
	}
}

// minWebhookSecret is the least length of a secret in bytes.
const minWebhookSecret = 16

// isPrivateURL reports whether nobody on the way can read what is sent there.
func isPrivateURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}
