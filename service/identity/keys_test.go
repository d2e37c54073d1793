package identity

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// keyTest is an issuer whose key server the test controls, in a bubble where
// time passes only when everybody waits.
type keyTest struct {
	*testing.T
	server   *keyServer
	verifier *Verifier
	logs     *logBuffer
	first    signer
	second   signer
}

// inBubble runs test against a verifier that has just been started; prepare, if
// any, sets the server up before.
func inBubble(t *testing.T, prepare func(*keyServer), test func(k *keyTest)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &keyTest{T: t, first: newSigner(t, "ES256", "first"), second: newSigner(t, "ES256", "second")}
		k.server = newKeyServer(t, k.first.jwk(t, nil))
		if prepare != nil {
			prepare(k.server)
		}
		k.verifier, k.logs = verifierOn(t, k.server, nil, testDescription())
		synctest.Wait()
		test(k)
	})
}

// verify judges a fresh token of the key and says how long that took.
func (k *keyTest) verify(key signer) (took time.Duration, err error) {
	text := key.token(k, time.Now(), nil, nil)
	started := time.Now()
	_, err = k.verifier.Verify(k.Context(), text)
	return time.Since(started), err
}

func (k *keyTest) accepts(key signer) {
	k.Helper()
	took, err := k.verify(key)
	require.NoError(k, err)
	require.LessOrEqual(k, took, unknownKeyWait)
}

func (k *keyTest) refuses(key signer, want Kind) *Refusal {
	k.Helper()
	took, err := k.verify(key)
	require.LessOrEqual(k, took, unknownKeyWait)
	return requireKind(k, want, err)
}

// pass lets time pass, and what is due happen. Only for bubbles.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// hang makes the server accept requests and never answer.
func (s *keyServer) hang() {
	s.serve(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
}

func TestRotation(t *testing.T) {
	t.Parallel()

	t.Run("with a standby key", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			k.accepts(k.first)
			k.server.serveKeys(k.first.jwk(k, nil), k.second.jwk(k, nil)) // standby appears
			pass(refreshEvery + refreshSpread)
			fetches := len(k.server.requests())
			k.accepts(k.second) // tokens switch
			k.accepts(k.first)
			require.Len(k, k.server.requests(), fetches, "both keys were at hand")
			k.server.serveKeys(k.second.jwk(k, nil)) // the old key leaves
			pass(refreshEvery + refreshSpread)
			k.accepts(k.second)
			k.refuses(k.first, UnknownKey)
			require.Contains(k, k.logs.String(), "kids=[second]")
		})
	})
	t.Run("at once", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			k.server.serveKeys(k.second.jwk(k, nil))
			k.accepts(k.first) // nobody has said otherwise yet
			took, err := k.verify(k.second)
			require.NoError(k, err)
			require.Zero(k, took)
			k.refuses(k.first, UnknownKey)
		})
	})
	t.Run("to another kind of key", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			third := newSigner(k, "EdDSA", "third")
			k.server.serveKeys(third.jwk(k, nil))
			k.accepts(third)
		})
	})
	t.Run("of the key behind a kid", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			replacement := newSigner(k, "ES256", k.first.kid)
			k.server.serveKeys(replacement.jwk(k, nil))
			k.refuses(replacement, BadSignature)
			pass(refreshEvery + refreshSpread)
			k.accepts(replacement)
			k.refuses(k.first, BadSignature)
		})
	})
	t.Run("to no key at all", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			k.server.serveKeys()
			pass(refreshEvery + refreshSpread)
			k.accepts(k.first)
			require.Contains(k, k.logs.String(), "the key set has no usable key")
			pass(maxKeyAge)
			k.refuses(k.first, Unavailable)
		})
	})
}

func TestRefreshInterval(t *testing.T) {
	inBubble(t, nil, func(k *keyTest) {
		started := time.Now()
		for len(k.server.requests()) < 50 {
			before := len(k.server.requests())
			pass(refreshEvery - time.Second)
			require.Len(k, k.server.requests(), before)
			for len(k.server.requests()) == before {
				pass(time.Second)
			}
		}
		require.LessOrEqual(k, time.Since(started), 49*(refreshEvery+refreshSpread+time.Second))
		k.accepts(k.first)
	})
}

