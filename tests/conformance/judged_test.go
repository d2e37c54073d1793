package conformance_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/service/identity"
	"postern/tests/rig"
)

// route is an address that asks who calls.
type route struct{ method, path, body string }

var (
	upload      = route{http.MethodPost, "/api/data", `{"transactions":[{"crud":[]}]}`} // the smoke test of a token
	credentials = route{http.MethodGet, "/api/credentials", ""}
	older       = route{http.MethodGet, "/api/auth/token", ""}
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

// refused says that routes answer a token with 401 and its kind, and that the log
// has the reason but not the token. The last request's line is returned.
func refused(t *testing.T, s *rig.Service, token string, kind identity.Kind, routes ...route) (line refusalLine) {
	t.Helper()
	for _, to := range routes {
		answer, requestID := call(t, s, to, token)
		require.Equal(t, http.StatusUnauthorized, answer.Status, "%s\n%s", answer.Body, s.Logs)
		require.JSONEq(t, `{"message":`+strconv.Quote(string(kind))+`}`, answer.Body)
		require.Equal(t, `Bearer error="invalid_token", error_description="`+string(kind)+`"`, answer.Header.Get("WWW-Authenticate"))
		line = logLine(t, s, "token refused", requestID)
		require.True(t, strings.HasPrefix(line.Reason, string(kind)), line.Reason)
	}
	requireSilent(t, s, token)
	return line
}

// unavailable says that a route answers a token with 503 and when to come again:
// to a client its token is as good as before, and its writes stay queued.
func unavailable(t *testing.T, s *rig.Service, token string, to route) {
	t.Helper()
	answer, requestID := call(t, s, to, token)
	require.Equal(t, http.StatusServiceUnavailable, answer.Status, "%s\n%s", answer.Body, s.Logs)
	seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.Positive(t, seconds)
	require.Empty(t, answer.Header.Get("WWW-Authenticate"))
	require.True(t, strings.HasPrefix(logLine(t, s, "cannot verify a token; the client is told to try again", requestID).Reason, string(identity.Unavailable)))
	requireSilent(t, s, token)
}

// requireSilent says that no part of a token is in the log.
func requireSilent(t *testing.T, s *rig.Service, token string) {
	t.Helper()
	logged := s.Logs.String()
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 8 { // a shorter one is no part of a token but garbage
			require.NotContains(t, logged, part)
		}
	}
}

type refusalLine struct {
	Message   string `json:"msg"`
	RequestID string `json:"request_id"`
	Reason    string `json:"reason"`
	Issuer    string `json:"issuer"`
	KeyID     string `json:"kid"`
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

func notReady(t *testing.T, s *rig.Service, why string) {
	t.Helper()
	answer := s.Send(t, http.MethodGet, "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, answer.Status)
	require.Contains(t, answer.Body, why)
}
