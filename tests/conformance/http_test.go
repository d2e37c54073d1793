package conformance_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/tests/rig"
)

func TestUnauthenticated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	expired, err := b.Issuer.Token("alice", time.Now().Add(-2*time.Hour))
	require.NoError(t, err)
	for _, test := range []struct{ name, header, want string }{
		{"None", "", "Authorization"},
		{"OtherScheme", "Basic YTpi", "Authorization"},
		{"Garbage", "Bearer x", "malformed token"},
		{"Expired", "Bearer " + expired, "expired token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{"/api/data", "/api/credentials"} {
				method, body := http.MethodPost, `{"transactions":[{"crud":[]}]}`
				if path == "/api/credentials" {
					method, body = http.MethodGet, ""
				}
				answer := b.Send(t, method, path, body, "Authorization", test.header)
				require.Equal(t, http.StatusUnauthorized, answer.Status)
				require.Contains(t, answer.Body, test.want)
				require.True(t, strings.HasPrefix(answer.Header.Get("WWW-Authenticate"), "Bearer"))
			}
		})
	}
}

// TestPackedUpload has a queue of many transactions with a Content-Encoding.
func TestPackedUpload(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var transactions []string
	for i := range 50 {
		transactions = append(transactions, fmt.Sprintf(`{"transaction_id":%d,"crud":[%s]}`, i+1, op("PUT", "lists", uuid.NewString(), `"name":"Shopping for the weekend"`)))
	}
	body := `{"transactions":[` + strings.Join(transactions, ",") + `]}`
	answer := b.Send(t, http.MethodPost, "/api/data", body, "Authorization", "Bearer "+b.Token(t, "alice"), "Content-Encoding", "gzip")
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	require.Equal(t, "50", b.db.Text(t, `select count(*) from lists`))
}

