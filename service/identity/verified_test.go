package identity

import (
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// TestVerifiedTokens sends tokens again whose signature was good the first time.
func TestVerifiedTokens(t *testing.T) {
	t.Parallel()

	t.Run("any byte changed", func(t *testing.T) {
		t.Parallel()
		key := newSigner(t, "ES256", "k")
		v, _ := verifierOn(t, newKeyServer(t, key.jwk(t, nil)), nil, testDescription())
		awaitKeys(t, v)
		text := key.token(t, time.Now(), nil, nil)
		_, err := v.Verify(t.Context(), text)
		require.NoError(t, err)
		require.Len(t, v.verified.younger, 1)
		for i := range text {
			changed := []byte(text)
			changed[i] ^= 1
			_, err := v.Verify(t.Context(), string(changed))
			require.Error(t, err, "byte %d", i)
		}
		for _, near := range []string{text + "A", text[:len(text)-1], " " + text} {
			_, err := v.Verify(t.Context(), near)
			require.Error(t, err)
		}
		require.Len(t, v.verified.younger, 1, "what was refused is not remembered")
	})
	t.Run("a request's memory is used again", func(t *testing.T) {
		t.Parallel()
		key := newSigner(t, "ES256", "k")
		v, _ := verifierOn(t, newKeyServer(t, key.jwk(t, nil)), nil, testDescription())
		awaitKeys(t, v)
		text := key.token(t, time.Now(), nil, map[string]any{"sub": "alice"})
		_, err := v.Verify(t.Context(), text)
		require.NoError(t, err)
		for _, kept := range v.verified.younger {
			require.Equal(t, text, kept.text)
			require.NotSame(t, unsafe.StringData(text), unsafe.StringData(kept.text))
		}
		who, err := v.Verify(t.Context(), strings.Clone(text))
		require.NoError(t, err)
		require.Equal(t, "alice", who.Subject)
	})
	t.Run("expired since", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			text := k.first.token(k, time.Now(), nil, nil)
			_, err := k.verifier.Verify(k.Context(), text)
			require.NoError(k, err)
			who, err := k.verifier.Verify(k.Context(), text)
			require.NoError(k, err)
			time.Sleep(time.Until(who.ExpiresAt) + leeway)
			_, err = k.verifier.Verify(k.Context(), text)
			requireKind(k, Expired, err)
		})
	})
	t.Run("the key was revoked since", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			text := k.first.token(k, time.Now(), nil, nil)
			_, err := k.verifier.Verify(k.Context(), text)
			require.NoError(k, err)
			k.server.serveKeys(k.second.jwk(k, nil))
			pass(refreshEvery + refreshSpread)
			_, err = k.verifier.Verify(k.Context(), text)
			requireKind(k, UnknownKey, err)
		})
	})
	t.Run("the keys are too old", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			text := k.first.token(k, time.Now(), nil, map[string]any{"exp": time.Now().Add(24 * time.Hour).Unix()})
			_, err := k.verifier.Verify(k.Context(), text)
			require.NoError(k, err)
			k.server.hang()
			pass(maxKeyAge + refreshEvery + refreshSpread)
			_, err = k.verifier.Verify(k.Context(), text)
			requireKind(k, Unavailable, err)
		})
	})
	t.Run("more than fit", func(t *testing.T) {
		t.Parallel()
		v := verified{most: 4 << 20}
		text := strings.Repeat("x", maxTokenBytes)
		for i := range 10_000 {
			v.remember([32]byte{byte(i), byte(i >> 8)}, token{text: text, signed: text}, &keys{})
		}
		require.LessOrEqual(t, (len(v.younger)+len(v.older))*maxTokenBytes, v.most)
		_, ok := v.find([32]byte{9999 & 0xff, 9999 >> 8})
		require.True(t, ok)
		_, ok = v.find([32]byte{})
		require.False(t, ok)
	})
}
