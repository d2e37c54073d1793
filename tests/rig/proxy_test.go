package rig_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// echo is a server that answers each line with itself, and keeps what it read.
type echo struct {
	address string

	mu   sync.Mutex
	read strings.Builder
	gone chan struct{} // one token for each connection that ended
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := &echo{address: listener.Addr().String(), gone: make(chan struct{}, 100)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { e.serve(conn) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		all.Wait()
	})
	return e
}

func (e *echo) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		e.gone <- struct{}{}
	}()
	var line []byte
	buffer := make([]byte, 1024)
	for {
		n, err := conn.Read(buffer)
		e.mu.Lock()
		e.read.Write(buffer[:n])
		e.mu.Unlock()
		line = append(line, buffer[:n]...)
		if end := strings.LastIndexByte(string(line), '\n'); end >= 0 {
			_, _ = conn.Write(line[:end+1])
			line = line[end+1:]
		}
		if err != nil {
			return
		}
	}
}

func (e *echo) text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.read.String()
}

func dial(t *testing.T, p *rig.Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return conn.(*net.TCPConn)
}

// ask sends a line and waits for its echo.
func ask(t *testing.T, conn net.Conn, line string) {
	t.Helper()
	_, err := io.WriteString(conn, line)
	require.NoError(t, err)
	answer := make([]byte, len(line))
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	require.Equal(t, line, string(answer))
}

