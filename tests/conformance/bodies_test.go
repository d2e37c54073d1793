package conformance_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/tests/rig"
)

// TestOverALimit has a device send a transaction that no limit lets through, twice. The
// team must hear of it: the device cannot upload anything else.
func TestOverALimit(t *testing.T) {
	t.Parallel()
	put := func(name string) string {
		return fmt.Sprintf(`{"op":"PUT","table":"lists","id":%q,"op_data":{"name":%q}}`, uuid.NewString(), name)
	}
	for _, test := range []struct{ name, body, want, size string }{
		{"Bytes", `{"transactions":[{"crud":[` + put(strings.Repeat("a secret ", 1000)) + `]}]}`, "limit of 8000 bytes", "POSTERN_BODY_LIMIT"},
		{"Operations", `{"transactions":[{"crud":[` + put("a secret") + "," + put("b") + "," + put("c") + "," + put("d") + `]}]}`, "more than 3 operations", "POSTERN_MAX_OPERATIONS"},
		{"OperationsInAll", `{"transactions":[{"crud":[` + put("a secret") + "," + put("b") + `]},{"crud":[` + put("c") + "," + put("d") + `]}]}`, "more than 3 operations", "POSTERN_MAX_OPERATIONS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := rig.NewService(t, rig.DemoPolicies(t), func(c *service.Config) { c.BodyLimit, c.MaxOperations = 8000, 3 })
			for range 2 {
				answer := s.Upload(t, "alice", test.body)
				require.Equal(t, http.StatusRequestEntityTooLarge, answer.Status)
				require.Contains(t, answer.Body, test.want)
				require.Contains(t, answer.Body, test.size)
			}
			require.Equal(t, "open TOO_LARGE 2", s.Database.Text(t, `select status || ' ' || code || ' ' || attempts from postern.rejected_writes`))
			require.Equal(t, fmt.Sprint(len(test.body)), s.Database.Text(t, `select details->>'bytes' from postern.rejected_writes where subject = $1`, rig.UserID("alice")))
			require.Contains(t, s.Logs.String(), "upload over a limit")
			require.NotContains(t, s.Logs.String(), "a secret")
			metrics := httptest.NewRecorder()
			s.Metrics.ServeHTTP(metrics, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			require.Contains(t, metrics.Body.String(), "postern_uploads_too_large_total 2")
			listed := s.Send(t, http.MethodGet, "/api/rejected", "", "Authorization", "Bearer "+s.Token(t, "alice"))
			require.Equal(t, http.StatusOK, listed.Status)
			require.Contains(t, listed.Body, `"code":"TOO_LARGE"`)
		})
	}
}

// TestBodiesWithoutAToken has 40 clients announce eight megabytes without a token. Each is
// refused before its body is sent.
func TestBodiesWithoutAToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var clients []net.Conn
	for range 40 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "POST /api/data HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 8000000\r\n\r\n%s", strings.Repeat(" ", 64<<10))
		require.NoError(t, err)
		clients = append(clients, conn)
	}
	for _, conn := range clients {
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusUnauthorized, response.StatusCode)
	}
}

// TestShutdownBesideStalledHeaders stops the service, as its setup does in the end, while
// clients have sent half of a request's headers: of the first request, and of the second
// one. The service does not wait for the rest.
func TestShutdownBesideStalledHeaders(t *testing.T) {
	t.Parallel()
	const half, whole = "GET /livez HTTP/1.1\r\nHost: x\r\n", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
	var stalled []net.Conn
	t.Cleanup(func() { // after the service has stopped
		for _, conn := range stalled {
			require.NoError(t, conn.Close())
		}
	})
	b := setup(t)
	for _, sent := range []string{half, whole} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
		require.NoError(t, err)
		stalled = append(stalled, conn)
		_, err = conn.Write([]byte(sent))
		require.NoError(t, err)
		if sent == whole {
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			_, err = conn.Write([]byte(half))
			require.NoError(t, err)
		}
	}
	require.Equal(t, http.StatusOK, b.Send(t, http.MethodGet, "/readyz", "").Status, "by then the connections before are accepted")
}

// TestShutdownBesideAStalledBody stops the service, as its setup does in the end, while a
// client has sent half of a body. The client is told to try again.
func TestShutdownBesideAStalledBody(t *testing.T) {
	t.Parallel()
	var stalled net.Conn
	t.Cleanup(func() { // after the service has stopped
		defer stalled.Close()
		response, err := http.ReadResponse(bufio.NewReader(stalled), nil)
		require.NoError(t, err)
		defer response.Body.Close()
		require.Equal(t, http.StatusRequestTimeout, response.StatusCode)
	})
	b := setup(t)
	var err error
	stalled, err = net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
	require.NoError(t, err)
	_, err = fmt.Fprintf(stalled, "POST /api/data HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n%s", b.Token(t, "alice"), strings.Repeat(" ", 50_000))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, b.Send(t, http.MethodGet, "/readyz", "").Status, "by then the connection before is accepted")
}
