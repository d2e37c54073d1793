package rig

import (
	"cmp"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ProxyOptions say what a proxy does to the connections through it. The zero
// value passes everything on as it comes.
type ProxyOptions struct {
	// Host is the address to listen on. Empty is 127.0.0.1.
	Host string

	// RoundTrip is added to each round trip: every chunk of bytes is delivered
	// half of it after it came, in either direction. Chunks under way at the same
	// time do not wait for each other, so a pipeline is delayed once.
	RoundTrip time.Duration

	// Requests, where there is one, is given what clients send before it is passed
	// on, a chunk at a time; several connections may do so at the same time.
	Requests io.Writer

	// CountParsed has Parsed count. What passes must be Postgres' protocol without TLS.
	CountParsed bool

	// Fate is asked once for each connection, in the order they come in and by one
	// goroutine. Without it every connection lives as long as its ends want.
	Fate func() Fate
}

// Fate is how a proxy ends a connection: see the kinds. The zero value does not.
type Fate struct {
	Kind  FateKind
	After int64 // bytes of the direction that the kind is about, from the connection's start
}

// FateKind says what ends a connection.
type FateKind int

// The kinds. Closing is abrupt and of both sides; what was on its way in the
// other direction is lost.
const (
	Spared     FateKind = iota
	CutRequest          // After bytes reach the server, then the connection is closed
	CutAnswer           // After bytes reach the client, then the connection is closed
	DropAnswer          // the chunk with the answers' byte After+1 is swallowed whole, then the connection is closed
)

// RandomFates draws fates of the given kinds, all as likely, from a generator
// with this seed. How many bytes a connection may carry is drawn from least, at
// least 1, to most, so that each order of magnitude is as likely: some end within
// their first messages, some after many.
func RandomFates(seed uint64, least, most int64, kinds ...FateKind) func() Fate {
	random := rand.New(rand.NewPCG(seed, 0))
	return func() Fate {
		after := float64(least) * math.Pow(float64(most)/float64(least), random.Float64())
		return Fate{Kind: kinds[random.IntN(len(kinds))], After: int64(after)}
	}
}

// Proxy passes TCP connections on to a server, counting, delaying and ending
// them. It is safe for concurrent use.
type Proxy struct {
	Address string // host:port, where the proxy listens

	target   string
	options  ProxyOptions
	listener net.Listener
	work     sync.WaitGroup

	mu     sync.Mutex
	links  map[*link]struct{}
	closed bool

	roundTrips, parsed, cuts, drops atomic.Int64
}

// OpenProxy listens on a loopback port for connections to a target, host:port.
// Close it in the end.
func OpenProxy(target string, options ProxyOptions) (*Proxy, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(cmp.Or(options.Host, "127.0.0.1"), "0"))
	if err != nil {
		return nil, err
	}
	p := &Proxy{Address: listener.Addr().String(), target: target, options: options, listener: listener, links: map[*link]struct{}{}}
	p.work.Go(p.accept)
	return p, nil
}

// NewProxy is OpenProxy for as long as a test runs.
func NewProxy(t testing.TB, target string, options ProxyOptions) *Proxy {
	t.Helper()
	p, err := OpenProxy(target, options)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

// URL is a URL with the proxy's address in place of its host and port.
func (p *Proxy) URL(of string) (string, error) {
	u, err := url.Parse(of)
	if err != nil {
		return "", err
	}
	u.Host = p.Address
	return u.String(), nil
}

// RoundTrips counts, over all connections, how often a client had to wait: bytes
// from the client, any number of chunks, and then bytes from the server are one
// round trip, whatever more the server sends before the client speaks again. The
// order is that at the proxy's client side, after the delay: what a client sent
// before it could see an answer belongs to the round trip that the answer ends.
// A connection's start counts like the rest. Where the server begins to answer
// before a request has been sent whole, and nothing delays it, one exchange may
// count as several.
func (p *Proxy) RoundTrips() int64 { return p.roundTrips.Load() }

// Parsed counts the statements that clients asked Postgres to parse: see
// ProxyOptions.CountParsed.
func (p *Proxy) Parsed() int64 { return p.parsed.Load() }

// Cuts counts the connections that were ended by CutRequest, CutAnswer or Cut.
func (p *Proxy) Cuts() int64 { return p.cuts.Load() }

// Drops counts the connections that were ended by DropAnswer.
func (p *Proxy) Drops() int64 { return p.drops.Load() }

// Cut ends every connection there is now.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.end(&p.cuts)
	}
}

