package conformance_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/neon"
	"postern/service"
	"postern/service/identity"
	"postern/supabase"
	"postern/tests/rig"
)

// route is an address that asks who calls.
type route struct{ method, path, body string }

var (
	upload      = route{http.MethodPost, "/api/data", `{"transactions":[{"crud":[]}]}`} // the smoke test of a token
	credentials = route{http.MethodGet, "/api/credentials", ""}
	older       = route{http.MethodGet, "/api/auth/token", ""}
	routes      = []route{upload, credentials, older}
)

// call sends a token to a route, and returns the request's id in the log, too.
func call(t *testing.T, s *rig.Service, to route, token string) (answer rig.Answer, requestID string) {
	t.Helper()
	requestID = uuid.NewString()
	answer = s.Send(t, to.method, to.path, to.body, "Authorization", "Bearer "+token, "X-Request-Id", requestID)
	if to != upload {
		require.Equal(t, "no-store", answer.Header.Get("Cache-Control"), "%d %s", answer.Status, answer.Body)
	}
	return answer, requestID
}

// accepted says that a token's user may upload.
func accepted(t *testing.T, s *rig.Service, token string) {
	t.Helper()
	answer, _ := call(t, s, upload, token)
	require.Equal(t, http.StatusOK, answer.Status, "%s\n%s", answer.Body, s.Logs)
}

// refused says that every route answers a token with 401 and its kind, and that
// the log has the reason, and nothing by which the token could be used.
func refused(t *testing.T, s *rig.Service, token string, kind identity.Kind) {
	t.Helper()
	for _, to := range routes {
		answer, requestID := call(t, s, to, token)
		require.Equal(t, http.StatusUnauthorized, answer.Status, "%s\n%s", answer.Body, s.Logs)
		require.JSONEq(t, `{"message":`+strconv.Quote(string(kind))+`}`, answer.Body)
		require.Equal(t, `Bearer error="invalid_token", error_description="`+string(kind)+`"`, answer.Header.Get("WWW-Authenticate"))
		require.Contains(t, logLine(t, s, "token refused", requestID).Reason, string(kind))
	}
	silent(t, s, token)
}

// unavailable says that every route answers a token with 503 and when to come
// again, which leaves a client's writes in its queue and its token alone.
func unavailable(t *testing.T, s *rig.Service, token string) {
	t.Helper()
	for _, to := range routes {
		answer, requestID := call(t, s, to, token)
		require.Equal(t, http.StatusServiceUnavailable, answer.Status, "%s\n%s", answer.Body, s.Logs)
		seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
		require.NoError(t, err)
		require.Positive(t, seconds)
		require.Empty(t, answer.Header.Get("WWW-Authenticate"))
		require.Contains(t, logLine(t, s, "token not verified", requestID).Reason, string(identity.Unavailable))
	}
	silent(t, s, token)
}

// silent says that the log has no part of a token but, for its signature is
// gone, what cannot be used.
func silent(t *testing.T, s *rig.Service, token string) {
	t.Helper()
	logged := s.Logs.String()
	for _, part := range strings.Split(token, ".") {
		if len(part) > 8 {
			require.NotContains(t, logged, part)
		}
	}
}

type refusalLine struct {
	Message   string         `json:"msg"`
	RequestID string         `json:"request_id"`
	Reason    string         `json:"reason"`
	Issuer    string         `json:"issuer"`
	KeyID     string         `json:"kid"`
	Rest      jsontext.Value `json:",inline"`
}

// logLine is the one line of a message about a request.
func logLine(t *testing.T, s *rig.Service, message, requestID string) (found refusalLine) {
	t.Helper()
	for line := range strings.Lines(s.Logs.String()) {
		var l refusalLine
		if json.Unmarshal([]byte(line), &l) == nil && l.Message == message && l.RequestID == requestID {
			require.Empty(t, found, "logged twice")
			found = l
		}
	}
	require.NotEmpty(t, found, "%q about %s is not in the log:\n%s", message, requestID, s.Logs)
	return found
}

// The tokens that real providers gave, which have expired. That they are accepted
// at their own time is for the tests of package identity, whose clock can be set.
func TestRecordedTokens(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	ofSupabase := func(i identity.Issuer) (identity.Issuer, error) { return supabase.Issuer("http://127.0.0.1:58082") }
	ofNeon := func(i identity.Issuer) (identity.Issuer, error) { return neon.Issuer("http://127.0.0.1:58083/neondb/auth") }
	for _, test := range []struct {
		name, keySet string
		issuer       func(identity.Issuer) (identity.Issuer, error)
	}{
		{"supabase-es256", "supabase-es256", ofSupabase},
		{"supabase-es256-anonymous", "supabase-es256", ofSupabase},
		{"supabase-rs256", "supabase-rs256", ofSupabase},
		{"supabase-hs256-legacy", "supabase-hs256-legacy", func(i identity.Issuer) (identity.Issuer, error) {
			i, err := ofSupabase(i)
			i.Secret = []byte("rig-super-secret-jwt-token-with-at-least-32-characters")
			return i, err
		}},
		{"better-auth-vanilla", "better-auth-vanilla", func(identity.Issuer) (identity.Issuer, error) {
			return identity.Issuer{
				Issuer: "http://127.0.0.1:58083", Audience: []string{"http://127.0.0.1:58083"}, Algorithms: []string{"EdDSA"},
				Roles: []string{"authenticated"}, Role: "authenticated",
			}, nil
		}},
		{"better-auth-neon", "better-auth-neon", ofNeon},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
		})
	}
	_ = db
}
