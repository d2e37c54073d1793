package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fixedSigners are the same in every process, as the fuzzer's workers need.
func fixedSigners(t testing.TB) (ec, ed, secret signer) {
	t.Helper()
	seed := sha256.Sum256([]byte("a key for fuzzing"))
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	require.NoError(t, err)
	return signer{"ec-1", "ES256", private}, signer{"ed-1", "EdDSA", ed25519.NewKeyFromSeed(seed[:])}, signer{"", "HS256", []byte(testSecret)}
}

// FuzzHeaderToIdentity looks for a header that panics, and for one that is
// accepted although nobody signed what it says.
func FuzzHeaderToIdentity(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	ec, ed, secret := fixedSigners(f)
	noKid := map[string]any{"kid": nil}
	iss := func(name string) map[string]any { return map[string]any{"iss": "https://" + name + ".example.com"} }
	honestTokens := []string{
		ec.token(f, now, nil, nil),
		ed.token(f, now, nil, nil),
		secret.token(f, now, noKid, iss("secret")),
		secret.token(f, now, noKid, iss("keyless")),
	}
	var signed []string // all that anybody ever signed
	for _, token := range honestTokens {
		signed = append(signed, token[:strings.LastIndexByte(token, '.')])
		f.Add("Bearer " + token)
	}
	for _, header := range []string{"", "Bearer ", "Bearer ..", "Basic YTpi", "bearer " + honestTokens[0] + ".", "Bearer " + b64(`{"alg":"none"}`) + "." + b64(`{}`) + "."} {
		f.Add(header)
	}

	server := newKeyServer(f)
	server.serve(func(w http.ResponseWriter, r *http.Request) {
		keys := []any{}
		if r.Host == "issuer.example.com" {
			keys = []any{ec.jwk(f, nil), ed.jwk(f, nil)}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	})
	main, withSecret, keyless := testDescription(), testDescription(), testDescription()
	withSecret.Issuer, withSecret.KeySetURL, withSecret.Secret = "https://secret.example.com", "https://secret.example.com/jwks.json", []byte(testSecret)
	keyless.Issuer, keyless.KeySetURL, keyless.Introspect = "https://keyless.example.com", "https://keyless.example.com/jwks.json", judgeBySecret
	v, _ := verifierOn(f, server, func() time.Time { return now }, main, withSecret, keyless)
	awaitKeys(f, v)
	for _, token := range honestTokens {
		_, err := v.Verify(f.Context(), token)
		require.NoError(f, err)
	}

	f.Fuzz(func(t *testing.T, header string) {
		token := BearerToken(header)
		who, err := v.Verify(t.Context(), token)
		if err != nil {
			var refusal *Refusal
			require.ErrorAs(t, err, &refusal)
			require.NotEmpty(t, refusal.Kind)
			require.Zero(t, who)
			return
		}
		at := strings.LastIndexByte(token, '.')
		require.Contains(t, signed, token[:at])
		signature, err := base64.RawURLEncoding.DecodeString(token[at+1:])
		require.NoError(t, err)
		require.True(t, signatureHolds(ec, ed, token[:at], signature))
		require.Equal(t, aliceID, who.Subject)
	})
}

// signatureHolds checks signatures without the code under test and its library.
func signatureHolds(ec, ed signer, signed string, signature []byte) bool {
	sum := sha256.Sum256([]byte(signed))
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte(signed))
	if ed25519.Verify(ed.public().(ed25519.PublicKey), []byte(signed), signature) || bytes.Equal(mac.Sum(nil), signature) {
		return true
	}
	if len(signature) != 64 {
		return false
	}
	r, rest := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	return ecdsa.Verify(ec.public().(*ecdsa.PublicKey), sum[:], r, rest)
}

// judgeBySecret is an issuer that knows its secret.
func judgeBySecret(_ context.Context, token string) (string, error) {
	at := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[at+1:])
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte(token[:at]))
	if err != nil || !hmac.Equal(mac.Sum(nil), signature) {
		return "", errors.Join(ErrRefused, err)
	}
	return aliceID, nil
}

// FuzzKeySet looks for a key set that panics, or that yields a key which could do
// more than verify.
func FuzzKeySet(f *testing.F) {
	ec, ed, _ := fixedSigners(f)
	for _, body := range []string{
		"", "{}", "null", "[]", `{"keys":null}`, `{"keys":[]}`, `{"keys":[{}]}`, `{"keys":[{"kty":"oct","k":"AA","kid":"k"}]}`,
		asJSON(f, map[string]any{"keys": []any{ec.jwk(f, nil), ed.jwk(f, map[string]any{"alg": nil}), ec.jwk(f, map[string]any{"d": "AA"})}}),
		`{"keys":[{"kty":"RSA","kid":"k","e":"AQAB","n":"` + strings.Repeat("q", 342) + `"}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		usable, _, err := parseKeySet(body)
		if err != nil {
			require.Empty(t, usable)
		}
		require.LessOrEqual(t, len(usable), maxKeys)
		for _, key := range usable {
			require.NotEmpty(t, key.Marshal().KID)
			require.Empty(t, key.Marshal().D)
			require.Empty(t, key.Marshal().K)
			require.NotContains(t, []string{"HS256", "none"}, key.Marshal().ALG.String())
		}
	})
}
