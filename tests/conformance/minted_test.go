package conformance_test

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"postern/service/identity"
	"postern/service/local"
	"postern/tests/rig"
)

// keygen makes a key as the team does.
func keygen(t *testing.T) string {
	t.Helper()
	key, err := exec.Command(rig.Command(t), "token", "keygen").Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(key))
}

// keySet is what the PowerSync Service fetches.
func keySet(t *testing.T, s *rig.Service) keyfunc.Keyfunc {
	t.Helper()
	answer := s.Send(t, http.MethodGet, "/.well-known/jwks.json", "")
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	require.Equal(t, "public, max-age=300", answer.Header.Get("Cache-Control"))
	keys, err := keyfunc.NewJWKSetJSON([]byte(answer.Body))
	require.NoError(t, err)
	return keys
}

// With a signing key, users whose token the PowerSync Service would refuse get one that it
// accepts, and only they.
func TestMintedTokens(t *testing.T) {
	t.Parallel()
	p, q := newProvider(t, "ES256"), newProvider(t, "ES256")
	key, second := keygen(t), keygen(t)
	s := rig.ServeCommand(t, rig.NewDatabase(t),
		"POSTERN_SUBJECTS=unique", "SUPABASE_URL="+p.URL, "SUPABASE_JWT_SECRET="+string(p.secret),
		"POSTERN_ISSUER="+q.URL, "POSTERN_JWKS_URL="+q.URL+"/keys/jwks.json", "POSTERN_AUDIENCE=the-app",
		"POWERSYNC_AUDIENCE=https://powersync.example.com,the-app", "POSTERN_LOG=debug",
		"POSTERN_SIGNING_KEY="+key, "POSTERN_SECOND_KEY="+second, "POSTERN_TOKEN_CLAIMS=email, org", "POSTERN_TOKEN_LIFETIME=10m")
	s.AwaitReady(t)
	keys := keySet(t, s)
	more := jwt.MapClaims{"email": "alice@example.com", "org": jwt.MapClaims{"id": 7}, "user_metadata": jwt.MapClaims{"admin": true}}
	expires := func(d time.Duration) jwt.MapClaims {
		now := time.Now()
		return with(jwt.MapClaims{"iat": now.Unix(), "exp": now.Add(d).Unix()}, more)
	}

	for _, test := range []struct {
		name   string
		token  func() string
		minted bool
		lives  time.Duration // if the token is minted: from when it was made; zero: as long as the user's own
	}{
		{"Accepted", func() string { return q.sign(t, "ES256", q.other(expires(24*time.Hour))) }, false, 0},
		{"Lifetime", func() string { return q.sign(t, "ES256", q.other(expires(25*time.Hour))) }, true, 10 * time.Minute},
		{"Audience", func() string { return p.sign(t, "ES256", p.supabase(more)) }, true, 10 * time.Minute},
		{"SharedSecret", func() string { return p.sign(t, "HS256", p.supabase(more)) }, true, 10 * time.Minute},
		{"NeverLongerThanTheirOwn", func() string { return p.sign(t, "HS256", p.supabase(expires(9*time.Minute))) }, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			own := test.token()
			var got struct {
				Endpoint  string    `json:"endpoint"`
				Token     string    `json:"token"`
				ExpiresAt time.Time `json:"expires_at"`
				UserID    string    `json:"user_id"`
				Minted    bool      `json:"minted"`
			}
			answer, _ := call(t, s, credentials, own)
			require.Equal(t, http.StatusOK, answer.Status, answer.Body)
			require.NoError(t, json.Unmarshal([]byte(answer.Body), &got))
			require.Equal(t, test.minted, got.Minted)
			require.Equal(t, !test.minted, got.Token == own)
			require.Equal(t, local.UserID("alice"), got.UserID)
			requireSilent(t, s, own)
			requireSilent(t, s, got.Token)
			if !test.minted {
				require.Equal(t, expiry(t, own), got.ExpiresAt.Unix())
				return
			}
			parsed, err := jwt.Parse(got.Token, keys.Keyfunc, jwt.WithAudience("the-app"), jwt.WithSubject(got.UserID), jwt.WithExpirationRequired())
			require.NoError(t, err)
			require.Equal(t, "ES256", parsed.Method.Alg())
			claims := parsed.Claims.(jwt.MapClaims)
			require.Equal(t, expiry(t, got.Token), got.ExpiresAt.Unix())
			if test.lives == 0 {
				require.Equal(t, expiry(t, own), got.ExpiresAt.Unix())
			} else {
				require.InDelta(t, test.lives.Seconds(), claims["exp"].(float64)-claims["iat"].(float64), 0)
			}
			require.Equal(t, "alice@example.com", claims["email"])
			require.Equal(t, map[string]any{"id": 7.0}, claims["org"])
			require.Contains(t, []any{p.URL + "/auth/v1", q.URL}, claims["iss"], "a sync stream knows a user by iss and sub")
			for _, name := range []string{"role", "session_id", "user_metadata"} {
				require.NotContains(t, claims, name)
			}

			// It is for reading, and lets nobody write or get another one.
			refused(t, s, got.Token, identity.NotAToken, upload, credentials, older)

			answer, _ = call(t, s, older, own)
			require.Equal(t, http.StatusOK, answer.Status, answer.Body)
			require.NotContains(t, answer.Body, own)
		})
	}

	t.Run("Expired", func(t *testing.T) {
		t.Parallel()
		token := p.sign(t, "HS256", p.supabase(jwt.MapClaims{"exp": time.Now().Unix() - 1}))
		accepted(t, s, token)
		refused(t, s, token, identity.Expired, credentials, older)
	})

	t.Run("Log", func(t *testing.T) {
		t.Parallel()
		require.Contains(t, s.Logs.String(), "tokens are minted for users whose own token the PowerSync Service does not accept")
		for _, jwk := range []string{key, second} {
			var private struct {
				D string `json:"d"`
			}
			require.NoError(t, json.Unmarshal([]byte(jwk), &private))
			require.NotEmpty(t, private.D)
			require.NotContains(t, s.Logs.String(), private.D)
		}
	})
}

