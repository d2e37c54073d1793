package identity

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	supabaseIssuer   = "http://127.0.0.1:58082/auth/v1"
	betterAuthIssuer = "http://127.0.0.1:58083"
	legacySecret     = "rig-super-secret-jwt-token-with-at-least-32-characters"
)

// recorded is a token from a real issuer and who it is for.
type recorded struct {
	name, keySet string
	issuer       Issuer
	algorithm    string
	subject      string
	sessionID    string
}

func recordings() []recorded {
	supabase := Issuer{
		Issuer: supabaseIssuer, KeySetURL: supabaseIssuer + "/.well-known/jwks.json", Audience: []string{"authenticated"},
		Algorithms: []string{"ES256", "RS256"}, Roles: []string{"authenticated"}, Anonymous: true,
	}
	legacy := supabase
	legacy.Secret = []byte(legacySecret)
	neon := Issuer{
		Issuer: betterAuthIssuer, KeySetURL: betterAuthIssuer + "/neondb/auth/.well-known/jwks.json", Audience: []string{betterAuthIssuer},
		Algorithms: []string{"EdDSA"}, Roles: []string{"authenticated"},
	}
	vanilla := neon
	vanilla.Role = "authenticated"
	return []recorded{
		{"supabase-es256", "supabase-es256", supabase, "ES256", "8d7eaece-f329-4661-a3d0-cabe96fac66a", "fc88e222-1476-4f38-976f-daf6ff7a44c7"},
		{"supabase-es256-anonymous", "supabase-es256", supabase, "ES256", "8cf16735-aad9-4861-be01-f9c2baba8e0b", "4d46b514-eb39-4904-8a9c-53eecd223b46"},
		{"supabase-rs256", "supabase-rs256", supabase, "RS256", "8d7eaece-f329-4661-a3d0-cabe96fac66a", "ad5f37f8-2aea-46b6-b715-aaa4c9a3d8b4"},
		{"supabase-hs256-legacy", "supabase-hs256-legacy", legacy, "HS256", "8d7eaece-f329-4661-a3d0-cabe96fac66a", "09e933ac-f9d7-4db1-b761-a892b8b073a0"},
		{"better-auth-vanilla", "better-auth-vanilla", vanilla, "EdDSA", "5LoncfLsDiACIDn44u6dL7NuTsJZaeDQ", ""},
		{"better-auth-neon", "better-auth-neon", neon, "EdDSA", "75ac0ad2-115b-492f-8406-a5ba2dae9c53", ""},
	}
}

