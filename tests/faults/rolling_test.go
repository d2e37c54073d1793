package faults_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

// balancer is a proxy in front of a fleet, as Fly's or Caddy: it keeps connections to the
// instances open, sends requests to those whose /livez succeeds, and tries another
// instance only if one refuses the connection.
type balancer struct {
	*fleet
	transport *http.Transport
	ready     []atomic.Bool
	turn      atomic.Uint64
	answered  atomic.Int64
	failed    atomic.Int64 // requests that no instance answered
}

// newBalancer asks the instances once, and then every so often.
func newBalancer(t *testing.T, f *fleet, every time.Duration) (b *balancer, url string) {
	t.Helper()
	b = &balancer{fleet: f, transport: &http.Transport{MaxIdleConnsPerHost: 100}, ready: make([]atomic.Bool, len(f.running))}
	ctx, end := context.WithCancel(context.Background())
	checked := make(chan struct{})
	for i := range b.ready {
		b.check(i)
	}
	go func() {
		defer close(checked)
		ticks := time.NewTicker(every)
		defer ticks.Stop()
		for {
			select {
			case <-ticks.C:
				for i := range b.ready {
					b.check(i)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	server := httptest.NewServer(b)
	t.Cleanup(func() {
		server.Close()
		end()
		<-checked
		b.transport.CloseIdleConnections()
	})
	return b, server.URL
}

func (b *balancer) check(i int) {
	response, err := http.Get(*b.addresses[i].Load() + "/livez")
	if err == nil {
		response.Body.Close()
	}
	b.ready[i].Store(err == nil && response.StatusCode == http.StatusOK)
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	for range 10 * len(b.ready) {
		i := int(b.turn.Add(1)) % len(b.ready)
		if !b.ready[i].Load() {
			continue
		}
		response, err := b.forward(r, *b.addresses[i].Load(), body)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			b.ready[i].Store(false)
			continue
		case err != nil:
			b.failed.Add(1)
			panic(http.ErrAbortHandler) // the device gets no answer
		}
		defer response.Body.Close()
		b.answered.Add(1)
		w.Header().Set("Content-Type", response.Header.Get("Content-Type"))
		w.WriteHeader(response.StatusCode)
		_, _ = io.Copy(w, response.Body)
		return
	}
	b.failed.Add(1)
	http.Error(w, "no instance is ready", http.StatusServiceUnavailable)
}

func (b *balancer) forward(r *http.Request, to string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(r.Context(), r.Method, to+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header = r.Header.Clone()
	return b.transport.RoundTrip(request)
}

// proxied is a fleet behind a proxy, and devices that have writes to upload through it.
type proxied struct {
	db      *rig.Database
	seed    uint64
	proxy   *balancer
	url     string // of the proxy
	devices *world
	pace    *time.Ticker // of all requests
}

// The paces: one while an instance stops, and one while it starts, which takes a slow machine
// longer. So the devices have enough to send until the last stop.
const (
	busy = 3 * time.Millisecond
	calm = 100 * time.Millisecond
)

func newProxied(t *testing.T, instances, each int, every time.Duration) *proxied {
	t.Helper()
	p := &proxied{db: rig.NewDatabase(t), seed: seed(t)}
	alone := []string{"alice", "bob", "carol", "dan", "erin", "frank", "grace", "heidi"} // a device each, which meets no other one's rows
	setUp(t, p.db, alone...)
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	keys, folder := rig.ServeIssuer(t, issuer), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "all.yaml"), []byte(policies), 0o644))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	f := startFleet(t, instances, func() (*rig.Process, string) {
		process, url, err := rig.Serve(ctx, filepath.Join(t.TempDir(), "output"), rig.Command(t), p.db.LoginURL+"&pool_max_conns=8", keys, folder)
		require.NoError(t, err)
		return process, url
	})
	p.proxy, p.url = newBalancer(t, f, every)
	p.devices = newWorld(p.seed, func(user string) string {
		token, err := issuer.Token(user, time.Now())
		require.NoError(t, err)
		return token
	}, alone, len(alone), each)
	for _, d := range p.devices.devices {
		d.most = 3
	}
	return p
}

// upload has the devices begin.
func (p *proxied) upload(t *testing.T) {
	t.Helper()
	p.pace = time.NewTicker(busy)
	t.Cleanup(p.pace.Stop)
	p.devices.upload(t.Context(), func() string { <-p.pace.C; return p.url })
}

// stop stops an instance, which the devices' requests reach meanwhile.
func (p *proxied) stop(t *testing.T, i int) {
	t.Helper()
	before := p.proxy.answered.Load()
	require.Zero(t, p.proxy.running[i].Stop(), p.proxy.running[i].Output())
	require.Greater(t, p.proxy.answered.Load(), before+10, "requests while it stops: %v", p.devices.failed)
}

// verify waits until all is uploaded. It returns how many requests a device had to send
// again.
func (p *proxied) verify(t *testing.T) (repeated int) {
	t.Helper()
	p.devices.await(t)
	p.devices.verify(t, p.db)
	for _, d := range p.devices.devices {
		repeated += d.repeated
	}
	return repeated
}

// TestRollingRestart restarts two instances in turn, as a deployment does, while devices
// upload through a proxy that asks them as often as the page about systemd has Caddy do.
// No device sees a request fail: each transaction is answered for good the first time that
// it is sent.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	rounds, each := 2, 1000
	if testing.Short() {
		rounds, each = 1, 500
		t.Log("short: 1 round instead of 2")
	}
	page, err := os.ReadFile("../../service/deploy/systemd.md")
	require.NoError(t, err)
	interval := regexp.MustCompile(`health_interval (\S+)`).FindSubmatch(page)
	require.NotNil(t, interval)
	every, err := time.ParseDuration(string(interval[1]))
	require.NoError(t, err)
	p := newProxied(t, 2, each, every)
	p.upload(t)
	for round, at := range p.devices.moments(p.seed, 2*rounds) {
		require.True(t, p.devices.reached(at), "the devices ended early: %v", p.devices.failed)
		i := round % 2
		p.stop(t, i)
		p.pace.Reset(calm)
		p.proxy.start(i)
		require.Eventually(t, p.proxy.ready[i].Load, time.Minute, 10*time.Millisecond, "the proxy does not use the new instance")
		p.pace.Reset(busy)
	}
	require.Zero(t, p.verify(t))
	require.Zero(t, p.proxy.failed.Load(), "requests that no instance answered")
}

// TestStopBetweenChecks stops two of three instances while devices upload through a proxy
// that does not ask them meanwhile, as with an interval of 15 seconds. It sends requests
// until an instance refuses the connection. The few that have just connected when the
// instance closes its port get no answer: devices send them again, and nothing is lost or
// applied twice.
func TestStopBetweenChecks(t *testing.T) {
	t.Parallel()
	p := newProxied(t, 3, 600, time.Hour)
	p.upload(t)
	require.True(t, p.devices.reached(500), "the devices ended early: %v", p.devices.failed)
	p.stop(t, 0)
	p.stop(t, 1)
	repeated := p.verify(t)
	require.EqualValues(t, repeated, p.proxy.failed.Load())
	require.LessOrEqual(t, repeated, 2*len(p.devices.devices), "each device has one request at a time")
}
