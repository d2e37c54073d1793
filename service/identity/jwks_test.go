package identity

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestKeysThatVerify(t *testing.T) {
	t.Parallel()
	ec, rsa, ed := newSigner(t, "ES256", "k"), newSigner(t, "RS256", "k"), newSigner(t, "EdDSA", "k")
	small := map[string]any{"kty": "RSA", "kid": "k", "e": "AQAB", "n": strings.Repeat("q", 171)}
	huge := map[string]any{"kty": "RSA", "kid": "k", "e": "AQAB", "n": strings.Repeat("q", 2048)}
	for name, c := range map[string]struct {
		key     map[string]any
		leftOut string // empty: it verifies
	}{
		"elliptic curve":         {ec.jwk(t, nil), ""},
		"without use and alg":    {ec.jwk(t, map[string]any{"use": nil, "alg": nil}), ""},
		"RSA without alg":        {rsa.jwk(t, map[string]any{"alg": nil}), ""},
		"Ed25519":                {ed.jwk(t, nil), ""},
		"key_ops verify":         {ec.jwk(t, map[string]any{"key_ops": []string{"verify"}}), ""},
		"certificates, not read": {ec.jwk(t, map[string]any{"x5u": "https://attacker.example.com", "x5c": []string{"?"}, "x5t": "?"}), ""},
		"unknown members":        {ec.jwk(t, map[string]any{"ext": true, "exp": 1}), ""},

		"symmetric":               {map[string]any{"kty": "oct", "kid": "k", "k": "c2VjcmV0", "alg": "HS256"}, "is not supported"},
		"symmetric in disguise":   {ec.jwk(t, map[string]any{"k": "c2VjcmV0"}), "private"},
		"private curve key":       {ec.jwk(t, map[string]any{"d": "AQAB"}), "private"},
		"private RSA key":         {rsa.jwk(t, map[string]any{"d": "AQAB"}), "private"},
		"a prime":                 {rsa.jwk(t, map[string]any{"p": "AQAB"}), "private"},
		"for encryption":          {ec.jwk(t, map[string]any{"use": "enc"}), "use"},
		"for an unknown use":      {ec.jwk(t, map[string]any{"use": "SIG"}), "use"},
		"key_ops without verify":  {ec.jwk(t, map[string]any{"key_ops": []string{"sign", "deriveKey"}}), "key_ops"},
		"no kid":                  {ec.jwk(t, map[string]any{"kid": nil}), "no kid"},
		"alg of another curve":    {ec.jwk(t, map[string]any{"alg": "ES384"}), "does not fit"},
		"alg of a symmetric kind": {ec.jwk(t, map[string]any{"alg": "HS256"}), "does not fit"},
		"RSA for encryption":      {rsa.jwk(t, map[string]any{"alg": "RSA-OAEP"}), "is not supported"},
		"RSA for PS256":           {rsa.jwk(t, map[string]any{"alg": "PS256"}), "is not supported"},
		"RSA of 1026 bits":        {small, "bits"},
		"RSA of 12288 bits":       {huge, "bits"},
		"a curve not served":      {ec.jwk(t, map[string]any{"crv": "secp256k1", "alg": nil}), "is not supported"},
		"X25519":                  {ed.jwk(t, map[string]any{"crv": "X25519", "alg": nil}), "is not supported"},
		"a point off the curve":   {ec.jwk(t, map[string]any{"x": "AQ", "y": "AQ"}), "broken"},
		"a coordinate missing":    {ec.jwk(t, map[string]any{"y": nil}), "broken"},
		"Ed25519 too short":       {ed.jwk(t, map[string]any{"x": "AQAB"}), "broken"},
		"members of other types":  {map[string]any{"kty": 1, "kid": []string{}}, "unreadable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := newSigner(t, "ES256", "good")
			usable, leftOut, err := parseKeySet([]byte(asJSON(t, map[string]any{"keys": []any{c.key, good.jwk(t, nil)}})))
			require.NoError(t, err)
			if c.leftOut == "" {
				require.Empty(t, leftOut)
				require.Len(t, usable, 2)
				return
			}
			require.Len(t, usable, 1, "it does not spoil the others")
			require.Equal(t, "good", usable[0].Marshal().KID)
			require.Len(t, leftOut, 1)
			require.Contains(t, leftOut[0], c.leftOut)
		})
	}
}

