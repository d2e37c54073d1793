package faults_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slowConn carries a few bytes at a time, as a bad mobile connection does.
type slowConn struct{ net.Conn }

const (
	slowBytes = 200
	slowPause = 4 * time.Millisecond
)

func (c slowConn) Write(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		var n int
		n, err = c.Conn.Write(p[:min(len(p), slowBytes)])
		written, p = written+n, p[n:]
		time.Sleep(slowPause)
	}
	return written, err
}

func (c slowConn) Read(p []byte) (int, error) {
	time.Sleep(slowPause)
	return c.Conn.Read(p[:min(len(p), slowBytes)])
}

func newSlowClient() *http.Client {
	client := newClient()
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return slowConn{conn}, err
	}
	return client
}

// TestManyConnections has 300 devices upload at once over eight connections to the
// database. 30 of them are slow. 20 more connections stop in the middle of a request.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	const devices, slow, stalled = 300, 30, 20
	each := 20
	if testing.Short() {
		each = 3
		t.Log("short: 3 transactions a device instead of 20")
	}
	users := names("user", 60)
	b := setup(t)
	addCounters(t, b.db, users...)
	for i := range stalled {
		conn, err := net.Dial("tcp", b.client.Address)
		require.NoError(t, err)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "POST /api/data HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n%s",
			b.Token(t, users[i]), strings.Repeat(" ", 500))
		require.NoError(t, err)
	}
	w := newWorld(b.seed, func(user string) string { return b.Token(t, user) }, users, devices, each)
	for i, d := range w.devices {
		d.most, d.slow = 5, i%(devices/slow) == 0
	}
	w.upload(t.Context(), b.through)
	w.await(t)
	w.verify(t, b.db)
}
