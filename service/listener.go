package service

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// silentFor is how long a connection that has sent nothing stays open after the shutdown
// begins.
const silentFor = time.Second

// listener closes connections that have never sent anything, soon after it is closed
// itself. Proxies and browsers open such connections in advance. fasthttp v1.51 to v1.78
// counts them as active, and its Shutdown waits for them until ReadTimeout.
type listener struct {
	net.Listener
	mu     sync.Mutex
	silent map[*connection]struct{}
}

type connection struct {
	net.Conn
	spoken   atomic.Bool
	listener *listener
}

func newListener(l net.Listener) *listener {
	return &listener{Listener: l, silent: map[*connection]struct{}{}}
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	connection := &connection{Conn: c, listener: l}
	l.silent[connection] = struct{}{}
	return connection, nil
}

func (l *listener) Close() error {
	time.AfterFunc(silentFor, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for c := range l.silent {
			c.Conn.Close()
		}
	})
	return l.Listener.Close()
}

func (l *listener) forget(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.silent, c)
}

func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.spoken.CompareAndSwap(false, true) {
		c.listener.forget(c)
	}
	return n, err
}

func (c *connection) Close() error {
	c.listener.forget(c)
	return c.Conn.Close()
}