// expiry is the exp of a token.
func expiry(t *testing.T, token string) int64 {
	t.Helper()
	var claims jwt.RegisteredClaims
	_, _, err := jwt.NewParser().ParseUnverified(token, &claims)
	require.NoError(t, err)
	return claims.ExpiresAt.Unix()
}

// TestSigningKeyRotation changes the key as README.md says: no token that was minted
// before or after a step is without its key.
func TestSigningKeyRotation(t *testing.T) {
	t.Parallel()
	p, db := newProvider(t), rig.NewDatabase(t)
	signed := p.sign(t, "HS256", p.supabase(nil))
	step := func(settings ...string) (token string, keys keyfunc.Keyfunc) {
		s := rig.ServeCommand(t, db, append(settings, "SUPABASE_URL="+p.URL, "SUPABASE_JWT_SECRET="+string(p.secret))...)
		s.AwaitReady(t)
		answer, _ := call(t, s, older, signed)
		var got struct {
			Token string `json:"token"`
		}
		require.NoError(t, json.Unmarshal([]byte(answer.Body), &got), answer.Body)
		return got.Token, keySet(t, s)
	}
	valid := func(token string, keys keyfunc.Keyfunc) bool {
		_, err := jwt.Parse(token, keys.Keyfunc, jwt.WithAudience("https://powersync.example.com"))
		return err == nil
	}
	last, next := keygen(t), keygen(t)

	atFirst, keysAtFirst := step("POSTERN_SIGNING_KEY=" + last)
	published, keysWithNext := step("POSTERN_SIGNING_KEY="+last, "POSTERN_SECOND_KEY="+next)
	changed, keysWithLast := step("POSTERN_SIGNING_KEY="+next, "POSTERN_SECOND_KEY="+publicHalf(t, last))
	atLast, keysAtLast := step("POSTERN_SIGNING_KEY=" + next)

	for _, keys := range []keyfunc.Keyfunc{keysAtFirst, keysWithNext, keysWithLast} {
		require.True(t, valid(atFirst, keys))
		require.True(t, valid(published, keys))
	}
	for _, keys := range []keyfunc.Keyfunc{keysWithNext, keysWithLast, keysAtLast} {
		require.True(t, valid(changed, keys))
		require.True(t, valid(atLast, keys))
	}
	require.False(t, valid(changed, keysAtFirst), "so the next key is published first")
	require.False(t, valid(published, keysAtLast), "so the last key stays for as long as its tokens live")
}

// publicHalf is a JWK without its private half.
func publicHalf(t *testing.T, jwk string) string {
	t.Helper()
	var members map[string]string
	require.NoError(t, json.Unmarshal([]byte(jwk), &members))
	delete(members, "d")
	public, err := json.Marshal(members)
	require.NoError(t, err)
	return string(public)
}

// Without a signing key there is no key set.
func TestNoKeySet(t *testing.T) {
	t.Parallel()
	s := rig.NewService(t, rig.DemoPolicies(t))
	require.Equal(t, http.StatusNotFound, s.Send(t, http.MethodGet, "/.well-known/jwks.json", "").Status)
}
