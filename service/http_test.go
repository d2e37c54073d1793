package service

import (
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// pipes is a listener of connections that buffer nothing: what a client does not read, the
// service cannot write.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, open := <-p
	if !open {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error { close(p); return nil }

func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

// hurried is a connection whose time for writing has always just run out.
type hurried struct {
	net.Conn
	allowed time.Duration // as the service set it last
	closed  chan struct{}
}

func (h *hurried) SetWriteDeadline(deadline time.Time) error {
	h.allowed = time.Until(deadline)
	return h.Conn.SetWriteDeadline(time.Now())
}

func (h *hurried) Close() error {
	close(h.closed)
	return h.Conn.Close()
}

// TestSlowReaders has a client that sends a request and does not read its answer.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	app := (&Service{metrics: &metrics{requestMetrics: newRequestMetrics(prometheus.NewRegistry())}, cfg: Default(), logger: slog.New(slog.DiscardHandler)}).routes()
	listener := make(pipes)
	go func() { _ = app.Listener(listener) }()
	t.Cleanup(func() { require.NoError(t, app.Shutdown()) })
	client, server := net.Pipe()
	defer client.Close()
	conn := &hurried{Conn: server, closed: make(chan struct{})}
	listener <- conn
	_, err := io.WriteString(client, "GET /openapi.yaml HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	select {
	case <-conn.closed:
	case <-time.After(10 * time.Second):
		require.Fail(t, "the connection stays open")
	}
	require.LessOrEqual(t, conn.allowed, writeTimeout)
	require.Less(t, writeTimeout, shutdownTimeout)
}