// rest is what still comes before the connection ends, however it ends.
func rest(t *testing.T, conn net.Conn) string {
	t.Helper()
	content, err := io.ReadAll(conn)
	if err != nil {
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	return string(content)
}

func fate(kind rig.FateKind, after int64) func() rig.Fate {
	return func() rig.Fate { return rig.Fate{Kind: kind, After: after} }
}

func TestProxy(t *testing.T) {
	t.Parallel()

	t.Run("PassesOnAndCounts", func(t *testing.T) {
		t.Parallel()
		server := newEcho(t)
		requests := &rig.Logs{}
		p := rig.NewProxy(t, server.address, rig.ProxyOptions{Requests: requests})
		conn := dial(t, p)
		for i := range 5 {
			ask(t, conn, "line\n")
			require.EqualValues(t, i+1, p.RoundTrips())
		}
		require.NoError(t, conn.CloseWrite())
		require.Empty(t, rest(t, conn), "a half-closed connection ends when the server has ended it")
		require.Equal(t, strings.Repeat("line\n", 5), server.text())
		require.Equal(t, server.text(), requests.String())
		require.Zero(t, p.Cuts()+p.Drops())
	})

	t.Run("Delays", func(t *testing.T) {
		t.Parallel()
		p := rig.NewProxy(t, newEcho(t).address, rig.ProxyOptions{RoundTrip: 20 * time.Millisecond})
		conn := dial(t, p)
		started := time.Now()
		for range 3 {
			ask(t, conn, "line\n")
		}
		require.GreaterOrEqual(t, time.Since(started), 60*time.Millisecond)
		require.EqualValues(t, 3, p.RoundTrips())
	})

	t.Run("DelaysAPipelineOnce", func(t *testing.T) {
		t.Parallel()
		const delay, lines = 300 * time.Millisecond, 20
		p := rig.NewProxy(t, newEcho(t).address, rig.ProxyOptions{RoundTrip: delay})
		conn := dial(t, p)
		started := time.Now()
		for range lines {
			_, err := io.WriteString(conn, "line\n")
			require.NoError(t, err)
		}
		answer := make([]byte, lines*len("line\n"))
		_, err := io.ReadFull(conn, answer)
		require.NoError(t, err)
		require.Equal(t, strings.Repeat("line\n", lines), string(answer))
		require.Less(t, time.Since(started), lines/2*delay)
		require.EqualValues(t, 1, p.RoundTrips())
	})

	t.Run("CutsARequest", func(t *testing.T) {
		t.Parallel()
		server := newEcho(t)
		p := rig.NewProxy(t, server.address, rig.ProxyOptions{Fate: fate(rig.CutRequest, 7)})
		conn := dial(t, p)
		ask(t, conn, "line\n")
		_, err := io.WriteString(conn, "line\n")
		require.NoError(t, err)
		require.Empty(t, rest(t, conn))
		<-server.gone
		require.Equal(t, "line\nli", server.text())
		require.EqualValues(t, 1, p.Cuts())
	})

	t.Run("CutsAnAnswer", func(t *testing.T) {
		t.Parallel()
		server := newEcho(t)
		p := rig.NewProxy(t, server.address, rig.ProxyOptions{Fate: fate(rig.CutAnswer, 7), RoundTrip: time.Millisecond})
		conn := dial(t, p)
		ask(t, conn, "line\n")
		_, err := io.WriteString(conn, "line\n")
		require.NoError(t, err)
		require.Equal(t, "li", rest(t, conn))
		<-server.gone
		require.Equal(t, "line\nline\n", server.text())
		require.EqualValues(t, 1, p.Cuts())
	})

	t.Run("DropsAnAnswer", func(t *testing.T) {
		t.Parallel()
		server := newEcho(t)
		p := rig.NewProxy(t, server.address, rig.ProxyOptions{Fate: fate(rig.DropAnswer, 7)})
		conn := dial(t, p)
		ask(t, conn, "line\n")
		_, err := io.WriteString(conn, "line\n")
		require.NoError(t, err)
		require.Empty(t, rest(t, conn), "not even its beginning")
		<-server.gone
		require.Equal(t, "line\nline\n", server.text())
		require.EqualValues(t, 1, p.Drops())
		require.Zero(t, p.Cuts())
	})

	t.Run("CutsAllThereAre", func(t *testing.T) {
		t.Parallel()
		server := newEcho(t)
		p := rig.NewProxy(t, server.address, rig.ProxyOptions{})
		a, b := dial(t, p), dial(t, p)
		ask(t, a, "line\n")
		ask(t, b, "line\n")
		p.Cut()
		require.Empty(t, rest(t, a)+rest(t, b))
		require.EqualValues(t, 2, p.Cuts())
		ask(t, dial(t, p), "line\n")
	})

	t.Run("NoServer", func(t *testing.T) {
		t.Parallel()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, listener.Close())
		p := rig.NewProxy(t, listener.Addr().String(), rig.ProxyOptions{})
		require.Empty(t, rest(t, dial(t, p)))
	})

	t.Run("CloseEndsWhatIsUnderWay", func(t *testing.T) {
		t.Parallel()
		p, err := rig.OpenProxy(newEcho(t).address, rig.ProxyOptions{RoundTrip: time.Hour})
		require.NoError(t, err)
		conn := dial(t, p)
		_, err = io.WriteString(conn, "line\n")
		require.NoError(t, err)
		p.Close()
		require.Empty(t, rest(t, conn))
		_, err = net.Dial("tcp", p.Address)
		require.True(t, errors.Is(err, syscall.ECONNREFUSED), "%v", err)
		p.Close()
	})
}

func TestRandomFates(t *testing.T) {
	t.Parallel()
	const most = 10_000
	a, b := rig.RandomFates(1, 1, most, rig.CutRequest, rig.DropAnswer), rig.RandomFates(1, 1, most, rig.CutRequest, rig.DropAnswer)
	kinds, early := map[rig.FateKind]int{}, 0
	for range 1000 {
		f := a()
		require.Equal(t, f, b(), "the same seed, the same fates")
		require.GreaterOrEqual(t, f.After, int64(1))
		require.LessOrEqual(t, f.After, int64(most))
		kinds[f.Kind]++
		if f.After <= 100 {
			early++
		}
	}
	require.Len(t, kinds, 2)
	require.InDelta(t, 500, kinds[rig.CutRequest], 100)
	require.InDelta(t, 500, early, 100, "100 is halfway from 1 to 10,000")
}

func TestProxyURL(t *testing.T) {
	t.Parallel()
	p := rig.NewProxy(t, "127.0.0.1:1", rig.ProxyOptions{})
	url, err := p.URL("postgres://user:pass@127.0.0.1:5432/db?sslmode=disable")
	require.NoError(t, err)
	require.Equal(t, "postgres://user:pass@"+p.Address+"/db?sslmode=disable", url)
}