func TestCredentials(t *testing.T) {
	t.Parallel()

	t.Run("TheVeryToken", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		token := b.Token(t, "alice")
		answer := b.Send(t, http.MethodGet, "/api/credentials", "", "Authorization", "Bearer "+token)
		require.Equal(t, http.StatusOK, answer.Status, answer.Body)
		require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
		var got struct {
			Endpoint  string    `json:"endpoint"`
			Token     string    `json:"token"`
			ExpiresAt time.Time `json:"expires_at"`
			UserID    string    `json:"user_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(answer.Body), &got))
		require.Equal(t, "https://powersync.example.com", got.Endpoint, "the JavaScript SDK refuses a slash at the end")
		require.Equal(t, token, got.Token)
		require.Equal(t, b.alice, got.UserID)
		require.WithinDuration(t, time.Now().Add(time.Hour), got.ExpiresAt, time.Minute)
	})

	t.Run("NowhereToGo", func(t *testing.T) {
		t.Parallel()
		s := rig.NewService(t, rig.DemoPolicies(t), func(c *service.Config) { c.PowerSyncURL = "" })
		answer := s.Send(t, http.MethodGet, "/api/credentials", "", "Authorization", "Bearer "+s.Token(t, "alice"))
		require.Equal(t, http.StatusNotImplemented, answer.Status)
		require.Contains(t, answer.Body, "POWERSYNC_URL")
	})
}

func TestBrowsers(t *testing.T) {
	t.Parallel()
	preflight := []string{"Origin", "https://app.example.com", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-encoding,content-type,traceparent,x-requested-with"}

	t.Run("AnyOriginByDefault", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		answer := b.Send(t, http.MethodOptions, "/api/data", "", preflight...)
		require.Equal(t, http.StatusNoContent, answer.Status)
		require.Equal(t, "*", answer.Header.Get("Access-Control-Allow-Origin"))
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			require.Contains(t, strings.Split(answer.Header.Get("Access-Control-Allow-Methods"), ","), method)
		}
		require.Equal(t, "authorization,content-encoding,content-type,traceparent,x-requested-with", answer.Header.Get("Access-Control-Allow-Headers"))
		refused := b.Send(t, http.MethodPost, "/api/data", `{}`, "Origin", "https://app.example.com")
		require.Equal(t, http.StatusUnauthorized, refused.Status)
		require.Equal(t, "*", refused.Header.Get("Access-Control-Allow-Origin"), "the app must be able to read why")
	})

	t.Run("TooLargeIsReadable", func(t *testing.T) {
		t.Parallel()
		s := rig.NewService(t, rig.DemoPolicies(t), func(c *service.Config) { c.BodyLimit = 1024 })
		answer := s.Send(t, http.MethodPost, "/api/data", strings.Repeat(" ", 2000), "Origin", "https://app.example.com", "Authorization", "Bearer "+s.Token(t, "alice"))
		require.Equal(t, http.StatusRequestEntityTooLarge, answer.Status)
		require.Equal(t, "*", answer.Header.Get("Access-Control-Allow-Origin"))
	})

	t.Run("OnlyThoseNamed", func(t *testing.T) {
		t.Parallel()
		s := rig.NewService(t, rig.DemoPolicies(t), func(c *service.Config) { c.AllowedOrigins = []string{"https://app.example.com"} })
		require.Equal(t, "https://app.example.com", s.Send(t, http.MethodOptions, "/api/data", "", preflight...).Header.Get("Access-Control-Allow-Origin"))
		other := append([]string{"Origin", "https://evil.example.com"}, preflight[2:]...)
		require.Empty(t, s.Send(t, http.MethodOptions, "/api/data", "", other...).Header.Get("Access-Control-Allow-Origin"))
	})
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, http.StatusOK, b.Send(t, http.MethodGet, "/livez", "").Status)
	require.Equal(t, http.StatusOK, b.Send(t, http.MethodGet, "/readyz", "").Status)
	require.Equal(t, string(service.OpenAPI()), b.Send(t, http.MethodGet, "/openapi.yaml", "").Body)
	missing := b.Send(t, http.MethodGet, "/nowhere", "")
	require.Equal(t, http.StatusNotFound, missing.Status)
	require.Contains(t, missing.Body, `"message"`)
	wrong := b.Send(t, http.MethodGet, "/api/data", "")
	require.Equal(t, http.StatusMethodNotAllowed, wrong.Status)
	require.Contains(t, wrong.Body, `"message"`)
}

func TestLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.Token(t, "alice")
	const secret = "a word nobody may read"
	body := `{"transactions":[{"crud":[{"op":"PUT","table":"lists","id":"x-secret-id","op_data":{"name":"` + secret + `"}}]},
		{"crud":[{"op":"PUT","table":"lists","id":"8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10","op_data":{"name":"` + strings.Repeat(secret, 20) + `"}}]}]}`
	answer := b.Send(t, http.MethodPost, "/api/data", body, "Authorization", "Bearer "+token, "X-Request-Id", "from-the-app")
	require.Equal(t, "from-the-app", answer.Header.Get("X-Request-Id"))
	results := answer.Results(t)
	require.Equal(t, "INVALID_DATA", results[0].FailedOperation.ErrorCode)
	require.Equal(t, "CHECK_VIOLATION", results[1].FailedOperation.ErrorCode)
	forged := b.Send(t, http.MethodPost, "/api/data", body, "Authorization", "Bearer "+token, "X-Request-Id", "a\tb {\"forged\":1}")
	require.NotContains(t, forged.Header.Get("X-Request-Id"), "forged")

	logged := b.Logs.String()
	require.Contains(t, logged, `"request_id":"from-the-app"`)
	require.Contains(t, logged, `"code":"CHECK_VIOLATION"`)
	for _, forbidden := range []string{secret, "x-secret-id", token, strings.Split(token, ".")[2], "forged"} {
		require.NotContains(t, logged, forbidden)
	}
}

// TestShutdownBesideSilentConnections stops the service, as its setup does in the
// end and expects to succeed, while a connection is open that nothing was ever sent
// on: proxies open some in advance.
func TestShutdownBesideSilentConnections(t *testing.T) {
	t.Parallel()
	var silent net.Conn
	t.Cleanup(func() { silent.Close() }) // after the service has stopped
	b := setup(t)
	var err error
	silent, err = net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, b.Send(t, http.MethodGet, "/readyz", "").Status, "by then the connection before is accepted")
}
