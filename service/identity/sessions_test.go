package identity

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// authServer is an issuer that can be asked about tokens.
type authServer struct {
	mu     sync.Mutex
	asked  int
	answer func(ctx context.Context, token string) (string, error)
}

func (a *authServer) introspect(ctx context.Context, token string) (string, error) {
	a.mu.Lock()
	a.asked++
	answer := a.answer
	a.mu.Unlock()
	return answer(ctx, token)
}

func (a *authServer) says(subject string, err error) {
	a.does(func(context.Context, string) (string, error) { return subject, err })
}

func (a *authServer) does(answer func(context.Context, string) (string, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

func (a *authServer) questions() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

const aliceID = "8d7eaece-f329-4661-a3d0-cabe96fac66a" // who honest describes

type sessionTest struct {
	*testing.T
	auth     *authServer
	server   *keyServer
	verifier *Verifier
	key      signer // of the key set, where it is not empty
	secret   signer // HS256; only the issuer has it
}

// withIssuer runs test in a bubble, against an issuer that can be asked.
func withIssuer(t *testing.T, keyless bool, change func(*Issuer), test func(s *sessionTest)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sessionTest{T: t, auth: &authServer{}, key: newSigner(t, "ES256", "ec-1"), secret: newSigner(t, "HS256", "secret-1")}
		s.auth.says(aliceID, nil)
		s.server = newKeyServer(t)
		if !keyless {
			s.server.serveKeys(s.key.jwk(t, nil))
		}
		description := testDescription()
		description.Introspect = s.auth.introspect
		change(&description)
		s.verifier, _ = verifierOn(t, s.server, nil, description)
		synctest.Wait()
		test(s)
	})
}

func (s *sessionTest) verify(token string) error {
	_, err := s.verifier.Verify(s.Context(), token)
	return err
}

func (s *sessionTest) token(key signer, body map[string]any) string {
	return key.token(s, time.Now(), nil, body)
}

