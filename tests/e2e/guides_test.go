package e2e_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"postern/neon"
	"postern/service/local"
	"postern/supabase"
	"postern/tests/rig"
)

// Each guide leads from an empty project to a synced write and a rejection, by the very
// commands that are in it. If there is a PowerSync Service, a device receives both.
func TestGuides(t *testing.T) {
	needNode(t)
	t.Parallel()
	for _, tc := range []struct {
		project local.Project
		method  jwt.SigningMethod
		// AUTH stands for the Auth server's address.
		setting, keySet, issuer, audience string
	}{
		{supabase.Project, jwt.SigningMethodES256,
			"SUPABASE_URL=AUTH", "AUTH/auth/v1/.well-known/jwks.json", "AUTH/auth/v1", "authenticated"},
		{neon.Project, jwt.SigningMethodEdDSA,
			"NEON_AUTH_URL=AUTH/neondb/auth", "AUTH/neondb/auth/.well-known/jwks.json", "AUTH", "AUTH"},
	} {
		t.Run(tc.project.Name, func(t *testing.T) {
			t.Parallel()
			auth := newAuth(t, tc.method)
			at := func(s string) string { return strings.ReplaceAll(s, "AUTH", auth.URL) }
			g := newReader(t, tc.project)
			g.env = append(g.env, at("TOKEN="+auth.token(t, at(tc.issuer), at(tc.audience))), strings.ReplaceAll(tc.setting, "=AUTH", "="+auth.URL))
			g.follow(t, "../../"+tc.project.Name+"/README.md")

			require.Equal(t, local.UserID("alice")+" First", g.db.Text(t, `select owner_id || ' ' || title from notes`))
			const waiting = `select count(*) from postern.rejected_writes where status = 'open' and code = 'CHECK_VIOLATION'`
			require.Equal(t, "1", readAs(t, g.db, "powersync_role", "choose-a-password", waiting))
			require.Equal(t, "1", readAs(t, g.db, "powersync_role", "choose-a-password", `select count(*) from notes`))
			require.Equal(t, "2", g.db.Text(t, `select count(*) from pg_publication_tables where pubname = 'powersync'`))
			if serviceFolder() != "" {
				g.sync(t, at(tc.keySet), at(tc.audience))
			}
		})
	}
}

type note struct {
	Title   string `json:"title"`
	OwnerID string `json:"owner_id"`
}

