package supabase_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/identity"
	"postern/supabase"
)

const (
	publishableKey = "sb_publishable_abc"
	token          = "header.claims.signature"
	alice          = "8d7eaece-f329-4661-a3d0-cabe96fac66a"
	user           = `{"id":"` + alice + `","aud":"authenticated","role":"authenticated","email":"a@example.com","phone":"",
		"app_metadata":{"provider":"email"},"user_metadata":{},"identities":[],"created_at":"2026-11-23T15:50:30.960Z","updated_at":"2026-11-23T15:50:30.960Z","is_anonymous":false%s}`
)

// setup is a stand-in for GET /auth/v1/user of Supabase Auth and of the gateway
// before it, neither of which runs in these tests. Its answers are those of
// their sources.
func setup(t *testing.T, handler http.HandlerFunc) (identity.Introspect, *httptest.Server) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /auth/v1/user", handler)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	issuer, err := supabase.Issuer(server.URL)
	require.NoError(t, err)
	return supabase.Introspect(issuer.Issuer, publishableKey), server
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestIntrospectAccepts(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{
		"a user":                     "",
		"a user once banned":         `,"banned_until":"2020-01-01T00:00:00Z"`,
		"a user without an e-mail":   `,"confirmed_at":null,"last_sign_in_at":null`,
		"a user with unknown fields": `,"new":{"a":[1]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var authorization, apiKey atomic.Value
			introspect, _ := setup(t, func(w http.ResponseWriter, r *http.Request) {
				authorization.Store(r.Header.Values("Authorization"))
				apiKey.Store(r.Header.Values("apikey"))
				answer(http.StatusOK, fmt.Sprintf(user, more))(w, r)
			})
			subject, err := introspect(t.Context(), token)
			require.NoError(t, err)
			require.Equal(t, alice, subject)
			require.Equal(t, []string{"Bearer " + token}, authorization.Load())
			require.Equal(t, []string{publishableKey}, apiKey.Load())
		})
	}
}

func TestIntrospectRefuses(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"a session that is gone": answer(403, `{"code":403,"error_code":"session_not_found","msg":"Session from session_id claim in JWT does not exist"}`),
		"a user who is gone":     answer(403, `{"code":403,"error_code":"user_not_found","msg":"User from sub claim in JWT does not exist"}`),
		"a forged token":         answer(403, `{"code":403,"error_code":"bad_jwt","msg":"invalid JWT: unable to parse or verify signature"}`),
		"an older Auth server":   answer(401, `{"code":401,"msg":"invalid JWT: token is expired"}`),
		"a banned user":          answer(403, `{"code":403,"error_code":"user_banned","msg":"User is banned"}`),
		"a user banned for now":  answer(200, fmt.Sprintf(user, `,"banned_until":"2999-01-01T00:00:00Z"`)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			introspect, _ := setup(t, handler)
			_, err := introspect(t.Context(), token)
			require.ErrorIs(t, err, identity.ErrRefused)
		})
	}
}

// What says nothing about the token must not sign anybody out.
func TestIntrospectCannotTell(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		says    string
	}{
		"too many requests":     {answer(429, `{"code":429,"error_code":"over_request_rate_limit","msg":"Request rate limit reached"}`), "429"},
		"an internal error":     {answer(500, `{"code":500,"error_code":"unexpected_failure","msg":"Database error"}`), "500"},
		"a paused project":      {answer(540, `{"message":"project paused"}`), "540"},
		"a wrong API key":       {answer(401, `{"message":"Invalid API key","hint":"Double check your Supabase anon or service_role API key."}`), "SUPABASE_PUBLISHABLE_KEY"},
		"no API key":            {answer(401, `{"message":"No API key found in request"}`), "SUPABASE_PUBLISHABLE_KEY"},
		"a firewall":            {answer(403, `<html>Attention Required!</html>`), "403"},
		"an empty 403":          {answer(403, ``), "403"},
		"a redirect":            {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "302"},
		"no user":               {answer(200, `{}`), "something other"},
		"a user without an id":  {answer(200, `{"id":"00000000-0000-0000-0000-000000000000"}`), "something other"},
		"a page for people":     {answer(200, `<html>`), "something other"},
		"a body without an end": {answer(200, `{"id":"`+alice+`","x":"`+string(make([]byte, 2<<20))), "something other"},
		"no content":            {answer(204, ``), "204"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			introspect, _ := setup(t, c.handler)
			subject, err := introspect(t.Context(), token)
			require.Empty(t, subject)
			require.ErrorContains(t, err, c.says)
			require.NotErrorIs(t, err, identity.ErrRefused)
			require.NotContains(t, err.Error(), token)
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		introspect, server := setup(t, answer(200, ``))
		server.Close()
		_, err := introspect(t.Context(), token)
		require.Error(t, err)
		require.NotErrorIs(t, err, identity.ErrRefused)
		require.NotContains(t, err.Error(), token)
	})
	t.Run("silence until the context ends", func(t *testing.T) {
		t.Parallel()
		asked := make(chan struct{})
		introspect, _ := setup(t, func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asked
			cancel()
		}()
		_, err := introspect(ctx, token)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("a body that does not come", func(t *testing.T) {
		t.Parallel()
		asked := make(chan struct{})
		introspect, _ := setup(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			close(asked)
			<-r.Context().Done()
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asked
			cancel()
		}()
		_, err := introspect(ctx, token)
		require.Error(t, err)
		require.NotErrorIs(t, err, identity.ErrRefused)
	})
}

// One user's question never carries another's token.
func TestIntrospectConcurrently(t *testing.T) {
	t.Parallel()
	ids := make([]string, 50)
	byToken := make(map[string]string, len(ids))
	for n := range ids {
		ids[n] = fmt.Sprintf("8d7eaece-f329-4661-a3d0-%012d", n)
		byToken[fmt.Sprintf("Bearer token-%d", n)] = ids[n]
	}
	introspect, _ := setup(t, func(w http.ResponseWriter, r *http.Request) {
		answer(http.StatusOK, `{"id":"`+byToken[r.Header.Get("Authorization")]+`"}`)(w, r)
	})
	type result struct {
		n       int
		subject string
		err     error
	}
	results := make(chan result)
	for n := range ids {
		go func() {
			subject, err := introspect(t.Context(), fmt.Sprintf("token-%d", n))
			results <- result{n, subject, err}
		}()
	}
	for range ids {
		r := <-results
		require.NoError(t, r.err)
		require.Equal(t, ids[r.n], r.subject)
	}
}

// The whole way of a recorded legacy token, in a project whose key set is empty
// and whose secret Postern does not have.
func TestProjectWithoutKeys(t *testing.T) {
	t.Parallel()
	recorded, err := os.ReadFile(filepath.Join("..", "tests", "fixtures", "tokens", "supabase-hs256-legacy.jwt"))
	require.NoError(t, err)
	legacy := strings.TrimSpace(string(recorded))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/jwks.json"):
			answer(http.StatusOK, `{"keys":[]}`)(w, r)
		case r.Header.Get("Authorization") == "Bearer "+legacy:
			answer(http.StatusOK, fmt.Sprintf(user, ""))(w, r)
		default:
			answer(http.StatusForbidden, `{"code":403,"error_code":"bad_jwt","msg":"invalid JWT"}`)(w, r)
		}
	}))
	t.Cleanup(server.Close)
	issuer, err := supabase.Issuer("http://127.0.0.1:58082") // who issued it
	require.NoError(t, err)
	issuer.KeySetURL = server.URL + "/jwks.json"
	issuer.Introspect = supabase.Introspect(server.URL+"/auth/v1", publishableKey)
	issuedAt := time.Unix(1795449176, 0)
	verifier, err := identity.NewVerifier(t.Context(), []identity.Issuer{issuer}, slog.New(slog.DiscardHandler), func() time.Time { return issuedAt.Add(time.Minute) })
	require.NoError(t, err)
	require.Eventually(t, func() bool { return verifier.Ready() == nil }, 10*time.Second, time.Millisecond)

	who, err := verifier.Verify(t.Context(), legacy)
	require.NoError(t, err)
	require.Equal(t, alice, who.Subject)
	require.Equal(t, "authenticated", who.Role)

	var refusal *identity.Refusal
	_, err = verifier.Verify(t.Context(), legacy[:len(legacy)-4]+"AAAA")
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, identity.Revoked, refusal.Kind)
}
