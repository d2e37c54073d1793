package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

func TestParseSigningKey(t *testing.T) {
	t.Parallel()
	block := func(kind string, der []byte, err error) string {
		require.NoError(t, err)
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	pair := func(curve elliptic.Curve) *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		return key
	}
	private := pair(elliptic.P256())
	key, err := signingKey(private, &private.PublicKey, "")
	require.NoError(t, err)
	text, err := key.PrivateJWK()
	require.NoError(t, err)
	jwk := func(changes map[string]any) string {
		var members map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &members))
		return asJSON(t, changed(members, changes))
	}
	der, err := x509.MarshalECPrivateKey(private)
	sec1 := block("EC PRIVATE KEY", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(private)
	pkcs8 := block("PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(&private.PublicKey)
	pkix := block("PUBLIC KEY", der, err)

	for name, c := range map[string]struct {
		text    string
		id      string // if empty, the thumbprint
		canSign bool
	}{
		"SEC 1":                       {text: sec1, canSign: true},
		"SEC 1 as openssl writes it":  {text: block("EC PARAMETERS", []byte{6, 8}, nil) + sec1, canSign: true},
		"PKCS 8":                      {text: pkcs8, canSign: true},
		"PEM in one line":             {text: strings.ReplaceAll(pkcs8, "\n", `\n`), canSign: true},
		"a JWK":                       {text: text, canSign: true},
		"a JWK without alg, use, kid": {text: jwk(map[string]any{"alg": nil, "use": nil, "kid": nil}), canSign: true},
		"a JWK with another kid":      {text: jwk(map[string]any{"kid": "2026-11"}), id: "2026-11", canSign: true},
		"the public half in PEM":      {text: pkix},
		"the public half as a JWK":    {text: jwk(map[string]any{"d": nil})},
		"spaces around":               {text: "\n " + text + " \n", canSign: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parsed, err := ParseSigningKey(c.text)
			require.NoError(t, err)
			require.Equal(t, c.canSign, parsed.CanSign())
			if c.id == "" {
				c.id = key.ID
			}
			require.Equal(t, c.id, parsed.ID)
			require.Equal(t, key.public.X, parsed.public.X)
			require.Equal(t, key.public.Y, parsed.public.Y)
			require.Empty(t, parsed.public.D)
		})
	}

	der, err = x509.MarshalECPrivateKey(pair(elliptic.P384()))
	p384 := block("EC PRIVATE KEY", der, err)
	rsaKey, err := theRSAKey()
	require.NoError(t, err)
	other, err := NewSigningKey()
	require.NoError(t, err)
	for name, c := range map[string]struct{ text, want string }{
		"nothing":             {"", "neither PEM nor a JWK"},
		"text":                {"hunter2", "neither PEM nor a JWK"},
		"half a JWK":          {text[:len(text)/2], "is not a JWK"},
		"PEM of another kind": {block("CERTIFICATE", []byte("x"), nil), "is PEM without a key"},
		"broken PEM":          {block("EC PRIVATE KEY", []byte("hunter2"), nil), "is PEM without a key"},
		"P-384":               {p384, "is not of the curve P-256"},
		"RSA":                 {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil), "is not an elliptic curve key"},
		"a shared secret":     {`{"kty":"oct","k":"aHVudGVyMg"}`, "not a valid key"},
		"alg of another kind": {jwk(map[string]any{"alg": "ES384"}), "another alg than ES256"},
		"for encryption":      {jwk(map[string]any{"use": "enc"}), "another use than sig"},
		"two keys' halves":    {jwk(map[string]any{"x": other.public.X, "y": other.public.Y}), "not its private half's"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseSigningKey(c.text)
			require.ErrorContains(t, err, c.want)
			for _, secret := range []string{"hunter2", key.public.X, "aHVudGVyMg"} {
				require.NotContains(t, err.Error(), secret)
			}
		})
	}
}