// A key without alg serves what its kind can do, and nothing else.
func TestAlgorithmsOfAKeyWithoutAlg(t *testing.T) {
	inBubble(t, nil, func(k *keyTest) {
		rsa, ec := newSigner(k, "RS256", "rsa"), k.first
		noAlg := map[string]any{"alg": nil}
		k.server.serveKeys(rsa.jwk(k, noAlg), ec.jwk(k, noAlg))
		pass(refreshEvery + refreshSpread)
		k.accepts(rsa)
		k.accepts(ec)
		k.accepts(signer{alg: "RS512", kid: rsa.kid, private: rsa.private})
		k.refuses(signer{alg: "PS256", kid: rsa.kid, private: rsa.private}, WrongAlgorithm)
		_, err := k.verifier.Verify(k.Context(), ec.token(k, time.Now(), map[string]any{"alg": "ES384"}, nil))
		requireKind(k, WrongAlgorithm, err)
		_, err = k.verifier.Verify(k.Context(), ec.token(k, time.Now(), map[string]any{"kid": rsa.kid}, nil))
		requireKind(k, BadSignature, err)
	})
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	for to, followed := range map[string]bool{
		testIssuer + "/moved":                      true,
		"/moved":                                   true,
		"http://issuer.example.com/moved":          false,
		"https://issuer.example.com:444/moved":     false,
		"https://attacker.example.com/moved":       false,
		"https://issuer.example.com@a.example.com": false,
		"http://127.0.0.1/moved":                   false,
		"file:///etc/passwd":                       false,
	} {
		t.Run(to, func(t *testing.T) {
			var key signer
			redirect := func(s *keyServer) {
				key = newSigner(t, "ES256", "moved")
				body := asJSON(t, map[string]any{"keys": []any{key.jwk(t, nil)}})
				s.serve(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/jwks.json" {
						http.Redirect(w, r, to, http.StatusTemporaryRedirect)
						return
					}
					_, _ = w.Write([]byte(body))
				})
			}
			inBubble(t, redirect, func(k *keyTest) {
				if followed {
					k.accepts(key)
					return
				}
				k.refuses(key, Unavailable)
				for _, address := range k.server.requests() {
					require.Equal(k, "issuer.example.com/jwks.json", address)
				}
			})
		})
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	const wellKnown = "/.well-known/openid-configuration"
	start := func(t *testing.T, issuer string) (*keyServer, *Verifier, signer) {
		key := newSigner(t, "ES256", "found")
		description := testDescription()
		description.Issuer, description.KeySetURL = issuer, ""
		server := newKeyServer(t, key.jwk(t, nil))
		v, _ := verifierOn(t, server, nil, description)
		return server, v, key
	}
	// answer serves the document, and the keys everywhere else.
	answer := func(t *testing.T, s *keyServer, key signer, status int, document string) {
		keys := asJSON(t, map[string]any{"keys": []any{key.jwk(t, nil)}})
		s.serve(func(w http.ResponseWriter, r *http.Request) {
			body := keys
			if strings.HasSuffix(r.URL.Path, wellKnown) {
				w.WriteHeader(status)
				body = document
			}
			_, _ = w.Write([]byte(body))
		})
	}
	document := func(issuer, keySet string) string {
		return `{"issuer":"` + issuer + `","jwks_uri":"` + keySet + `","x":1}`
	}

	for issuer, host := range map[string]string{
		testIssuer:                       "issuer.example.com",
		testIssuer + "/":                 "issuer.example.com",
		testIssuer + "/realms/a":         "issuer.example.com/realms/a",
		"http://127.0.0.1:9000/realms/a": "127.0.0.1:9000/realms/a",
	} {
		t.Run("of "+url.PathEscape(issuer), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server, v, key := start(t, issuer)
				answer(t, server, key, http.StatusOK, document(issuer, "https://keys.example.com/set"))
				pass(retryEvery)
				require.NoError(t, v.Ready())
				_, err := v.Verify(t.Context(), key.token(t, time.Now(), nil, map[string]any{"iss": issuer}))
				require.NoError(t, err)
				require.Equal(t, []string{host + wellKnown, "keys.example.com/set"}, server.requests()[len(server.requests())-2:])
			})
		})
	}
	for name, c := range map[string]struct {
		status   int
		document string
	}{
		"of another issuer":             {200, document("https://attacker.example.com", "https://attacker.example.com/jwks")},
		"with a slash more":             {200, document(testIssuer+"/", testIssuer+"/jwks.json")},
		"without an issuer":             {200, `{"jwks_uri":"` + testIssuer + `/jwks.json"}`},
		"without a key set":             {200, `{"issuer":"` + testIssuer + `"}`},
		"with a key set in the clear":   {200, document(testIssuer, "http://issuer.example.com/jwks.json")},
		"with a key set on this host":   {200, document(testIssuer, "http://127.0.0.1/jwks.json")},
		"with a key set in a file":      {200, document(testIssuer, "file:///etc/passwd")},
		"with credentials":              {200, document(testIssuer, "https://a:b@issuer.example.com/jwks.json")},
		"with two key sets":             {200, `{"issuer":"` + testIssuer + `","jwks_uri":"https://a.example.com","jwks_uri":"https://b.example.com"}`},
		"that is not found":             {404, document(testIssuer, testIssuer+"/jwks.json")},
		"that is a page for people":     {200, "<html>"},
		"that is longer than a key set": {200, document(testIssuer, testIssuer+"/jwks.json") + strings.Repeat(" ", maxKeySetBytes)},
	} {
		t.Run("refuses a document "+name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server, v, key := start(t, testIssuer)
				answer(t, server, key, c.status, c.document)
				pass(retryEvery)
				require.Error(t, v.Ready())
				_, err := v.Verify(t.Context(), key.token(t, time.Now(), nil, nil))
				requireKind(t, Unavailable, err)
				for _, address := range server.requests() {
					require.Contains(t, address, wellKnown)
				}
			})
		})
	}
	t.Run("comes about after an outage at start", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			server, v, key := start(t, testIssuer)
			server.serveText(http.StatusBadGateway, "")
			pass(time.Hour)
			require.Error(t, v.Ready())
			answer(t, server, key, http.StatusOK, document(testIssuer, testIssuer+"/jwks.json"))
			pass(retryEvery)
			require.NoError(t, v.Ready())
		})
	})
}
