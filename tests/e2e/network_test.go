package e2e_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// network is what lies between the devices and the service and PowerSync. It can be cut.
type network struct {
	*httptest.Server
	isCut   atomic.Bool
	service atomic.Pointer[httputil.ReverseProxy]

	holdsAnswers atomic.Bool   // to uploads, until the network is cut
	held         chan struct{} // receives for each answer that is held
}

func newNetwork(t *testing.T, stream http.Handler) *network {
	stream = forBrowsers(stream)
	n := &network{held: make(chan struct{}, 100)}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.isCut.Load() {
			panic(http.ErrAbortHandler) // closes the connection
		}
		if !strings.HasPrefix(r.URL.Path, "/sync/") && !strings.HasPrefix(r.URL.Path, "/write-checkpoint") {
			n.service.Load().ServeHTTP(w, r)
			if n.holdsAnswers.Load() && r.Method == http.MethodPost && r.URL.Path == "/api/data" {
				n.held <- struct{}{}
				<-r.Context().Done() // the answer is still in the server's buffer
			}
			return
		}
		stream.ServeHTTP(w, r)
	}))
	t.Cleanup(n.Close)
	return n
}

// reach says where the service is.
func (n *network) reach(t *testing.T, serviceURL string) {
	t.Helper()
	target, err := url.Parse(serviceURL)
	require.NoError(t, err)
	n.service.Store(httputil.NewSingleHostReverseProxy(target))
}

// cut closes all connections, and new ones as soon as they ask for something.
func (n *network) cut() {
	n.isCut.Store(true)
	n.holdsAnswers.Store(false)
	n.CloseClientConnections()
}

// holdAnswers keeps the answers to uploads from the devices, until the network is cut.
func (n *network) holdAnswers() { n.holdsAnswers.Store(true) }

// awaitHeldAnswer returns when the service has answered an upload and the device does not
// know it.
func (n *network) awaitHeldAnswer(ctx context.Context) error {
	select {
	case <-n.held:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *network) mend() { n.isCut.Store(false) }

// forBrowsers lets the pages of all servers ask the handler.
func forBrowsers(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
		if r.Method != http.MethodOptions {
			handler.ServeHTTP(w, r)
		}
	})
}