func TestOutage(t *testing.T) {
	t.Parallel()

	for name, breakIt := range map[string]func(*keyServer){
		"errors":              func(s *keyServer) { s.serveText(http.StatusInternalServerError, "{}") },
		"silence":             (*keyServer).hang,
		"a page for people":   func(s *keyServer) { s.serveText(http.StatusOK, "<html>under maintenance</html>") },
		"an empty body":       func(s *keyServer) { s.serveText(http.StatusOK, "") },
		"an empty object":     func(s *keyServer) { s.serveText(http.StatusOK, "{}") },
		"no keys":             func(s *keyServer) { s.serveKeys() },
		"null":                func(s *keyServer) { s.serveText(http.StatusOK, `{"keys":null}`) },
		"a body without end":  func(s *keyServer) { s.serveText(http.StatusOK, `{"keys":[]}`+strings.Repeat(" ", maxKeySetBytes)) },
		"too many keys":       func(s *keyServer) { s.serveText(http.StatusOK, `{"keys":[{}`+strings.Repeat(",{}", maxKeys)+`]}`) },
		"a body that is cut":  func(s *keyServer) { s.serveText(http.StatusOK, `{"keys":[`) },
		"no content":          func(s *keyServer) { s.serveText(http.StatusNoContent, "") },
		"not found":           func(s *keyServer) { s.serveText(http.StatusNotFound, `{"keys":[]}`) },
		"another origin":      func(s *keyServer) { s.serve(redirectTo("https://attacker.example.com/jwks.json")) },
		"a loop of redirects": func(s *keyServer) { s.serve(redirectTo(testIssuer + "/jwks.json")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("keeps the last good keys", func(t *testing.T) {
				inBubble(t, nil, func(k *keyTest) {
					breakIt(k.server)
					for range 3 {
						pass(refreshEvery)
						took, err := k.verify(k.first)
						require.NoError(k, err)
						require.Zero(k, took)
					}
					k.refuses(k.second, Unavailable)
					require.NoError(k, k.verifier.Ready())
					require.Contains(k, k.logs.String(), "the last good one, if any, stays in use")
					k.server.serveKeys(k.second.jwk(k, nil))
					pass(fetchTimeout + retryEvery)
					k.accepts(k.second)
				})
			})
			t.Run("at start", func(t *testing.T) {
				inBubble(t, breakIt, func(k *keyTest) {
					for range 10 {
						k.refuses(k.first, Unavailable)
						require.ErrorContains(k, k.verifier.Ready(), testIssuer)
						pass(7 * time.Second)
					}
					k.server.serveKeys(k.first.jwk(k, nil))
					pass(fetchTimeout + retryEvery)
					require.NoError(k, k.verifier.Ready(), "the keys come without anybody asking")
					k.accepts(k.first)
				})
			})
		})
	}
}

// TestKeysGetTooOld has an outage that goes on: a key that was revoked meanwhile must not
// work for ever.
func TestKeysGetTooOld(t *testing.T) {
	inBubble(t, nil, func(k *keyTest) {
		fetched := time.Now()
		k.server.serveText(http.StatusInternalServerError, "")
		pass(maxKeyAge - time.Second)
		took, err := k.verify(k.first)
		require.NoError(k, err)
		require.Zero(k, took)
		require.NoError(k, k.verifier.Ready())
		time.Sleep(time.Until(fetched.Add(maxKeyAge)))
		k.refuses(k.first, Unavailable)
		require.ErrorContains(k, k.verifier.Ready(), testIssuer)
		k.server.serveKeys(k.first.jwk(k, nil))
		pass(fetchTimeout + retryEvery)
		k.accepts(k.first)
		require.NoError(k, k.verifier.Ready())
	})
}

// TestOneOfSeveralIssuersOutOfReach has one issuer that cannot be reached: the users of the
// other one go on.
func TestOneOfSeveralIssuersOutOfReach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const other = "https://other.example.com"
		key := newSigner(t, "ES256", "first")
		server := newKeyServer(t)
		server.serve(func(w http.ResponseWriter, r *http.Request) {
			if "https://"+r.Host == other {
				select {
				case <-time.After(time.Second):
				case <-r.Context().Done(): // the test is over
				}
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			_, _ = w.Write([]byte(asJSON(t, map[string]any{"keys": []any{key.jwk(t, nil)}})))
		})
		unreachable := testDescription()
		unreachable.Issuer, unreachable.KeySetURL = other, other+"/jwks.json"
		verifier, logs := verifierOn(t, server, nil, testDescription(), unreachable)
		synctest.Wait()
		require.ErrorContains(t, verifier.Ready(), other, "its first fetch is still running")
		pass(time.Second)
		require.NoError(t, verifier.Ready())
		_, err := verifier.Verify(t.Context(), key.token(t, time.Now(), nil, nil))
		require.NoError(t, err)
		_, err = verifier.Verify(t.Context(), key.token(t, time.Now(), nil, map[string]any{"iss": other}))
		requireKind(t, Unavailable, err)
		require.Contains(t, logs.String(), "cannot fetch the key set")
		require.Contains(t, logs.String(), other)
	})
}