// sync runs a PowerSync Service with the guide's role, publication and streams, and a
// device of the guide's user.
func (r *reader) sync(t *testing.T, keySet, audience string) {
	t.Helper()
	execute(t, r.postgres.OwnerURL("postgres"), `create database storage`)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(r.powerSync, "http://"))
	require.NoError(t, err)
	url := func(u string) string { u, _, _ = strings.Cut(u, "?"); return u }
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "streams.yaml"), []byte(r.streams), 0o600))
	config := filepath.Join(r.dir, "powersync.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
replication: {connections: [{type: postgresql, uri: %q, sslmode: disable}]}
storage: {type: postgresql, uri: %q, sslmode: disable}
port: %s
sync_config: {path: streams.yaml}
client_auth: {jwks_uri: %q, audience: [%q]}
healthcheck: {probes: {use_http: true}}
telemetry: {disable_telemetry_sharing: true}
`, url(r.postgres.URL("powersync_role", "choose-a-password", "app")), url(r.postgres.OwnerURL("storage")), port, keySet, audience), 0o600))
	service := startPowerSync(t, config)

	var received struct {
		Notes       []note        `json:"notes"`
		NotAccepted []notAccepted `json:"not_accepted"`
	}
	runDevice(t, "synced-notes", r.env, &received, outputs{service})
	require.Equal(t, []note{{"First", local.UserID("alice")}}, received.Notes)
	require.Len(t, received.NotAccepted, 1)
	require.Equal(t, "CHECK_VIOLATION", received.NotAccepted[0].Code)
}

// The page for apps with another write path has a query that finds what must change.
func TestMigratingQuery(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	db.Exec(t, `
create function caller() returns text language sql stable as $$ select current_setting('app.user_id') $$;
create function fine() returns uuid language sql stable as $$ select auth.uid() $$;
create policy "by header" on lists using (current_setting('request.headers') = name)`)
	page, err := os.ReadFile("../../MIGRATING.md")
	require.NoError(t, err)
	blocks := slices.DeleteFunc(blocksOf(string(page)), func(b block) bool { return !b.run })
	require.Len(t, blocks, 1)
	require.Equal(t, "sql", blocks[0].kind)
	query := strings.TrimRight(strings.TrimSpace(blocks[0].code), ";")
	require.Equal(t, "function caller(), policy by header on lists",
		db.Text(t, `select string_agg(kind || ' ' || name, ', ' order by kind, name) from (`+query+`) found`))
}

// reader follows a guide on a Postgres of its own, in a folder of its own.
type reader struct {
	dir       string
	env       []string
	url       string // of the service, once it runs
	powerSync string // the URL of the PowerSync Service, if it runs
	streams   string // the guide's sync configuration
	app       string // the guide's JavaScript
	postgres  *local.Postgres
	db        *rig.Database // the project's
}

// newReader sets up an empty project, whose owner is no superuser.
func newReader(t *testing.T, project local.Project) *reader {
	t.Helper()
	postgres := startPostgres(t)
	execute(t, postgres.OwnerURL("postgres"), `create role app_owner login createrole createdb bypassrls password 'owner'`)
	execute(t, postgres.OwnerURL("postgres"), `create database app owner app_owner`)
	execute(t, postgres.OwnerURL("app"), project.SQL+`
		grant create on schema public to app_owner;
		grant usage on schema public, auth to app_owner with grant option;
		grant `+strings.Join(project.Roles, ", ")+` to app_owner with admin option`)
	ownerURL := postgres.URL("app_owner", "owner", "app")
	owner, err := pgxpool.New(t.Context(), ownerURL)
	require.NoError(t, err)
	t.Cleanup(owner.Close)
	address, powerSync := freeAddress(t), "http://"+freeAddress(t)
	return &reader{
		dir: t.TempDir(), url: "http://" + address, powerSync: powerSync, postgres: postgres, db: &rig.Database{OwnerURL: ownerURL, Owner: owner},
		env: []string{
			"PATH=" + filepath.Dir(rig.Command(t)) + ":" + os.Getenv("PATH"),
			"OWNER_URL=" + ownerURL, "POWERSYNC_URL=" + powerSync,
			"POSTERN_LISTEN=" + address, "POSTERN_URL=http://" + address, "POSTERN_METRICS_LISTEN=127.0.0.1:0",
		},
	}
}

// follow runs the blocks of a page in order, apart from those that it says are not run.
func (r *reader) follow(t *testing.T, page string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, block := range blocksOf(string(text)) {
		if !block.run {
			continue
		}
		switch block.kind {
		case "sql":
			r.query(t, block.code)
		case "sh":
			r.shell(t, block.code)
		case "yaml sync":
			require.Empty(t, checkSync(t, r.db, block.code), block.code)
			r.streams = block.code
		case "js":
			r.app += block.code
		case "yaml powersync.yaml":
			require.Empty(t, checkService(t, block.code), block.code)
		default:
			require.Fail(t, "no test runs such a block", "%s: %s: write above it: %s\n%s", page, block.kind, notRun, block.code)
		}
	}
	r.compile(t)
}

// notInstalled declares what the guides' apps have, and our tests do not install.
const notInstalled = `
declare function showToast(message: string): void;
declare module '@neondatabase/neon-js/auth' {
  export function createAuthClient(url: string): import('@postern/connector/neon').NeonAuthClient & { signOut(): Promise<unknown> };
}
`

// compile checks the guide's app with strict TypeScript, against the packed connector and
// the SDK.
func (r *reader) compile(t *testing.T) {
	t.Helper()
	dir := filepath.Join(r.dir, "app")
	here, err := os.Getwd()
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.Symlink(filepath.Join(here, "node_modules"), filepath.Join(dir, "node_modules")))
	for name, content := range map[string]string{
		"app.ts": r.app, "not-installed.d.ts": notInstalled,
		"tsconfig.json": `{"extends": "` + filepath.Join(here, "apps", "tsconfig.json") + `", "compilerOptions": {"lib": ["ES2022", "DOM"]}, "files": ["app.ts", "not-installed.d.ts"]}`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	output, err := exec.CommandContext(t.Context(), node, connector+"/node_modules/typescript/bin/tsc", "-p", dir).CombinedOutput()
	require.NoError(t, err, string(output))
}

// query runs SQL as the owner. A role with bypassrls is a superuser's to create here;
// Supabase's and Neon's owners may do that.
func (r *reader) query(t *testing.T, sql string) {
	t.Helper()
	if strings.Contains(sql, "replication bypassrls") {
		execute(t, r.postgres.OwnerURL("app"), sql)
		return
	}
	r.db.Exec(t, sql)
}

var printedLogin = regexp.MustCompile(`postgres://postern:\S+`)

// shell runs commands. What migrate prints becomes DATABASE_URL, as the guide says, and
// the service runs on in the background.
func (r *reader) shell(t *testing.T, commands string) {
	t.Helper()
	if commands == "postern serve\n" {
		service, err := rig.StartProcess(filepath.Join(r.dir, "output"), append(r.env, "POSTERN_POLICIES="+filepath.Join(r.dir, "policies")), rig.Command(t), "serve")
		require.NoError(t, err)
		t.Cleanup(func() { service.Stop() })
		require.NoError(t, service.AwaitReady(t.Context(), r.url))
		return
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", commands)
	cmd.Dir, cmd.Env = r.dir, append(os.Environ(), r.env...)
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", commands, output)
	t.Logf("%s%s", commands, output)
	if login := printedLogin.Find(output); login != nil {
		r.env = append(r.env, "DATABASE_URL="+string(login))
	}
}

// auth stands in for a provider's server: it has a key set, at any path, and a user.
type auth struct {
	*httptest.Server
	method jwt.SigningMethod
	key    crypto.Signer
}

const authKeyID = "guide"

func newAuth(t *testing.T, method jwt.SigningMethod) *auth {
	t.Helper()
	a := &auth{method: method}
	var err error
	if method == jwt.SigningMethodEdDSA {
		_, a.key, err = ed25519.GenerateKey(rand.Reader)
	} else {
		a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	require.NoError(t, err)
	jwk, err := jwkset.NewJWKFromKey(a.key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: authKeyID, ALG: jwkset.ALG(method.Alg())}})
	require.NoError(t, err)
	keySet, err := json.Marshal(map[string]any{"keys": []any{jwk.Marshal()}})
	require.NoError(t, err)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/.well-known/jwks.json") {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(keySet)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *auth) token(t *testing.T, issuer, audience string) string {
	t.Helper()
	now := time.Now()
	token := jwt.NewWithClaims(a.method, jwt.MapClaims{
		"iss": issuer, "sub": local.UserID("alice"), "aud": audience, "role": "authenticated",
		"iat": now.Unix(), "exp": now.Add(15 * time.Minute).Unix(),
	})
	token.Header["kid"] = authKeyID
	signed, err := token.SignedString(a.key)
	require.NoError(t, err)
	return signed
}
