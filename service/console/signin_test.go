package console_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/apply"
	"postern/service/console"
)

const password = "0123456789abcdef"

// setup is a console without a database.
func setup(password string) http.Handler {
	return (&console.Console{Applier: &apply.Applier{Policies: &policies.Live{}}, Password: password}).Handler()
}

// ask is the status of a request from an address, with a password if it is not empty.
func ask(t *testing.T, handler http.Handler, path, from, password string, header ...string) (int, http.Header, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:9091/console"+path, nil)
	r.RemoteAddr = from
	if password != "" {
		r.SetBasicAuth("carol", password)
	}
	for _, name := range header {
		r.Header.Set(name, "203.0.113.9")
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Code, w.Header(), w.Body.String()
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, password string // of the server
		from, given    string
		header         []string
		want           int
	}{
		{"this machine", "", "127.0.0.1:1234", "", nil, http.StatusOK},
		{"this machine by IPv6", "", "[::1]:1234", "", nil, http.StatusOK},
		{"this machine by IPv4 in IPv6", "", "[::ffff:127.0.0.1]:1234", "", nil, http.StatusOK},
		{"this machine, with a password set", password, "127.0.0.1:1234", "", nil, http.StatusOK},
		{"another machine", "", "10.0.0.7:1234", "", nil, http.StatusForbidden},
		{"another machine that sends the empty password", "", "10.0.0.7:1234", " ", nil, http.StatusForbidden},
		{"Fly's private network", "", "[fdaa:0:1::3]:1234", "", nil, http.StatusForbidden},
		{"no address", "", "", "", nil, http.StatusForbidden},
		{"a proxy on this machine", "", "127.0.0.1:1234", "", []string{"X-Forwarded-For"}, http.StatusForbidden},
		{"a proxy that says Forwarded", "", "127.0.0.1:1234", "", []string{"Forwarded"}, http.StatusForbidden},
		{"no password", password, "[fdaa:0:1::3]:1234", "", nil, http.StatusUnauthorized},
		{"the wrong password", password, "[fdaa:0:1::3]:1234", "0123456789abcdeF", nil, http.StatusUnauthorized},
		{"the beginning of the password", password, "[fdaa:0:1::3]:1234", "0123", nil, http.StatusUnauthorized},
		{"the password", password, "[fdaa:0:1::3]:1234", password, nil, http.StatusOK},
		{"the password, through a proxy", password, "127.0.0.1:1234", password, []string{"X-Forwarded-For"}, http.StatusOK},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			handler := setup(test.password)
			for _, path := range []string{"/", "/console.js", "/api/views"} {
				status, header, text := ask(t, handler, path, test.from, test.given, test.header...)
				require.Equal(t, test.want, status, path)
				require.Equal(t, test.want == http.StatusUnauthorized, header.Get("WWW-Authenticate") != "")
				if test.want == http.StatusForbidden {
					require.Contains(t, text, "POSTERN_CONSOLE_PASSWORD")
					require.Contains(t, text, "ssh -L")
				}
			}
		})
	}
}

// A machine that guesses is stopped, and the others are not.
func TestSignInLimitsTries(t *testing.T) {
	t.Parallel()
	handler := setup(password)
	for i := range 10 {
		status, _, _ := ask(t, handler, "/", "10.0.0.7:1234", fmt.Sprint("guess", i))
		require.Equal(t, http.StatusUnauthorized, status)
	}
	status, header, _ := ask(t, handler, "/", "10.0.0.7:999", password)
	require.Equal(t, http.StatusTooManyRequests, status, "even the right one, or guesses would be worth their while")
	require.Equal(t, "6", header.Get("Retry-After"))
	status, _, _ = ask(t, handler, "/", "10.0.0.8:1234", password)
	require.Equal(t, http.StatusOK, status)
	for i := range 2000 {
		ask(t, handler, "/", fmt.Sprintf("10.0.%d.%d:1", 1+i/256, i%256), "guess")
	}
	status, _, _ = ask(t, handler, "/", "10.0.0.8:1234", password)
	require.Equal(t, http.StatusOK, status)
}