func TestSessionsAreChecked(t *testing.T) {
	t.Parallel()
	check := func(i *Issuer) { i.CheckSessions = true }

	t.Run("and the answer is kept for 30 s", func(t *testing.T) {
		withIssuer(t, false, check, func(s *sessionTest) {
			token := s.token(s.key, nil)
			for range 3 {
				require.NoError(s, s.verify(token))
			}
			require.Equal(s, 1, s.auth.questions())
			s.auth.says("", ErrRefused) // the user signs out
			pass(sessionTTL - time.Nanosecond)
			require.NoError(s, s.verify(token))
			pass(time.Nanosecond)
			requireKind(s, Revoked, s.verify(token))
			requireKind(s, Revoked, s.verify(token))
			require.Equal(s, 2, s.auth.questions())
			s.auth.says(aliceID, nil)
			require.NoError(s, s.verify(s.token(s.key, map[string]any{"x": 1})), "another token has an answer of its own")
		})
	})
	t.Run("from the moment of asking", func(t *testing.T) {
		withIssuer(t, false, check, func(s *sessionTest) {
			s.auth.does(func(context.Context, string) (string, error) {
				time.Sleep(4 * time.Second)
				return aliceID, nil
			})
			token := s.token(s.key, nil)
			require.NoError(s, s.verify(token))
			pass(sessionTTL - 4*time.Second)
			require.NoError(s, s.verify(token))
			require.Equal(s, 2, s.auth.questions())
		})
	})
	t.Run("and trouble is not kept", func(t *testing.T) {
		withIssuer(t, false, check, func(s *sessionTest) {
			s.auth.says("", errors.New("status 500"))
			token := s.token(s.key, nil)
			refusal := requireKind(s, Unavailable, s.verify(token))
			require.Contains(s, refusal.Reason, "status 500")
			s.auth.says(aliceID, nil)
			require.NoError(s, s.verify(token))
		})
	})
	t.Run("and a refusal stands though the token does", func(t *testing.T) {
		withIssuer(t, false, check, func(s *sessionTest) {
			s.auth.says("", ErrRefused)
			token := s.token(s.key, nil)
			requireKind(s, Revoked, s.verify(token))
			s.auth.says("", errors.New("status 500"))
			requireKind(s, Revoked, s.verify(token))
		})
	})
	t.Run("and the user must be the token's", func(t *testing.T) {
		withIssuer(t, false, check, func(s *sessionTest) {
			token := s.token(s.key, nil)
			for _, subject := range []string{"another", "", strings.ToUpper(aliceID)} {
				s.auth.says(subject, nil)
				pass(sessionTTL)
				requireKind(s, Revoked, s.verify(token))
			}
		})
	})
	t.Run("only for tokens that hold otherwise", func(t *testing.T) {
		withIssuer(t, false, check, func(s *sessionTest) {
			attacker := newSigner(s, "ES256", s.key.kid)
			requireKind(s, BadSignature, s.verify(s.token(attacker, nil)))
			requireKind(s, WrongAudience, s.verify(s.token(s.key, map[string]any{"aud": "x"})))
			requireKind(s, Expired, s.verify(s.token(s.key, map[string]any{"exp": 1})))
			require.Zero(s, s.auth.questions())
		})
	})
	t.Run("but an answer does not outlive the token", func(t *testing.T) {
		withIssuer(t, false, check, func(s *sessionTest) {
			token := s.token(s.key, map[string]any{"exp": time.Now().Unix()})
			pass(leeway - time.Second)
			require.NoError(s, s.verify(token))
			time.Sleep(time.Second)
			requireKind(s, Expired, s.verify(token))
		})
	})
	t.Run("not where it is off", func(t *testing.T) {
		withIssuer(t, false, func(*Issuer) {}, func(s *sessionTest) {
			s.auth.says("", ErrRefused)
			require.NoError(s, s.verify(s.token(s.key, nil)))
			require.Zero(s, s.auth.questions())
		})
	})
	t.Run("also with the shared secret", func(t *testing.T) {
		withIssuer(t, true, func(i *Issuer) { i.CheckSessions, i.Secret = true, []byte(testSecret) }, func(s *sessionTest) {
			require.NoError(s, s.verify(s.token(s.secret, nil)))
			s.auth.says("", ErrRefused)
			pass(sessionTTL)
			requireKind(s, Revoked, s.verify(s.token(s.secret, nil)))
			require.Equal(s, 2, s.auth.questions())
		})
	})
}

func TestQuestionsAreShared(t *testing.T) {
	t.Parallel()
	check := func(i *Issuer) { i.CheckSessions = true }

	t.Run("by requests with one token", func(t *testing.T) {
		withIssuer(t, false, check, func(s *sessionTest) {
			answer := make(chan struct{})
			s.auth.does(func(context.Context, string) (string, error) {
				<-answer
				return aliceID, nil
			})
			token := s.token(s.key, nil)
			results := make(chan error, 100)
			for range cap(results) {
				go func() { results <- s.verify(token) }()
			}
			// One who gives up takes nobody along.
			hurried, cancel := context.WithCancel(s.Context())
			gaveUp := make(chan error)
			go func() {
				_, err := s.verifier.Verify(hurried, token)
				gaveUp <- err
			}()
			synctest.Wait()
			cancel()
			requireKind(s, Unavailable, <-gaveUp)
			close(answer)
			for range cap(results) {
				require.NoError(s, <-results)
			}
			require.Equal(s, 1, s.auth.questions())
		})
	})
	t.Run("and few at once", func(t *testing.T) {
		withIssuer(t, false, check, func(s *sessionTest) {
			var now, most atomic.Int32
			s.auth.does(func(context.Context, string) (string, error) {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				defer now.Add(-1)
				time.Sleep(time.Second)
				return aliceID, nil
			})
			results := make(chan error, 3*maxAsks)
			for n := range cap(results) {
				token := s.token(s.key, map[string]any{"n": n})
				go func() { results <- s.verify(token) }()
			}
			for range cap(results) {
				require.NoError(s, <-results)
			}
			require.EqualValues(s, maxAsks, most.Load())
		})
	})
	t.Run("and end in time", func(t *testing.T) {
		withIssuer(t, false, check, func(s *sessionTest) {
			s.auth.does(func(ctx context.Context, _ string) (string, error) {
				<-ctx.Done()
				return "", ctx.Err()
			})
			started := time.Now()
			requireKind(s, Unavailable, s.verify(s.token(s.key, nil)))
			require.Equal(s, askTimeout, time.Since(started))
		})
	})
}

