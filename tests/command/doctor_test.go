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
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

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
func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{database: rig.NewDatabase(t), issuer: newOIDC(t)}
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

// as has the service connect as another login role, which SQL changes further.
func (p *patient) as(t *testing.T, role, attributes string, more ...string) {
	t.Helper()
	name := role + strings.TrimPrefix(p.name(), "test")
	p.database.Exec(t, fmt.Sprintf("create role %s login password 'postern' %s; grant postern to %[1]s", name, attributes))
	for _, sql := range more {
		p.database.Exec(t, strings.ReplaceAll(sql, "ROLE", name))
	}
	p.env["DATABASE_URL"] = strings.Replace(p.database.LoginURL, "//postern:", "//"+name+":", 1)
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
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/probes/liveness" {
			w.WriteHeader(status)
			fmt.Fprint(w, `{"error":{"code":"PSYNC_S2105","description":"Unexpected aud"}}`)
		}
	}))
	t.Cleanup(server.Close)
	p.env["POWERSYNC_URL"] = server.URL
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

var varying = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`test_\d+`), "test_N"},
	{regexp.MustCompile(`\b(the_\w+?)_\d+`), "$1"},
	{regexp.MustCompile(`/tmp/[^\s":]*/`), "…/"},
	{regexp.MustCompile(`differ by [0-9hms.]+`), "differ by SOME TIME"},
}

// Each case breaks one thing in a setup that is right. The golden files have the output.
func TestDoctor(t *testing.T) {
	t.Parallel()
	for name, breaks := range brokenSetups {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			breaks(t, p)
			output, code := p.doctor(t)
			for _, v := range varying {
				output = v.pattern.ReplaceAllString(output, v.with)
			}
			output += fmt.Sprintf("exit code %d\n", code)
			golden := filepath.Join("testdata", "doctor", name+".txt")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(golden), 0o755))
				require.NoError(t, os.WriteFile(golden, []byte(output), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), output)
		})
	}
}

func TestDoctorJSON(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	output, code := p.doctor(t, "--json")
	require.Zero(t, code, output)
	require.Equal(t, "[]\n", output)
	p.database.Exec(t, `alter table public.lists disable row level security`)
	output, code = p.doctor(t, "--json")
	require.Equal(t, 2, code, output)
	var findings []map[string]string
	require.NoError(t, json.Unmarshal([]byte(output), &findings))
	require.NotEmpty(t, findings)
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