func TestRecordedTokens(t *testing.T) {
	t.Parallel()
	for _, r := range recordings() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			text := string(fixture(t, r.name+".jwt"))
			keySet := string(fixture(t, r.keySet+".jwks.json"))
			parsed, refusal := decodeToken(text)
			require.Nil(t, refusal)
			issued, expires := parsed.body.IssuedAt.time(), parsed.body.Expires.time()

			// verify judges the token at a time, by an issuer changed a little.
			verify := func(t *testing.T, now time.Time, text string, change func(*Issuer)) (Identity, error) {
				t.Helper()
				description := r.issuer
				change(&description)
				server := newKeyServer(t)
				server.serveText(http.StatusOK, keySet)
				v, _ := verifierOn(t, server, func() time.Time { return now }, description)
				awaitKeys(t, v)
				return v.Verify(t.Context(), text)
			}
			same := func(*Issuer) {}
			now := issued.Add(time.Minute)

			t.Run("accepted in its time", func(t *testing.T) {
				t.Parallel()
				who, err := verify(t, now, text, same)
				require.NoError(t, err)
				require.Equal(t, r.subject, who.Subject)
				require.Equal(t, r.issuer.Issuer, who.Issuer)
				require.Equal(t, r.algorithm, who.Algorithm)
				require.Equal(t, r.issuer.Audience, who.Audience)
				require.Equal(t, "authenticated", who.Role)
				require.Equal(t, r.sessionID, who.SessionID)
				require.Equal(t, issued, who.IssuedAt)
				require.Equal(t, expires, who.ExpiresAt)
				require.Equal(t, r.algorithm != "HS256", who.KeyID != "")
				require.True(t, json.Valid(who.Claims))
			})
			t.Run("refused outside of it", func(t *testing.T) {
				t.Parallel()
				for _, moment := range []struct {
					now  time.Time
					want Kind
				}{
					{issued.Add(-31 * time.Second), NotYetValid},
					{expires.Add(30 * time.Second), Expired},
					{expires.Add(365 * 24 * time.Hour), Expired},
				} {
					_, err := verify(t, moment.now, text, same)
					requireKind(t, moment.want, err)
				}
				for _, now := range []time.Time{issued.Add(-30 * time.Second), expires.Add(29 * time.Second)} {
					_, err := verify(t, now, text, same)
					require.NoError(t, err, "clocks may be 30 s apart")
				}
			})
			t.Run("refused for another audience", func(t *testing.T) {
				t.Parallel()
				_, err := verify(t, now, text, func(i *Issuer) { i.Audience = []string{"another"} })
				requireKind(t, WrongAudience, err)
			})
			t.Run("refused for another issuer", func(t *testing.T) {
				t.Parallel()
				_, err := verify(t, now, text, func(i *Issuer) { i.Issuer += "/" })
				requireKind(t, UnknownIssuer, err)
			})
			t.Run("refused with a byte changed", func(t *testing.T) {
				t.Parallel()
				server := newKeyServer(t)
				server.serveText(http.StatusOK, keySet)
				v, _ := verifierOn(t, server, func() time.Time { return now }, r.issuer)
				awaitKeys(t, v)
				const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
				for at := range len(text) {
					others := string([]byte{text[at] ^ 1, text[at] ^ 0x20, '\n', '=', 0})
					if at == len(text)-1 || text[at+1] == '.' {
						others += alphabet // some differ only in bits that base64 leaves over
					}
					for _, other := range []byte(others) {
						if other == text[at] {
							continue
						}
						tampered := []byte(text)
						tampered[at] = other
						_, err := v.Verify(t.Context(), string(tampered))
						require.Error(t, err, "byte %d as %q", at, other)
					}
				}
				_, err := v.Verify(t.Context(), text)
				require.NoError(t, err)
			})
		})
	}
}

func TestRecordedTokensMeetOtherRules(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T, name string, change func(*Issuer)) error {
		t.Helper()
		for _, r := range recordings() {
			if r.name != name {
				continue
			}
			text := string(fixture(t, r.name+".jwt"))
			parsed, refusal := decodeToken(text)
			require.Nil(t, refusal)
			server := newKeyServer(t)
			server.serveText(http.StatusOK, string(fixture(t, r.keySet+".jwks.json")))
			change(&r.issuer)
			v, _ := verifierOn(t, server, func() time.Time { return parsed.body.IssuedAt.time().Add(time.Minute) }, r.issuer)
			if r.issuer.Secret != nil || r.keySet != "supabase-hs256-legacy" { // which has no keys
				awaitKeys(t, v)
			}
			_, err := v.Verify(t.Context(), text)
			return err
		}
		require.Fail(t, "no recording "+name)
		return nil
	}

	t.Run("anonymous users where they are not wanted", func(t *testing.T) {
		t.Parallel()
		requireKind(t, Anonymous, setup(t, "supabase-es256-anonymous", func(i *Issuer) { i.Anonymous = false }))
	})
	t.Run("HS256 without the secret", func(t *testing.T) {
		t.Parallel()
		requireKind(t, WrongAlgorithm, setup(t, "supabase-hs256-legacy", func(i *Issuer) { i.Secret = nil }))
	})
	t.Run("HS256 with another secret", func(t *testing.T) {
		t.Parallel()
		requireKind(t, BadSignature, setup(t, "supabase-hs256-legacy", func(i *Issuer) { i.Secret = []byte(testSecret) }))
	})
	t.Run("an algorithm the issuer does not have", func(t *testing.T) {
		t.Parallel()
		requireKind(t, WrongAlgorithm, setup(t, "supabase-rs256", func(i *Issuer) { i.Algorithms = []string{"ES256"} }))
	})
	t.Run("no role where one is required", func(t *testing.T) {
		t.Parallel()
		requireKind(t, WrongRole, setup(t, "better-auth-vanilla", func(i *Issuer) { i.Role = "" }))
	})
}
