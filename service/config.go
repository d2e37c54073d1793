package service

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
	"github.com/joho/godotenv"

	"postern/service/apply"
	"postern/service/identity"
	"postern/service/limits"
)

// ConfigFile is read if it exists. It has the same keys as the environment.
const ConfigFile = "postern.yaml"

// Config is the configuration of the service. A field that is not set has its zero
// value.
type Config struct {
	DatabaseURL string `env:"DATABASE_URL" yaml:"DATABASE_URL"` // Postgres, as Postern's login role

	SupabaseURL            string   `env:"SUPABASE_URL" yaml:"SUPABASE_URL"`                         // https://<ref>.supabase.co
	SupabaseJWTSecret      string   `env:"SUPABASE_JWT_SECRET" yaml:"SUPABASE_JWT_SECRET"`           // accepts legacy HS256 tokens
	SupabasePublishableKey string   `env:"SUPABASE_PUBLISHABLE_KEY" yaml:"SUPABASE_PUBLISHABLE_KEY"` // for asking Supabase Auth about tokens
	SupabaseSessions       string   `env:"SUPABASE_SESSIONS" yaml:"SUPABASE_SESSIONS"`               // check: ask Supabase Auth about every token
	NeonAuthURL            string   `env:"NEON_AUTH_URL" yaml:"NEON_AUTH_URL"`                       // https://….neonauth.….neon.tech/<db>/auth
	Issuer                 string   `env:"POSTERN_ISSUER" yaml:"POSTERN_ISSUER"`                     // the iss claim of any other OIDC issuer
	KeySetURL              string   `env:"POSTERN_JWKS_URL" yaml:"POSTERN_JWKS_URL"`                 // that issuer's JWK set; if empty, found by OIDC discovery
	Audience               []string `env:"POSTERN_AUDIENCE" yaml:"POSTERN_AUDIENCE"`                 // the aud values accepted from it
	Subjects               string   `env:"POSTERN_SUBJECTS" yaml:"POSTERN_SUBJECTS"`                 // unique: no two issuers give one sub to different users
	AnonymousUsers         string   `env:"POSTERN_ANONYMOUS_USERS" yaml:"POSTERN_ANONYMOUS_USERS"`   // allow or refuse

	PowerSyncURL      string   `env:"POWERSYNC_URL" yaml:"POWERSYNC_URL"`                   // the PowerSync Service, for GET /api/credentials
	PowerSyncAudience []string `env:"POWERSYNC_AUDIENCE" yaml:"POWERSYNC_AUDIENCE"`         // the aud values it accepts; if empty, aud is not checked
	SigningKey        string   `env:"POSTERN_SIGNING_KEY" yaml:"POSTERN_SIGNING_KEY"`       // PEM or JWK; signs tokens for the PowerSync Service
	SecondKey         string   `env:"POSTERN_SECOND_KEY" yaml:"POSTERN_SECOND_KEY"`         // published beside it, for a rotation
	TokenLifetime     string   `env:"POSTERN_TOKEN_LIFETIME" yaml:"POSTERN_TOKEN_LIFETIME"` // of minted tokens
	TokenClaims       []string `env:"POSTERN_TOKEN_CLAIMS" yaml:"POSTERN_TOKEN_CLAIMS"`     // of the user's token, copied into minted ones

	Policies       string   `env:"POSTERN_POLICIES" yaml:"POSTERN_POLICIES"`               // the folder of policies
	Listen         string   `env:"POSTERN_LISTEN" yaml:"POSTERN_LISTEN"`                   // host:port
	OnReject       string   `env:"POSTERN_ON_REJECT" yaml:"POSTERN_ON_REJECT"`             // skip or stop
	AllowedOrigins []string `env:"POSTERN_ALLOWED_ORIGINS" yaml:"POSTERN_ALLOWED_ORIGINS"` // of web apps; * allows all
	BodyLimit      int      `env:"POSTERN_BODY_LIMIT" yaml:"POSTERN_BODY_LIMIT"`           // bytes
	MaxOperations  int      `env:"POSTERN_MAX_OPERATIONS" yaml:"POSTERN_MAX_OPERATIONS"`   // in one request
	Log            string   `env:"POSTERN_LOG" yaml:"POSTERN_LOG"`                         // debug, info, warn or error
	Record         string   `env:"POSTERN_RECORD" yaml:"POSTERN_RECORD"`                   // the file of recorded requests; if empty, none are
	RecordLimit    int      `env:"POSTERN_RECORD_LIMIT" yaml:"POSTERN_RECORD_LIMIT"`       // bytes

	DecisionLog     string `env:"POSTERN_DECISION_LOG" yaml:"POSTERN_DECISION_LOG"`         // stdout or a file; if empty, there is none
	DecisionSubject string `env:"POSTERN_DECISION_SUBJECT" yaml:"POSTERN_DECISION_SUBJECT"` // plain, hashed or omitted

	MetricsListen     string `env:"POSTERN_METRICS_LISTEN" yaml:"POSTERN_METRICS_LISTEN"`         // host:port of GET /metrics
	ConsolePassword   string `env:"POSTERN_CONSOLE_PASSWORD" yaml:"POSTERN_CONSOLE_PASSWORD"`     // of the console, for requests from other machines
	RejectedRetention string `env:"POSTERN_REJECTED_RETENTION" yaml:"POSTERN_REJECTED_RETENTION"` // how long closed rejected writes are kept, such as 90d
	WebhookURL        string `env:"POSTERN_WEBHOOK_URL" yaml:"POSTERN_WEBHOOK_URL"`               // receives each new rejected write; if empty, there is no webhook
	WebhookSecret     string `env:"POSTERN_WEBHOOK_SECRET" yaml:"POSTERN_WEBHOOK_SECRET"`         // signs the webhook's requests
}

