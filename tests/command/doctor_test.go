package command_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"postern/service/doctor"
	"postern/service/identity"
	"postern/tests/rig"
)

var update = flag.Bool("update", false, "write the golden files again")

// patient is one setup that postern doctor examines.
type patient struct {
	database *rig.Database
	issuer   *oidc
	env      map[string]string
	args     []string
}

// oidc is an OIDC issuer with one ES256 key.
type oidc struct {
	key    *ecdsa.PrivateKey
	url    string
	keySet string           // served instead of the key's own, if it is not empty
	date   func() time.Time // of the Date header; nil is now
}

func newOIDC(t *testing.T) *oidc {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	o := &oidc{key: key}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if o.date != nil {
			w.Header().Set("Date", o.date().UTC().Format(http.TimeFormat))
		}
		if o.keySet != "" {
			fmt.Fprint(w, o.keySet)
			return
		}
		fmt.Fprintf(w, `{"keys":[%s]}`, o.jwk())
	}))
	t.Cleanup(server.Close)
	o.url = server.URL
	return o
}

func (o *oidc) jwk() string {
	point, err := o.key.PublicKey.Bytes() // 4, X, Y
	if err != nil {
		panic(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":"k","alg":"ES256","x":%q,"y":%q}`, encode(point[1:33]), encode(point[33:]))
}

func (o *oidc) token(t *testing.T, changes map[string]any) string {
	t.Helper()
	claims := jwt.MapClaims{
		"iss": "https://id.example.com", "aud": "app", "sub": "8d7eaece-f329-4661-a3d0-000000000001",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range changes {
		claims[name] = value
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	token.Header["kid"] = "k"
	text, err := token.SignedString(o.key)
	require.NoError(t, err)
	return text
}

// newPatient is a setup without a fault.
func newPatient(t *testing.T, database *rig.Database) *patient {
	t.Helper()
	p := &patient{database: database, issuer: newOIDC(t)}
	p.env = map[string]string{
		"DATABASE_URL":     p.database.LoginURL,
		"POSTERN_POLICIES": filepath.Join("..", "..", "policies", "demo"),
		"POSTERN_ISSUER":   "https://id.example.com",
		"POSTERN_AUDIENCE": "app",
		"POSTERN_JWKS_URL": p.issuer.url,
		"GOMEMLIMIT":       "1GiB",
	}
	p.try(p.issuer.token(t, nil))
	return p
}

func (p *patient) try(token string) { p.args = []string{"--token", token} }

// name is the database's.
func (p *patient) name() string {
	return regexp.MustCompile(`test_\d+`).FindString(p.database.OwnerURL)
}

// direct has the service connect to Postgres itself, even if the run has a pooler.
func (p *patient) direct(t *testing.T) {
	t.Helper()
	own, err := url.Parse(p.database.OwnerURL)
	require.NoError(t, err)
	u, err := url.Parse(p.env["DATABASE_URL"])
	require.NoError(t, err)
	u.Host = own.Host
	p.env["DATABASE_URL"] = u.String()
}

// pooled reports whether PgBouncer is between the service and Postgres.
func (p *patient) pooled(t *testing.T) bool {
	t.Helper()
	pooler, err := url.Parse(p.database.LoginURL)
	require.NoError(t, err)
	u, err := url.Parse(p.env["DATABASE_URL"])
	require.NoError(t, err)
	return rig.Pooled() && u.Host == pooler.Host
}

// as has the service connect as another login role, which SQL changes further.
func (p *patient) as(t *testing.T, role, attributes string, more ...string) {
	t.Helper()
	name := role + strings.TrimPrefix(p.name(), "test")
	p.database.Exec(t, fmt.Sprintf("create role %s login password 'postern' %s; grant postern to %[1]s", name, attributes))
	for _, sql := range more {
		p.database.Exec(t, strings.ReplaceAll(sql, "ROLE", name))
	}
	p.env["DATABASE_URL"] = strings.Replace(p.database.LoginURL, "//postern:", "//"+name+":", 1)
	p.direct(t) // the pooler does not know the role
}

// policies replaces the demo's policies.
func (p *patient) policies(t *testing.T, yaml string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "app.yaml"), yaml)
	p.env["POSTERN_POLICIES"] = dir
}

// powerSync is a PowerSync Service that answers each request for a stream with a status.
func (p *patient) powerSync(t *testing.T, status int) {
	t.Helper()
	p.powerSyncOf(t, func(string) int { return status })
}

// powerSyncOf is a PowerSync Service that answers a request for a stream with a status
// that depends on the token.
func (p *patient) powerSyncOf(t *testing.T, answer func(token string) int) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/probes/liveness" {
			w.WriteHeader(answer(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")))
			fmt.Fprint(w, `{"error":{"code":"PSYNC_S2105","description":"Unexpected aud"}}`)
		}
	}))
	t.Cleanup(server.Close)
	p.env["POWERSYNC_URL"] = server.URL
}

// mint gives the service a signing key.
func (p *patient) mint(t *testing.T) {
	t.Helper()
	key, err := identity.NewSigningKey()
	require.NoError(t, err)
	p.env["POSTERN_SIGNING_KEY"], err = key.PrivateJWK()
	require.NoError(t, err)
}