// Many unknown kids, from strangers, share a few fetches, and a token of a new
// key gets through between them.
func TestFloodOfUnknownKeys(t *testing.T) {
	inBubble(t, nil, func(k *keyTest) {
		const each = 50 * time.Millisecond
		began, rotated := time.Now(), time.Time{}
		var accepted time.Duration
		for n := 0; time.Since(began) < 2*time.Minute; n++ {
			stranger := k.first
			stranger.kid = fmt.Sprintf("stranger-%d", n)
			took, err := k.verify(stranger)
			require.Error(k, err)
			require.LessOrEqual(k, took, unknownKeyWait)
			took, err = k.verify(k.first)
			require.NoError(k, err)
			require.Zero(k, took, "a known key waits for nothing")

			if rotated.IsZero() && time.Since(began) > time.Minute {
				rotated = time.Now()
				k.server.serveKeys(k.first.jwk(k, nil), k.second.jwk(k, nil))
			}
			if !rotated.IsZero() && accepted == 0 {
				if _, err = k.verify(k.second); err == nil {
					accepted = time.Since(rotated) + 1
				} else {
					requireKind(k, Unavailable, err)
				}
			}
			pass(each)
		}
		require.NotZero(k, accepted, "the new key was never accepted")
		require.LessOrEqual(k, accepted, unknownKeyEvery+each+unknownKeyWait)
		most := 1 + unknownKeyBurst + int(time.Since(began)/unknownKeyEvery) + 1
		require.LessOrEqual(k, len(k.server.requests()), most)
	})
}

func TestUnknownKeys(t *testing.T) {
	t.Parallel()

	t.Run("are fetched for even when nobody comes back", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			for range unknownKeyBurst {
				k.refuses(k.second, UnknownKey)
			}
			k.server.serveKeys(k.first.jwk(k, nil), k.second.jwk(k, nil))
			refusal := k.refuses(k.second, Unavailable)
			require.LessOrEqual(k, refusal.RetryAfter, unknownKeyEvery+time.Second)
			pass(refusal.RetryAfter)
			fetches := len(k.server.requests())
			took, err := k.verify(k.second)
			require.NoError(k, err)
			require.Zero(k, took)
			require.Len(k, k.server.requests(), fetches)
		})
	})
	t.Run("wait for a slow server no longer than allowed", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			keys := map[string]any{"keys": []any{k.first.jwk(k, nil), k.second.jwk(k, nil)}}
			k.server.serve(func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(3 * time.Second)
				_, _ = w.Write([]byte(asJSON(k, keys)))
			})
			took, err := k.verify(k.second)
			requireKind(k, Unavailable, err)
			require.Equal(k, unknownKeyWait, took)
			k.accepts(k.first)
			time.Sleep(3 * time.Second)
			k.accepts(k.second)
		})
	})
	t.Run("are no certain answer while a fetch is under way", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			began, answer := make(chan struct{}), make(chan struct{})
			keys := asJSON(k, map[string]any{"keys": []any{k.first.jwk(k, nil)}})
			k.server.serve(func(w http.ResponseWriter, _ *http.Request) {
				close(began)
				<-answer
				_, _ = w.Write([]byte(keys))
			})
			early := make(chan error)
			go func() {
				_, err := k.verify(k.second)
				early <- err
			}()
			<-began
			late := make(chan error)
			go func() {
				_, err := k.verify(k.second)
				late <- err
			}()
			synctest.Wait()
			close(answer)
			requireKind(k, UnknownKey, <-early)
			requireKind(k, Unavailable, <-late)
		})
	})
	t.Run("are named by a kid, or nothing is fetched", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			fetches := len(k.server.requests())
			for _, kid := range []any{nil, ""} {
				_, err := k.verifier.Verify(k.Context(), k.first.token(k, time.Now(), map[string]any{"kid": kid}, nil))
				requireKind(k, UnknownKey, err)
			}
			require.Len(k, k.server.requests(), fetches)
		})
	})
	t.Run("wait no longer than the request", func(t *testing.T) {
		inBubble(t, nil, func(k *keyTest) {
			k.server.hang()
			ctx, cancel := context.WithTimeout(k.Context(), 50*time.Millisecond)
			defer cancel()
			started := time.Now()
			_, err := k.verifier.Verify(ctx, k.second.token(k, time.Now(), nil, nil))
			requireKind(k, Unavailable, err)
			require.Equal(k, 50*time.Millisecond, time.Since(started))
		})
	})
}

func redirectTo(url string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, http.StatusFound) }
}