// The example of RFC 9449, section 6.1.
func TestThumbprint(t *testing.T) {
	t.Parallel()
	key, err := ParseSigningKey(`{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}`)
	require.NoError(t, err)
	require.Equal(t, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", key.ID)
}

func newMinter(t *testing.T, keys ...SigningKey) *Minter {
	t.Helper()
	if len(keys) == 0 {
		key, err := NewSigningKey()
		require.NoError(t, err)
		keys = []SigningKey{key}
	}
	m, err := NewMinter(Minting{Keys: keys, Audience: []string{"powersync"}, Lifetime: 15 * time.Minute, Claims: []string{"email", "app_metadata", "absent"}})
	require.NoError(t, err)
	return m
}

func TestMint(t *testing.T) {
	t.Parallel()
	now := time.Now()
	m := newMinter(t)
	for name, c := range map[string]struct {
		lives time.Duration // of the user's own token
		want  time.Duration // of the minted one; zero: refused
	}{
		"a longer one":       {48 * time.Hour, 15 * time.Minute},
		"a shorter one":      {time.Minute, time.Minute},
		"about to expire":    {time.Second, time.Second},
		"expired":            {0, 0},
		"expired in leeway":  {-20 * time.Second, 0},
		"a part of a second": {300 * time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := now.Truncate(time.Second)
			who := Identity{
				Issuer: testIssuer, Subject: "a", Algorithm: "HS256", ExpiresAt: now.Add(c.lives),
				Claims: []byte(`{"iss":"x","sub":"b","email":"a@example.com","app_metadata":{"org":12345678901234567890},"user_metadata":{},"role":"authenticated"}`),
			}
			text, expires, err := m.Mint(who, now)
			if c.want == 0 {
				requireKind(t, Expired, err)
				require.Empty(t, text)
				return
			}
			require.NoError(t, err)
			require.Equal(t, now.Add(c.want), expires)
			parsed, _ := decodeToken(text)
			require.Equal(t, m.KeyIDs()[0], parsed.head.keyID())
			require.JSONEq(t, asJSON(t, map[string]any{
				"iss": testIssuer, "sub": "a", "aud": []string{"powersync"}, "iat": now.Unix(), "exp": expires.Unix(),
				"email": "a@example.com", "app_metadata": json.RawMessage(`{"org":12345678901234567890}`),
			}), string(parsed.raw))
			require.Contains(t, string(parsed.raw), "12345678901234567890", "every digit")
		})
	}
}

// TestMintedTokenIsVerified makes the PowerSync Service's checks: its KeyStore.ts and
// RemoteJWKSCollector.ts.
func TestMintedTokenIsVerified(t *testing.T) {
	t.Parallel()
	now := time.Now()
	next, err := NewSigningKey()
	require.NoError(t, err)
	key, err := NewSigningKey()
	require.NoError(t, err)
	who := Identity{Subject: "a", ExpiresAt: now.Add(time.Hour), Claims: []byte(`{}`)}

	before, during, after := newMinter(t, key, next), newMinter(t, next, key), newMinter(t, next)
	old, _, err := before.Mint(who, now)
	require.NoError(t, err)
	fresh, _, err := during.Mint(who, now)
	require.NoError(t, err)
	verify := func(m *Minter, token string) error {
		require.NotContains(t, string(m.KeySet()), `"d"`)
		keys, err := keyfunc.NewJWKSetJSON(m.KeySet())
		require.NoError(t, err)
		parsed, err := jwt.Parse(token, keys.Keyfunc, jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience("powersync"), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
		if err == nil {
			require.NotEmpty(t, parsed.Header["kid"])
		}
		return err
	}
	require.NoError(t, verify(before, old))
	require.NoError(t, verify(before, fresh), "the next key is published before it signs")
	require.NoError(t, verify(during, old), "the last key stays published")
	require.NoError(t, verify(during, fresh))
	require.Error(t, verify(after, old))
}

// A minted token is for reading. Even an issuer that publishes Postern's own key does not
// make it one for writing.
func TestMintedTokenIsNotAccepted(t *testing.T) {
	t.Parallel()
	now := time.Now()
	m := newMinter(t)
	server := newKeyServer(t)
	server.serveText(200, string(m.KeySet()))
	description := testDescription()
	description.Audience, description.Role = []string{"powersync"}, "authenticated"
	v, _ := verifierOn(t, server, nil, description)
	awaitKeys(t, v)
	text, _, err := m.Mint(Identity{Issuer: testIssuer, Subject: "a", ExpiresAt: now.Add(time.Hour), Claims: []byte(`{}`)}, now)
	require.NoError(t, err)
	_, err = v.Verify(t.Context(), text)
	refusal := requireKind(t, NotAToken, err)
	require.Contains(t, refusal.Reason, "another kind of token")

	asJWT := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": testIssuer, "sub": "a", "aud": "powersync", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()})
	asJWT.Header["kid"] = m.KeyIDs()[0]
	text, err = asJWT.SignedString(m.minting.Keys[0].private)
	require.NoError(t, err)
	_, err = v.Verify(t.Context(), text)
	require.NoError(t, err, "nothing but the typ is in the way")
}
