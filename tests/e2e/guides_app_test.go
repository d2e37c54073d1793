package e2e_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

// ofTheApp declares what the guides leave to the app.
const ofTheApp = `
declare function showToast(message: string): void;
declare function showRejected(writes: { code: string; message: string }[]): void;
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
		"app.ts": r.app, "of-the-app.d.ts": ofTheApp,
		"tsconfig.json": `{"extends": "` + filepath.Join(here, "apps", "tsconfig.json") + `", "compilerOptions": {"lib": ["ES2022", "DOM"], "skipLibCheck": true}, "files": ["app.ts", "of-the-app.d.ts"]}`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	output, err := exec.CommandContext(t.Context(), node, tsc, "-p", dir).CombinedOutput()
	require.NoError(t, err, string(output))
}

type note struct {
	Title   string `json:"title"`
	OwnerID string `json:"owner_id"`
}

// runApp runs the guide's app in a headless Chromium, with the service that the guide has
// started, with the provider's client, and with a PowerSync Service, or else a stand-in.
func (r *reader) runApp(t *testing.T, authExample string, auth auth) {
	t.Helper()
	needBrowser(t)
	logs := outputs{r.service}
	if serviceFolder() == "" {
		r.standIn(t)
	} else {
		logs = append(logs, r.startPowerSync(t, auth))
	}
	app := r.app
	for example, here := range map[string]string{
		authExample: auth.url, "https://postern-app.fly.dev": r.url, "sb_publishable_…": "sb_publishable_key", "PASSWORD": password,
	} {
		app = strings.ReplaceAll(app, example, here)
	}
	source := filepath.Join(r.dir, "app.js")
	require.NoError(t, os.WriteFile(source, []byte(app), 0o600))

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, node, "guide-app.mjs", source)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin", "CHROMIUM=" + chromium()}
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	require.NoError(t, err, "%s\nthe services: %s", &stderr, logs)
	var seen struct {
		Notes    []note   `json:"notes"`
		Rejected []string `json:"rejected"`
		Toasts   []string `json:"toasts"`
		Left     int      `json:"left"`
		SignedIn bool     `json:"signed_in"`
	}
	require.NoError(t, json.Unmarshal(output, &seen), string(output))

	require.Equal(t, []note{{"First", auth.user}, {"From the app", auth.user}}, seen.Notes)
	require.Equal(t, []string{"CHECK_VIOLATION", "CHECK_VIOLATION"}, seen.Rejected, "curl's and the app's")
	require.Len(t, seen.Toasts, 1)
	require.Contains(t, seen.Toasts[0], "notes", "a sentence about the write")
	require.Zero(t, seen.Left)
	require.False(t, seen.SignedIn)
	require.Equal(t, "First,From the app", r.db.Text(t, `select string_agg(title, ',' order by title) from notes where owner_id::text = $1`, auth.user))
}

// standIn sends what the guide's streams would, to a single user.
func (r *reader) standIn(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", strings.TrimPrefix(r.powerSync, "http://"))
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(forBrowsers(newPowerSyncOf(t, r.db, `
select 'notes', id::text, (to_jsonb(n) - 'id')::text from notes n
 union all
select 'rejected_writes', id::text, jsonb_build_object('code', code, 'message', message)::text from postern.rejected_writes`)))
	require.NoError(t, server.Listener.Close())
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
}

// startPowerSync runs a PowerSync Service with the guide's role, publication and streams.
func (r *reader) startPowerSync(t *testing.T, auth auth) *rig.Process {
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
`, url(r.postgres.URL("powersync_role", "choose-a-password", "app")), url(r.postgres.OwnerURL("storage")), port, auth.keySet, auth.audience), 0o600))
	return startPowerSync(t, config)
}

// auth is a provider's server with one user, alice, who has a token.
type auth struct {
	url              string // what the provider's setting is set to
	keySet, audience string
	user, token      string
}

// password is the user's.
const password = "choose-a-password"

// newNeonAuth is Better Auth, as Neon runs it.
func newNeonAuth(t *testing.T) auth {
	t.Helper()
	url := startNeonAuth(t)
	body := fmt.Sprintf(`{"name": "Alice", "email": "alice@example.com", "password": %q}`, password)
	var account struct {
		User struct {
			ID string `json:"id"`
		} `json:"user"`
	}
	cookies := ask(t, http.MethodPost, url+"/sign-up/email", body, nil, &account)
	var session struct {
		Token string `json:"token"`
	}
	ask(t, http.MethodGet, url+"/token", "", cookies, &session)
	return auth{
		url: url, keySet: url + "/.well-known/jwks.json", audience: strings.TrimSuffix(url, "/neondb/auth"),
		user: account.User.ID, token: session.Token,
	}
}

// ask sends JSON to an Auth server, reads its answer, and returns the cookies that it set.
func ask(t *testing.T, method, url, body string, cookies []*http.Cookie, answer any) []*http.Cookie {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Origin", url)
	for _, cookie := range cookies {
		request.AddCookie(cookie)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode, url)
	require.NoError(t, json.UnmarshalRead(response.Body, answer))
	return response.Cookies()
}

// newSupabaseAuth stands in for Supabase Auth: it has a key set, and signs alice in and
// out.
func newSupabaseAuth(t *testing.T) auth {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	const keyID, audience = "guide", "authenticated"
	jwk, err := jwkset.NewJWKFromKey(key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: keyID, ALG: jwkset.AlgES256}})
	require.NoError(t, err)
	var url, token string
	mux := http.NewServeMux()
	mux.HandleFunc("GET /auth/v1/.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.MarshalWrite(w, map[string]any{"keys": []any{jwk.Marshal()}})
	})
	mux.HandleFunc("POST /auth/v1/token", func(w http.ResponseWriter, r *http.Request) {
		var form struct {
			Email    string `json:"email"`
			Password string `json:"password"`
		}
		if json.UnmarshalRead(r.Body, &form) != nil || form.Email != "alice@example.com" || form.Password != password {
			http.Error(w, "wrong password", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.MarshalWrite(w, map[string]any{
			"access_token": token, "token_type": "bearer", "expires_in": 900, "refresh_token": "refresh",
			"user": map[string]string{"id": local.UserID("alice")},
		})
	})
	mux.HandleFunc("POST /auth/v1/logout", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	server := httptest.NewServer(forBrowsers(mux))
	t.Cleanup(server.Close)
	url = server.URL

	now := time.Now()
	unsigned := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": url + "/auth/v1", "sub": local.UserID("alice"), "aud": audience, "role": "authenticated",
		"iat": now.Unix(), "exp": now.Add(15 * time.Minute).Unix(),
	})
	unsigned.Header["kid"] = keyID
	token, err = unsigned.SignedString(key)
	require.NoError(t, err)
	return auth{url: url, keySet: url + "/auth/v1/.well-known/jwks.json", audience: audience, user: local.UserID("alice"), token: token}
}
