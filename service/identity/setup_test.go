package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

const (
	testIssuer   = "https://issuer.example.com"
	testAudience = "authenticated"
	testSecret   = "a-shared-secret-of-at-least-32-bytes"
)

// signer is a key that an issuer signs with.
type signer struct {
	kid, alg string
	private  any // []byte for HS256
}

var curves = map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}

// theRSAKey is shared: making one takes long.
var theRSAKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newSigner(t testing.TB, alg, kid string) signer {
	t.Helper()
	s := signer{kid: kid, alg: alg}
	var err error
	switch alg {
	case "HS256":
		s.private = []byte(testSecret)
	case "EdDSA":
		_, s.private, err = ed25519.GenerateKey(rand.Reader)
	case "RS256":
		s.private, err = theRSAKey()
	default:
		s.private, err = ecdsa.GenerateKey(curves[alg], rand.Reader)
	}
	require.NoError(t, err)
	return s
}

func (s signer) public() crypto.PublicKey { return s.private.(crypto.Signer).Public() }

// jwk is the public key as a key set has it, with changes; a nil value takes a
// member out.
func (s signer) jwk(t testing.TB, changes map[string]any) map[string]any {
	t.Helper()
	key, err := jwkset.NewJWKFromKey(s.public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: s.kid, ALG: jwkset.ALG(s.alg), USE: jwkset.UseSig}})
	require.NoError(t, err)
	content, err := json.Marshal(key.Marshal())
	require.NoError(t, err)
	var members map[string]any
	require.NoError(t, json.Unmarshal(content, &members))
	return changed(members, changes)
}

// raw signs any two texts, with whatever algorithm the key has.
func (s signer) raw(t testing.TB, head, body string) string {
	t.Helper()
	signed := b64(head) + "." + b64(body)
	signature, err := jwt.GetSigningMethod(s.alg).Sign(signed, s.private)
	require.NoError(t, err)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// token signs the claims of an honest user, with changes to header and claims.
func (s signer) token(t testing.TB, now time.Time, head, body map[string]any) string {
	t.Helper()
	return s.raw(t, asJSON(t, s.header(head)), asJSON(t, honest(now, body)))
}

func (s signer) header(changes map[string]any) map[string]any {
	return changed(map[string]any{"alg": s.alg, "kid": s.kid, "typ": "JWT"}, changes)
}

func honest(now time.Time, changes map[string]any) map[string]any {
	return changed(map[string]any{
		"iss": testIssuer, "aud": testAudience, "sub": "8d7eaece-f329-4661-a3d0-cabe96fac66a", "role": "authenticated",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "session_id": "s-1", "is_anonymous": false,
	}, changes)
}

func changed(members, changes map[string]any) map[string]any {
	for name, value := range changes {
		if members[name] = value; value == nil {
			delete(members, name)
		}
	}
	return members
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	content, err := json.Marshal(v)
	require.NoError(t, err)
	return string(content)
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// keyServer is an issuer's web server that a test controls. It runs over pipes,
// so that it works inside synctest's bubble, and answers for every host.
type keyServer struct {
	transport *http.Transport

	mu      sync.Mutex
	handler http.HandlerFunc
	asked   []string // host and path of every request
}

func newKeyServer(t testing.TB, keys ...any) *keyServer {
	t.Helper()
	listener := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := &keyServer{transport: &http.Transport{DialContext: listener.dial, DialTLSContext: listener.dial}}
	s.serveKeys(keys...)
	server := &http.Server{Handler: s, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		s.transport.CloseIdleConnections()
	})
	return s
}

func (s *keyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.Host+r.URL.Path)
	handler := s.handler
	s.mu.Unlock()
	handler(w, r)
}

func (s *keyServer) serve(handler http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = handler
}

func (s *keyServer) serveKeys(keys ...any) {
	if keys == nil {
		keys = []any{}
	}
	s.serve(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	})
}

func (s *keyServer) serveText(status int, text string) {
	s.serve(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	})
}

// requests are the addresses asked for so far.
func (s *keyServer) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// testDescription accepts what honest describes.
func testDescription() Issuer {
	return Issuer{
		Issuer: testIssuer, KeySetURL: testIssuer + "/jwks.json", Audience: []string{testAudience},
		Algorithms: AsymmetricAlgorithms, Roles: []string{"authenticated"}, Anonymous: true,
	}
}

// verifierOn starts a verifier whose every request goes to the server, and whose
// log goes to the buffer.
func verifierOn(t testing.TB, server *keyServer, now func() time.Time, issuers ...Issuer) (*Verifier, *logBuffer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	logs := &logBuffer{}
	v, err := newVerifier(ctx, issuers, server.transport, slog.New(slog.NewTextHandler(logs, nil)), now)
	require.NoError(t, err)
	return v, logs
}

// awaitKeys returns once the first fetch of every issuer has ended well.
func awaitKeys(t testing.TB, v *Verifier) {
	t.Helper()
	for _, i := range v.issuers {
		for i.keys.current() == nil {
			i.keys.mu.Lock()
			next := i.keys.next
			i.keys.mu.Unlock()
			<-next.done
			require.NoError(t, next.err)
		}
	}
}

func requireKind(t testing.TB, want Kind, err error) *Refusal {
	t.Helper()
	var refusal *Refusal
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, want, refusal.Kind, refusal.Error())
	if want == Unavailable {
		require.GreaterOrEqual(t, refusal.RetryAfter, time.Second)
		require.Zero(t, refusal.RetryAfter%time.Second)
	}
	return refusal
}

type logBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

// fixture reads a recorded token or key set.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "tests", "fixtures", "tokens", name))
	require.NoError(t, err)
	return bytes.TrimSpace(content)
}