func (p *patient) doctor(t *testing.T, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), rig.Command(t), append(append([]string{"doctor"}, p.args...), args...)...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	for name, value := range p.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	content, err := cmd.Output()
	if exited := (*exec.ExitError)(nil); errors.As(err, &exited) {
		code = exited.ExitCode()
	} else {
		require.NoError(t, err)
	}
	return string(content), code
}

// The notes about the connection. The golden files have the first.
const (
	directNote = `note (connection): the connection is direct, or its pooler keeps prepared statements, so Postgres parses each statement once; the pool holds at most 20 connections
  remedy: keep it; if the database runs out of connections, lower pool_max_conns in DATABASE_URL, or use the provider's transaction pooler
`
	pooledNote = `note (connection): the connection goes through a transaction pooler, so Postgres parses each statement each time
  remedy: if it is near and has connections to spare, use the direct URL; if PgBouncer keeps prepared statements (1.21, max_prepared_statements), add statements=named to DATABASE_URL
`
)

var varying = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`test_\d+`), "test_N"},
	{regexp.MustCompile(`\b(the_\w+?)_\d+`), "$1"},
	{regexp.MustCompile(`/tmp/[^\s":]*/`), "…/"},
	{regexp.MustCompile(`machine has [0-9.]+ [KMG]iB`), "machine has SOME MEMORY"},
	{regexp.MustCompile(`differ by [0-9hms.]+`), "differ by SOME TIME"},
}

// Each case breaks one thing in a setup that is right. The golden files have the output.
func TestDoctor(t *testing.T) {
	t.Parallel()
	for name, breaks := range brokenSetups {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, rig.NewDatabase(t))
			breaks(t, p)
			output, code := p.doctor(t)
			if p.pooled(t) {
				require.NotContains(t, output, directNote)
				if name != "transaction-pooler" { // its golden file has the note
					output = strings.Replace(output, pooledNote, directNote, 1)
				}
			}
			requireGolden(t, name, output, code)
		})
	}
}

// requireGolden compares what doctor has printed with the golden file of a setup.
func requireGolden(t *testing.T, setup, output string, code int) {
	t.Helper()
	for _, v := range varying {
		output = v.pattern.ReplaceAllString(output, v.with)
	}
	output += fmt.Sprintf("exit code %d\n", code)
	golden := filepath.Join("testdata", "doctor", setup+".txt")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(golden), 0o755))
		require.NoError(t, os.WriteFile(golden, []byte(output), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), output)
}

// The roles that users write as are those of a whole server, so these setups have one of
// their own.
func TestDoctorUserRoles(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"user-role-bypasses-rls": "alter role authenticated bypassrls",
		"no-user-role":           "alter role authenticated rename to others",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, newServer(t))
			p.database.Exec(t, sql)
			output, code := p.doctor(t)
			requireGolden(t, name, output, code)
		})
	}
}

// These encodings belong to a database for good, so the databases are not copies of the
// others' template.
func TestDoctorEncodings(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	admin, err := pgx.Connect(t.Context(), server.OwnerURL("postgres"))
	require.NoError(t, err)
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		name := "encoding-" + strings.ToLower(encoding)
		_, err := admin.Exec(t.Context(), fmt.Sprintf("create database %q encoding %s locale 'C' template template0", name, encoding))
		require.NoError(t, err)
		p := newPatient(t, prepare(t, server, name))
		output, code := p.doctor(t)
		requireGolden(t, name, output, code)
	}
	require.NoError(t, admin.Close(t.Context()))
}

// The clock of this machine is a minute ahead of the database's.
func TestDoctorClock(t *testing.T) {
	t.Parallel()
	db, err := pgxpool.New(t.Context(), rig.NewDatabase(t).LoginURL)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	causes := func(ahead time.Duration) (list []string) {
		for _, f := range doctor.Examine(t.Context(), doctor.Setup{DB: db, Now: func() time.Time { return time.Now().Add(ahead) }}) {
			if f.Check == "server" {
				list = append(list, f.Cause)
			}
		}
		return list
	}
	require.Empty(t, causes(0))
	require.Equal(t, []string{"this machine's clock and the database's differ by 1m0s; receipts and retries depend on both"}, causes(time.Minute))
}

func TestDoctorJSON(t *testing.T) {
	t.Parallel()
	p := newPatient(t, rig.NewDatabase(t))
	output, code := p.doctor(t, "--json")
	require.Zero(t, code, output)
	var findings []map[string]string
	require.NoError(t, json.Unmarshal([]byte(output), &findings))
	require.Len(t, findings, 1)
	require.Equal(t, "connection", findings[0]["check"])
	require.Equal(t, "note", findings[0]["severity"])
	p.database.Exec(t, `alter table public.lists disable row level security`)
	output, code = p.doctor(t, "--json")
	require.Equal(t, 2, code, output)
	require.NoError(t, json.Unmarshal([]byte(output), &findings))
	require.Len(t, findings, 2)
	for _, field := range []string{"check", "severity", "cause", "remedy"} {
		require.NotEmpty(t, findings[0][field], field)
	}
}

// The service makes the cheap checks itself, once it has read the catalogue.
func TestServeLogsFindings(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `alter table public.lists disable row level security`)
	s := rig.NewServiceOn(t, database, rig.DemoPolicies(t))
	require.Eventually(t, func() bool {
		return strings.Contains(s.Logs.String(), `"check":"row-level-security","cause":"each user may write every row of public.lists`)
	}, 10*time.Second, 10*time.Millisecond, "%s", s.Logs)
}