// Close ends every connection and returns when nothing of the proxy runs.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.listener.Close()
	for l := range p.links {
		l.end(nil)
	}
	p.mu.Unlock()
	p.work.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		var fate Fate
		if p.options.Fate != nil {
			fate = p.options.Fate()
		}
		p.work.Go(func() { p.serve(client, fate) })
	}
}

func (p *Proxy) serve(client net.Conn, fate Fate) {
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		client.Close()
		return
	}
	l := &link{proxy: p, client: client, server: server, fate: fate, ended: make(chan struct{})}
	p.mu.Lock()
	if p.closed {
		l.end(nil)
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()

	var directions sync.WaitGroup
	directions.Go(func() { l.pass(client, server, CutRequest) })
	directions.Go(func() { l.pass(server, client, CutAnswer) })
	directions.Wait()
	l.end(nil)

	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// link is one connection through the proxy.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	fate           Fate
	parsed         parsed      // used by the direction to the server alone
	asked          atomic.Bool // the client has sent something since it was last answered
	once           sync.Once
	ended          chan struct{}
}

// end closes both sides, and counts that in the counter where there is one.
func (l *link) end(counter *atomic.Int64) {
	l.once.Do(func() {
		if counter != nil {
			counter.Add(1)
		}
		close(l.ended)
		l.client.Close()
		l.server.Close()
	})
}

func (l *link) requested(chunk []byte) {
	l.asked.Store(true)
	if l.proxy.options.CountParsed {
		l.proxy.parsed.Add(l.parsed.add(chunk))
	}
	if w := l.proxy.options.Requests; w != nil {
		_, _ = w.Write(chunk)
	}
}

func (l *link) answered() {
	if l.asked.Swap(false) {
		l.proxy.roundTrips.Add(1)
	}
}

// pass carries one direction until its end. cut is the kind of fate that ends
// it in the middle.
func (l *link) pass(from, to net.Conn, cut FateKind) {
	up := cut == CutRequest
	out := l.direct(to, up)
	if l.proxy.options.RoundTrip > 0 {
		out = l.delayed(out)
	}
	defer out.done()
	buffer := make([]byte, 64<<10)
	for total := int64(0); ; {
		n, err := from.Read(buffer)
		if n > 0 && up {
			l.requested(buffer[:n])
		}
		left := l.fate.After - total
		total += int64(n)
		switch {
		case n > 0 && l.fate.Kind == cut && int64(n) >= left:
			out.chunk(buffer[:left])
			out.then(func() { l.end(&l.proxy.cuts) })
			return
		case n > 0 && l.fate.Kind == DropAnswer && !up && int64(n) > left:
			l.end(&l.proxy.drops)
			return
		case n > 0:
			out.chunk(buffer[:n])
		}
		switch {
		case errors.Is(err, io.EOF):
			out.then(func() { closeWrite(to) })
			return
		case err != nil:
			l.end(nil)
			return
		}
	}
}

// outlet is the far end of a direction.
type outlet struct {
	chunk func([]byte) // the bytes are the caller's again when it returns
	then  func(func()) // runs something after the chunks before it
	done  func()       // nothing follows; waits for what is under way
}

// direct delivers at once.
func (l *link) direct(to net.Conn, up bool) outlet {
	return outlet{
		chunk: func(b []byte) {
			if !up && len(b) > 0 {
				l.answered() // before the client can see it, so that it finds itself counted
			}
			if _, err := to.Write(b); err != nil {
				l.end(nil)
			}
		},
		then: func(f func()) { f() },
		done: func() {},
	}
}

// delayed delivers to another outlet, half a round trip later.
func (l *link) delayed(to outlet) outlet {
	type delivery struct {
		due time.Time
		run func()
	}
	const most = 1024 // chunks under way; a sender of more waits
	queue := make(chan delivery, most)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		timer := time.NewTimer(0)
		defer timer.Stop()
		for d := range queue {
			timer.Reset(time.Until(d.due))
			select {
			case <-timer.C:
				d.run()
			case <-l.ended: // nobody is left to deliver to
			}
		}
	}()
	put := func(run func()) {
		queue <- delivery{time.Now().Add(l.proxy.options.RoundTrip / 2), run}
	}
	return outlet{
		chunk: func(b []byte) {
			own := append([]byte(nil), b...)
			put(func() { to.chunk(own) })
		},
		then: func(f func()) { put(f) },
		done: func() { close(queue); <-drained },
	}
}

// closeWrite tells the other end that nothing follows, and goes on reading.
func closeWrite(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}