// Default returns the default configuration on this machine.
func Default() Config { return defaults(limits.This()) }

func defaults(machine limits.Machine) Config {
	return Config{
		Policies:       "policies",
		Listen:         ":6060",
		OnReject:       string(apply.Skip),
		AnonymousUsers: "allow",
		TokenLifetime:  "15m",
		AllowedOrigins: []string{"*"},
		BodyLimit:      machine.Body(),
		MaxOperations:  machine.Operations(),
		Log:            "info",
		RecordLimit:    100 << 20,

		DecisionSubject: subjectHashed,

		MetricsListen:     "127.0.0.1:9091",
		RejectedRetention: "90d",
	}
}

// LoadConfig returns the defaults, overridden by the file if it exists, and then by the
// environment. The result is not validated, because flags are applied after it.
func LoadConfig(file string) (Config, error) {
	cfg := Default()
	content, err := os.ReadFile(file)
	if err == nil {
		err := yaml.NewDecoder(bytes.NewReader(content), yaml.Strict()).Decode(&cfg)
		if errors.Is(err, io.EOF) { // comments alone, for which the decoder has emptied cfg
			cfg, err = Default(), nil
		}
		if err != nil {
			// The error leaves out the lines around it, because they may contain secrets.
			return Config{}, fmt.Errorf("%s: %s", file, yaml.FormatError(err, false, false))
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	err = cfg.override(env.ToMap(os.Environ()))
	return cfg, err
}

// LoadDotEnv returns the defaults, overridden by a file of variables such as .env, if it
// exists. It is for development: the environment and ConfigFile are not read.
func LoadDotEnv(file string) (Config, error) {
	cfg := Default()
	variables, err := godotenv.Read(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Config{}, fmt.Errorf("%s is not a file of variables: write KEY=value lines", file) // the error may quote a secret
	}
	err = cfg.override(variables)
	return cfg, err
}

// override sets the fields that have a variable.
func (c *Config) override(variables map[string]string) error {
	mistyped, err := c.parse(variables)
	if err != nil {
		return err
	}
	for _, list := range [][]string{c.Audience, c.PowerSyncAudience, c.TokenClaims, c.AllowedOrigins} {
		for i, value := range list {
			list[i] = strings.TrimSpace(value) // "a, b" is the same as "a,b"
		}
	}
	if len(mistyped) > 0 {
		return errors.Join(append(mistyped, c.Validate())...)
	}
	return nil
}

// parse sets the fields that have a variable. mistyped has an error for each variable
// whose value has a wrong type.
func (c *Config) parse(variables map[string]string) (mistyped []error, err error) {
	err = env.ParseWithOptions(c, env.Options{Environment: variables})
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
		mistyped = append(mistyped, fmt.Errorf("%s=%q is not of type %s: correct its value", name, variables[name], parse.Type))
	}
	return mistyped, nil
}

// Validate reports all problems, each with the key, the value and what to do. Values
// that may contain a password are left out.
func (c Config) Validate() error {
	var problems []error
	var unreadable *os.PathError
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.DatabaseURL == "" {
		problem("DATABASE_URL is not set: set it to the URL of Postern's login role, which `postern migrate` prints")
	} else if _, err := pgxpool.ParseConfig(c.DatabaseURL); errors.As(err, &unreadable) {
		problem("DATABASE_URL names a file that cannot be read: %v: correct sslrootcert, sslcert or sslkey", unreadable)
	} else if err != nil {
		problem("DATABASE_URL is not a Postgres URL: write postgres://user:password@host:5432/database")
	}
	c.validateIssuers(problem)
	if c.PowerSyncURL != "" && !isHTTPURL(c.PowerSyncURL) {
		problem("POWERSYNC_URL=%q is not an http(s) URL: copy your instance's URL from the PowerSync dashboard", c.PowerSyncURL)
	}
	if _, err := c.minter(); err != nil {
		problems = append(problems, err)
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		problem("POSTERN_LISTEN=%q is not host:port: write :6060 or 127.0.0.1:6060", c.Listen)
	}
	if on := apply.OnReject(c.OnReject); on != apply.Skip && on != apply.Stop {
		problem("POSTERN_ON_REJECT=%q is neither skip nor stop: skip goes on with the transactions after a rejected one, stop does not", c.OnReject)
	}
	c.validateOrigins(problem)
	if c.MaxOperations < 1 {
		problem("POSTERN_MAX_OPERATIONS=%d is out of range: write the number of operations that a request may have, such as 20000", c.MaxOperations)
	}
	if c.BodyLimit < 1<<10 || c.BodyLimit > 1<<30 {
		problem("POSTERN_BODY_LIMIT=%d is out of range: write a number of bytes from 1024 to 1073741824, such as 8388608", c.BodyLimit)
	}
	if c.RecordLimit < 1<<20 {
		problem("POSTERN_RECORD_LIMIT=%d is out of range: write a number of bytes from 1048576 on, such as 104857600", c.RecordLimit)
	}
	c.validateRejected(problem)
	if _, err := c.LogLevel(); err != nil {
		problem("POSTERN_LOG=%q is not a level: write debug, info, warn or error", c.Log)
	}
	if !slices.Contains([]string{subjectPlain, subjectHashed, subjectOmitted}, c.DecisionSubject) {
		problem("POSTERN_DECISION_SUBJECT=%q is neither plain, hashed nor omitted: write one of them", c.DecisionSubject)
	}
	return errors.Join(problems...)
}

func (c Config) validateIssuers(problem func(format string, args ...any)) {
	if c.SupabaseURL == "" && c.NeonAuthURL == "" && c.Issuer == "" {
		problem("no issuer of tokens is set: set SUPABASE_URL, NEON_AUTH_URL or POSTERN_ISSUER")
	}
	c.validateSubjects(problem)
	if c.SupabaseURL == "" && (c.SupabaseJWTSecret != "" || c.SupabasePublishableKey != "" || c.SupabaseSessions != "") {
		problem("SUPABASE_JWT_SECRET, SUPABASE_PUBLISHABLE_KEY and SUPABASE_SESSIONS have no effect without SUPABASE_URL: set it to https://<ref>.supabase.co")
	}
	if strings.HasPrefix(c.SupabasePublishableKey, "sb_secret_") {
		problem("SUPABASE_PUBLISHABLE_KEY is a secret key, which gives access to everything: set it to the key that begins with sb_publishable_")
	}
	switch {
	case c.SupabaseSessions != "" && c.SupabaseSessions != "check":
		problem("SUPABASE_SESSIONS=%q is not check: leave it out, or set it to check, which asks Supabase Auth whether each session still exists", c.SupabaseSessions)
	case c.SupabaseSessions == "check" && c.SupabasePublishableKey == "":
		problem("SUPABASE_SESSIONS=check needs SUPABASE_PUBLISHABLE_KEY: set it to the key that begins with sb_publishable_")
	}
	if c.Issuer != "" && len(c.Audience) == 0 {
		problem("POSTERN_ISSUER=%q needs POSTERN_AUDIENCE: set it to the aud claim of its tokens", c.Issuer)
	}
	if c.Issuer == "" && (c.KeySetURL != "" || len(c.Audience) != 0) {
		problem("POSTERN_JWKS_URL and POSTERN_AUDIENCE have no effect without POSTERN_ISSUER: set it to the iss claim of that issuer's tokens")
	}
	if c.AnonymousUsers != "allow" && c.AnonymousUsers != "refuse" {
		problem("POSTERN_ANONYMOUS_USERS=%q is neither allow nor refuse: write one of them", c.AnonymousUsers)
	}
}

// validateSubjects wants several issuers to be meant. A policy's owner, auth.uid() and
// most row-level security know a user by the token's sub alone.
func (c Config) validateSubjects(problem func(format string, args ...any)) {
	var issuers []string
	for _, key := range []struct{ name, value string }{{"SUPABASE_URL", c.SupabaseURL}, {"NEON_AUTH_URL", c.NeonAuthURL}, {"POSTERN_ISSUER", c.Issuer}} {
		if key.value != "" {
			issuers = append(issuers, key.name)
		}
	}
	switch {
	case c.Subjects != "" && c.Subjects != "unique":
		problem("POSTERN_SUBJECTS=%q is not unique: leave it out, or write unique if no two issuers give the same sub to different users", c.Subjects)
	case len(issuers) > 1 && c.Subjects == "":
		problem("%s are set, but a policy's owner and auth.uid() know a user by the token's sub alone: set POSTERN_SUBJECTS=unique if no two issuers give the same sub to different users, "+
			"as is so if all of them use random UUIDs; otherwise keep one issuer, and run another Postern with other tables for the other", strings.Join(issuers, " and "))
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

// LogLevel is Log as a level of slog.
func (c Config) LogLevel() (level slog.Level, err error) {
	err = level.UnmarshalText([]byte(c.Log))
	return level, err
}

func isHTTPURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// rejectedRetention is RejectedRetention as a duration. It must have been validated.
func (c Config) rejectedRetention() time.Duration {
	d, _ := parseDays(c.RejectedRetention)
	return d
}

// parseDays parses a number of days, such as 90d, or a duration in Go's form of at least
// an hour.
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
		problem("POSTERN_REJECTED_RETENTION=%q is neither a number of days nor a duration of at least an hour: write 90d or 36h", c.RejectedRetention)
	}
	if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
		problem("POSTERN_METRICS_LISTEN=%q is not host:port: write 127.0.0.1:9091, or :9091 for a scraper on another machine", c.MetricsListen)
	}
	if n := len(c.ConsolePassword); n > 0 && n < minSecret {
		problem("POSTERN_CONSOLE_PASSWORD has %d bytes: set one of at least %d bytes, such as `openssl rand -hex 16` prints", n, minSecret)
	}
	if (c.WebhookURL == "") != (c.WebhookSecret == "") {
		problem("POSTERN_WEBHOOK_URL and POSTERN_WEBHOOK_SECRET go together: set both, or neither")
	}
	if c.WebhookURL != "" && !isPrivateURL(c.WebhookURL) {
		problem("POSTERN_WEBHOOK_URL is not an https URL: write https://…, or http://… for a loopback address") // its value may contain a secret
	}
	if n := len(c.WebhookSecret); n > 0 && n < minSecret {
		problem("POSTERN_WEBHOOK_SECRET has %d bytes: set one of at least %d bytes, such as `openssl rand -hex 32` prints", n, minSecret)
	}
}

// minSecret is the least length of a secret in bytes.
const minSecret = 16

// isPrivateURL reports whether requests to the URL are encrypted or stay on this machine.
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