// HS256 tokens whose secret only the issuer has.
func TestTokensOnlyTheIssuerVerifies(t *testing.T) {
	t.Parallel()
	same := func(*Issuer) {}

	t.Run("a token of an issuer without keys", func(t *testing.T) {
		withIssuer(t, true, same, func(s *sessionTest) {
			who, err := s.verifier.Verify(s.Context(), s.token(s.secret, nil))
			require.NoError(s, err)
			require.Equal(s, aliceID, who.Subject)
			require.Equal(s, "HS256", who.Algorithm)
			_, err = s.verifier.Verify(s.Context(), s.secret.token(s, time.Now(), map[string]any{"kid": nil}, nil))
			require.NoError(s, err)
			require.Equal(s, 2, s.auth.questions())
		})
	})
	t.Run("and refuses", func(t *testing.T) {
		withIssuer(t, true, same, func(s *sessionTest) {
			s.auth.says("", ErrRefused)
			requireKind(s, Revoked, s.verify(s.token(s.secret, nil)))
		})
	})
	t.Run("or cannot be asked", func(t *testing.T) {
		withIssuer(t, true, same, func(s *sessionTest) {
			s.auth.says("", errors.New("status 429"))
			requireKind(s, Unavailable, s.verify(s.token(s.secret, nil)))
		})
	})
	t.Run("and the claims are judged all the same", func(t *testing.T) {
		withIssuer(t, true, same, func(s *sessionTest) {
			for want, body := range map[Kind]map[string]any{
				WrongAudience: {"aud": "client-1"},
				Expired:       {"exp": 1},
				NotYetValid:   {"iat": time.Now().Add(time.Hour).Unix()},
				NoSubject:     {"sub": nil},
				WrongRole:     {"role": "service_role"},
				UnknownIssuer: {"iss": "supabase"},
				NotAToken:     {"exp": nil},
			} {
				requireKind(s, want, s.verify(s.token(s.secret, body)))
			}
			require.Zero(s, s.auth.questions())
			requireKind(s, Revoked, s.verify(s.token(s.secret, map[string]any{"sub": "another"})))
		})
	})
	t.Run("only HS256", func(t *testing.T) {
		withIssuer(t, true, same, func(s *sessionTest) {
			head := func(alg string) map[string]any { return map[string]any{"alg": alg} }
			requireKind(s, WrongAlgorithm, s.verify(s.secret.token(s, time.Now(), head("none"), nil)))
			requireKind(s, WrongAlgorithm, s.verify(s.secret.token(s, time.Now(), head("HS512"), nil)))
			requireKind(s, UnknownKey, s.verify(s.secret.token(s, time.Now(), head("ES256"), nil)))
			require.Zero(s, s.auth.questions())
		})
	})
	t.Run("not where there are keys", func(t *testing.T) {
		withIssuer(t, false, same, func(s *sessionTest) {
			for _, kid := range []any{nil, "", "secret-1", s.key.kid} {
				requireKind(s, WrongAlgorithm, s.verify(s.secret.token(s, time.Now(), map[string]any{"kid": kid}, nil)))
			}
			require.Zero(s, s.auth.questions())
		})
	})
	t.Run("not once there are keys", func(t *testing.T) {
		withIssuer(t, true, same, func(s *sessionTest) {
			require.NoError(s, s.verify(s.token(s.secret, nil)))
			s.server.serveKeys(s.key.jwk(s, nil))
			pass(refreshEvery + refreshSpread)
			requireKind(s, WrongAlgorithm, s.verify(s.token(s.secret, nil)))
			require.NoError(s, s.verify(s.token(s.key, nil)))
		})
	})
	t.Run("not before the keys are known", func(t *testing.T) {
		withIssuer(t, true, same, func(s *sessionTest) {
			s.server.serveText(404, "")
			description := testDescription()
			description.Introspect = s.auth.introspect
			v, _ := verifierOn(s, s.server, nil, description) // started while the key server is down
			synctest.Wait()
			_, err := v.Verify(s.Context(), s.token(s.secret, nil))
			requireKind(s, Unavailable, err)
			require.Zero(s, s.auth.questions())
		})
	})
	t.Run("not where the secret is known", func(t *testing.T) {
		withIssuer(t, true, func(i *Issuer) { i.Secret = []byte(strings.Repeat("x", 32)) }, func(s *sessionTest) {
			requireKind(s, BadSignature, s.verify(s.token(s.secret, nil)))
			require.Zero(s, s.auth.questions())
		})
	})
}

