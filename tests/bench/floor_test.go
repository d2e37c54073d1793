package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/tests/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// recorder keeps what one connection sends to Postgres.
type recorder struct {
	mu   sync.Mutex
	sent []byte
}

func (r *recorder) Write(chunk []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, chunk...)
	return len(chunk), nil
}

// take returns the messages since the last time: their types, followed by the
// statement where that is parsed, and by the number of bytes elsewhere. See
// https://www.postgresql.org/docs/current/protocol-message-formats.html.
func (r *recorder) take(t *testing.T) (messages []string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for rest := r.sent; len(rest) > 0; {
		require.Greater(t, len(rest), 4)
		kind, length := string(rest[0]), int(binary.BigEndian.Uint32(rest[1:]))
		require.GreaterOrEqual(t, len(rest), 1+length)
		content := string(rest[5 : 1+length])
		if kind == "P" {
			messages = append(messages, kind+" "+strings.Split(content, "\x00")[1])
		} else {
			messages = append(messages, kind+" "+strings.Repeat("x", len(content)))
		}
		rest = rest[1+length:]
	}
	r.sent = nil
	return messages
}

// TestSameStatements keeps the floor honest: for every shape of request it sends
// the messages that Postern sends, each as long.
func TestSameStatements(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	through := func() (*recorder, string) {
		u, err := url.Parse(db.LoginURL)
		require.NoError(t, err)
		recorded := &recorder{}
		proxied, err := rig.NewProxy(t, u.Host, rig.ProxyOptions{Requests: recorded}).URL(db.LoginURL + "&pool_max_conns=1")
		require.NoError(t, err)
		return recorded, proxied
	}
	fromPostern, posternURL := through()
	s := rig.NewServiceOn(t, db, rig.DemoPolicies(t), func(c *service.Config) { c.DatabaseURL = posternURL })
	fromFloor, floorURL := through()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	f, err := newFloor(ctx, floorURL, rig.ServeIssuer(t, s.Issuer)+"/dev/jwks.json")
	require.NoError(t, err)
	t.Cleanup(f.db.Close)
	app := f.app()
	token := s.Token(t, "alice")
	send := func(shape shape) {
		body := shape.body(nil)
		answer := s.Send(t, http.MethodPost, "/api/data", string(body), "Authorization", "Bearer "+token)
		require.Equal(t, http.StatusOK, answer.Status)
		request := httptest.NewRequest(http.MethodPost, "/api/data", bytes.NewReader(body))
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := app.Test(request, -1)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode)
		response.Body.Close()
	}
	send(shape{1, 1}) // the connections are made
	s.AwaitTidy(t)
	fromPostern.reset()
	fromFloor.reset()
	for _, shape := range shapes {
		send(shape)
		want := fromPostern.take(t)
		require.Equal(t, want, fromFloor.take(t), "%v", shape)
		require.Contains(t, want, "P "+putSQL)
	}
}

func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = nil
}
