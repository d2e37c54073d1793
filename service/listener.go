package service

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// silentFor is how long a connection that waits for a request stays open after the
// shutdown begins.
const silentFor = time.Second

// listener closes connections that wait for a request, or for the rest of its headers, soon
// after it is closed itself. Proxies and browsers open connections in advance, and a slow
// client sends headers for as long as it likes. fasthttp v1.51 to v1.78 counts both as
// active, and its Shutdown waits for them until ReadTimeout.
type listener struct {
	net.Listener
	mu   sync.Mutex
	open map[*connection]struct{}
}

type connection struct {
	net.Conn
	listener  *listener
	requested atomic.Bool // the headers of a request are read, and no later request has begun
	answered  atomic.Bool // its answer is made
}

func newListener(l net.Listener) *listener {
	return &listener{Listener: l, open: map[*connection]struct{}{}}
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	connection := &connection{Conn: c, listener: l}
	l.open[connection] = struct{}{}
	return connection, nil
}

func (l *listener) Close() error {
	time.AfterFunc(silentFor, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for c := range l.open {
			if !c.requested.Load() {
				c.Conn.Close()
			}
		}
	})
	return l.Listener.Close()
}

// request notes that a request's headers are read. done must be called once its answer is
// made: what is read afterwards is the next request.
func (c *connection) request() (done func()) {
	c.answered.Store(false)
	c.requested.Store(true)
	return func() { c.answered.Store(true) }
}

func (c *connection) Read(b []byte) (int, error) {
	if c.answered.CompareAndSwap(true, false) {
		c.requested.Store(false)
	}
	return c.Conn.Read(b)
}

func (c *connection) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.open, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}