// TestInventedTokensTakeNoTurnsOfUsers has a flood of HS256 tokens, each with other claims,
// that hold the issuer up.
func TestInventedTokensTakeNoTurnsOfUsers(t *testing.T) {
	t.Parallel()
	const flood = 1000
	for _, test := range []struct {
		name   string
		claims func(n int) map[string]any // of the invented tokens
	}{
		{"of users who do not exist", func(n int) map[string]any {
			return map[string]any{"sub": fmt.Sprint("nobody ", n), "session_id": fmt.Sprint(n)}
		}},
		{"without a session", func(n int) map[string]any { return map[string]any{"n": n} }},
		{"of a session of the attacker's own", func(n int) map[string]any { return map[string]any{"sub": "mallory", "session_id": "m", "n": n} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			withIssuer(t, true, func(*Issuer) {}, func(s *sessionTest) {
				genuine := map[string]string{} // token: subject
				s.auth.does(func(ctx context.Context, token string) (string, error) {
					if subject := genuine[token]; subject != "" {
						return subject, nil
					}
					<-ctx.Done()
					return "", ctx.Err()
				})
				tokenOf := func(subject, session string, n int) string {
					token := s.token(s.secret, map[string]any{"sub": subject, "session_id": session, "n": n})
					genuine[token] = subject
					return token
				}
				require.NoError(s, s.verify(tokenOf(aliceID, "a", 1)))
				require.NoError(s, s.verify(tokenOf("mallory", "m", -1)))
				renewed, another := tokenOf(aliceID, "a", 2), tokenOf("bob", "b", 1)
				var attack sync.WaitGroup
				for n := range flood {
					token := s.token(newSigner(s, "HS256", "secret-1"), test.claims(n))
					attack.Go(func() { _ = s.verify(token) })
				}
				synctest.Wait()
				started := time.Now()
				require.NoError(s, s.verify(renewed), "she is known, and her new token is not")
				require.Zero(s, time.Since(started))
				requireKind(s, Unavailable, s.verify(another))
				attack.Wait()
				require.NoError(s, s.verify(another), "once the flood is over")
			})
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := cache[int]{ttl: sessionTTL}
		key := func(n int) digest {
			return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
		}
		until := time.Now().Add(sessionTTL)
		for n := range 3 * maxRemembered {
			m.put(key(n), n, until)
			require.LessOrEqual(t, len(m.young)+len(m.old), maxRemembered)
		}
		got, ok := m.get(key(3*maxRemembered-1), time.Now())
		require.True(t, ok)
		require.Equal(t, 3*maxRemembered-1, got)
		_, ok = m.get(key(0), time.Now())
		require.False(t, ok)

		pass(sessionTTL)
		_, ok = m.get(key(3*maxRemembered-1), time.Now())
		require.False(t, ok, "its time is over")
	})
}
