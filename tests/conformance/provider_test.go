package conformance_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/service/local"
)

// provider stands in for the servers that give out tokens. Supabase Auth and Neon
// Auth come as a container image and as a hosted service, and cannot run here. It
// serves one key set at every provider's address for it, and signs whatever claims
// a test wants.
type provider struct {
	*httptest.Server
	keyIDs map[string]string // by alg
	keys   map[string]any
	secret []byte // of HS256
	down   atomic.Bool
	user   atomic.Pointer[http.HandlerFunc] // answers GET /auth/v1/user
}

// newProvider has a key for each alg, of ES256 and EdDSA.
func newProvider(t *testing.T, algs ...string) *provider {
	t.Helper()
	p := &provider{keyIDs: map[string]string{}, keys: map[string]any{}, secret: []byte(rand.Text() + rand.Text())}
	set := struct {
		Keys []jwkset.JWKMarshal `json:"keys"`
	}{[]jwkset.JWKMarshal{}}
	for _, alg := range algs {
		public, private := newKey(t, alg)
		p.keyIDs[alg], p.keys[alg] = uuid.NewString(), private
		jwk, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{
			Metadata: jwkset.JWKMetadataOptions{KID: p.keyIDs[alg], ALG: jwkset.ALG(alg)},
		})
		require.NoError(t, err)
		set.Keys = append(set.Keys, jwk.Marshal())
	}
	keySet, err := json.Marshal(set)
	require.NoError(t, err)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.down.Load() {
			panic(http.ErrAbortHandler) // cuts the connection
		}
		w.Header().Set("Content-Type", "application/json")
		switch user := p.user.Load(); {
		case strings.HasSuffix(r.URL.Path, "/jwks.json"):
			_, _ = w.Write(keySet)
		case r.URL.Path == "/.well-known/openid-configuration":
			_ = json.MarshalWrite(w, map[string]string{"issuer": p.URL, "jwks_uri": p.URL + "/keys/jwks.json"})
		case r.URL.Path == "/auth/v1/user" && user != nil:
			(*user)(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func newKey(t *testing.T, alg string) (public, private any) {
	t.Helper()
	if alg == "EdDSA" {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		return public, private
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key.Public(), key
}

// supabase is claims as Supabase Auth's are, for alice, with changes: a value of
// nil leaves the claim out.
func (p *provider) supabase(changes jwt.MapClaims) jwt.MapClaims {
	now := time.Now()
	return with(jwt.MapClaims{
		"iss": p.URL + "/auth/v1", "sub": local.UserID("alice"), "aud": "authenticated", "role": "authenticated",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "session_id": uuid.NewString(), "is_anonymous": false,
	}, changes)
}

// neon is claims as Neon Auth's are.
func (p *provider) neon(changes jwt.MapClaims) jwt.MapClaims {
	now := time.Now()
	id := local.UserID("alice")
	return with(jwt.MapClaims{
		"iss": p.URL, "sub": id, "id": id, "aud": p.URL, "role": "authenticated", "banned": false, "isAnonymous": false,
		"iat": now.Unix(), "exp": now.Add(15 * time.Minute).Unix(),
	}, changes)
}

// other is claims as those of any other OpenID provider.
func (p *provider) other(changes jwt.MapClaims) jwt.MapClaims {
	now := time.Now()
	return with(jwt.MapClaims{
		"iss": p.URL, "sub": local.UserID("alice"), "aud": "the-app",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}, changes)
}

func with(claims, changes jwt.MapClaims) jwt.MapClaims {
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return claims
}

// sign makes a token with the provider's own key of that alg.
func (p *provider) sign(t *testing.T, alg string, claims jwt.MapClaims) string {
	t.Helper()
	if alg == "HS256" {
		return signWith(t, alg, p.secret, "", claims)
	}
	return signWith(t, alg, p.keys[alg], p.keyIDs[alg], claims)
}

func signWith(t *testing.T, alg string, key any, keyID string, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), claims)
	if keyID != "" {
		token.Header["kid"] = keyID
	}
	signed, err := token.SignedString(key)
	require.NoError(t, err)
	return signed
}
