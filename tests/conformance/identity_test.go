package conformance_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/neon"
	"postern/service"
	"postern/service/identity"
	"postern/service/local"
	"postern/supabase"
	"postern/tests/rig"
)

// The tokens that real providers gave have expired by now. That each is accepted
// at its own time is for the tests of package identity, where the clock can be set.
func TestRecordedTokens(t *testing.T) {
	t.Parallel()
	const supabaseURL, neonOrigin = "http://127.0.0.1:58082", "http://127.0.0.1:58083"
	ofSupabase, err := supabase.Issuer(supabaseURL)
	require.NoError(t, err)
	ofNeon, err := neon.Issuer(neonOrigin + "/neondb/auth")
	require.NoError(t, err)
	withSecret := ofSupabase
	withSecret.Secret = []byte("rig-super-secret-jwt-token-with-at-least-32-characters")
	vanilla := ofNeon
	vanilla.Role = "authenticated" // its tokens have no role claim

	db := rig.NewDatabase(t)
	for _, test := range []struct {
		token, keySet string
		issuer        identity.Issuer
	}{
		{"supabase-es256", "supabase-es256", ofSupabase},
		{"supabase-es256-anonymous", "supabase-es256", ofSupabase},
		{"supabase-rs256", "supabase-rs256", ofSupabase},
		{"supabase-hs256-legacy", "supabase-hs256-legacy", withSecret},
		{"better-auth-neon", "better-auth-neon", ofNeon},
		{"better-auth-vanilla", "better-auth-vanilla", vanilla},
	} {
		t.Run(test.token, func(t *testing.T) {
			t.Parallel()
			token := strings.TrimSpace(string(rig.Fixture(t, "tokens/"+test.token+".jwt")))
			keySet := rig.Fixture(t, "tokens/"+test.keySet+".jwks.json")
			keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(keySet) }))
			t.Cleanup(keys.Close)
			test.issuer.KeySetURL = keys.URL
			s := rig.NewServiceFor(t, db, rig.DemoPolicies(t), []identity.Issuer{test.issuer})

			line := refused(t, s, token, identity.Expired, upload, credentials, older)
			require.Equal(t, test.issuer.Issuer, line.Issuer)
			parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
			require.NoError(t, err)
			keyID, _ := parsed.Header["kid"].(string)
			require.Equal(t, keyID, line.KeyID)

			tampered := token[:len(token)-4] + "AAAA"
			refused(t, s, tampered, identity.BadSignature, upload)
		})
	}
}

// Each class of refusal, as a client and an operator see it.
func TestRefusedTokens(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "ES256", "EdDSA")
	issuer, err := supabase.Issuer(p.URL)
	require.NoError(t, err)
	issuer.Anonymous = false
	s := rig.NewServiceFor(t, rig.NewDatabase(t), rig.DemoPolicies(t), []identity.Issuer{issuer})
	accepted(t, s, p.sign(t, "ES256", p.supabase(nil)))

	_, stranger := newKey(t, "ES256")
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for _, test := range []struct {
		name, token string
		want        identity.Kind
	}{
		{"Garbage", "x", identity.NotAToken},
		{"OtherIssuer", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"iss": "https://other.example.com"})), identity.UnknownIssuer},
		{"OtherKey", signWith(t, "ES256", stranger, "another-key", p.supabase(nil)), identity.UnknownKey},
		{"OtherAlgorithm", p.sign(t, "EdDSA", p.supabase(nil)), identity.WrongAlgorithm},
		{"SharedSecret", p.sign(t, "HS256", p.supabase(nil)), identity.WrongAlgorithm},
		{"Forged", signWith(t, "ES256", stranger, p.keyIDs["ES256"], p.supabase(nil)), identity.BadSignature},
		{"Expired", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"exp": in(-time.Minute)})), identity.Expired},
		{"IssuedInTheFuture", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"iat": in(time.Hour)})), identity.NotYetValid},
		{"NotBefore", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"nbf": in(time.Hour)})), identity.NotYetValid},
		{"IDTokenOfAnOAuthClient", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"aud": uuid.NewString()})), identity.WrongAudience},
		{"NoSubject", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"sub": nil})), identity.NoSubject},
		{"EmptySubject", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"sub": ""})), identity.NoSubject},
		{"NoRole", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"role": nil})), identity.WrongRole},
		{"RoleAnon", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"role": "anon"})), identity.WrongRole},
		{"RoleServiceRole", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"role": "service_role"})), identity.WrongRole},
		{"RoleNone", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"role": "none"})), identity.WrongRole},
		{"RoleOfTheLogin", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"role": "postern"})), identity.WrongRole},
		{"Anonymous", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"is_anonymous": true})), identity.Anonymous},
		{"Banned", p.sign(t, "ES256", p.supabase(jwt.MapClaims{"banned": true})), identity.Revoked},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			refused(t, s, test.token, test.want, upload, credentials, older)
		})
	}

	t.Run("None", func(t *testing.T) {
		t.Parallel()
		for _, to := range []route{upload, credentials, older} {
			answer := s.Send(t, to.method, to.path, to.body)
			require.Equal(t, http.StatusUnauthorized, answer.Status)
			require.Equal(t, "Bearer", answer.Header.Get("WWW-Authenticate"), "without an error: RFC 6750, section 3.1")
			require.Contains(t, answer.Body, "send an Authorization header")
		}
	})
}

// The credentials are the token that was presented, in both spellings, unless the
// PowerSync Service would refuse it. Uploads do not depend on that.
func TestPowerSyncCredentials(t *testing.T) {
	t.Parallel()
	p, q := newProvider(t, "ES256"), newProvider(t, "ES256")
	s := rig.ServeCommand(t, rig.NewDatabase(t),
		"POSTERN_SUBJECTS=unique", "SUPABASE_URL="+p.URL, "SUPABASE_JWT_SECRET="+string(p.secret),
		"POSTERN_ISSUER="+q.URL, "POSTERN_JWKS_URL="+q.URL+"/keys/jwks.json", "POSTERN_AUDIENCE=the-app",
		"POWERSYNC_AUDIENCE=https://powersync.example.com,the-app")
	s.AwaitReady(t)
	now := time.Now()
	living := func(d time.Duration) string {
		return q.sign(t, "ES256", q.other(jwt.MapClaims{"iat": now.Unix(), "exp": now.Add(d).Unix()}))
	}

	// A project with a shared secret gives it to the PowerSync Service, too.
	token := p.sign(t, "HS256", p.supabase(nil))
	answer, _ := call(t, s, credentials, token)
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	require.Contains(t, answer.Body, token)

	token = living(24 * time.Hour)
	answer, _ = call(t, s, credentials, token)
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	require.JSONEq(t, `{"endpoint":"https://powersync.example.com","token":"`+token+`","user_id":"`+local.UserID("alice")+`",
		"expires_at":"`+now.Add(24*time.Hour).UTC().Format(time.RFC3339)+`"}`, answer.Body)
	answer, _ = call(t, s, older, token)
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	require.JSONEq(t, `{"powersync_url":"https://powersync.example.com","powerSyncUrl":"https://powersync.example.com","userId":"`+local.UserID("alice")+`","token":"`+token+`"}`, answer.Body)
	requireSilent(t, s, token)

	for _, test := range []struct {
		name, token string
		want        []string // the mismatch, and where it is settled
	}{
		{"Lifetime", living(25 * time.Hour), []string{"25h0m0s", "24 hours at most", "at your auth provider"}},
		{"Audience", p.sign(t, "ES256", p.supabase(nil)), []string{`audience is ["authenticated"]`, "client_auth.audience", "POWERSYNC_AUDIENCE"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			accepted(t, s, test.token)
			for _, to := range []route{credentials, older} {
				answer, _ := call(t, s, to, test.token)
				require.Equal(t, http.StatusUnprocessableEntity, answer.Status, answer.Body)
				var body struct {
					Message string `json:"message"`
				}
				require.NoError(t, json.Unmarshal([]byte(answer.Body), &body))
				for _, want := range append(test.want, "postern token keygen") {
					require.Contains(t, body.Message, want)
				}
			}
			requireSilent(t, s, test.token)
		})
	}
}

// An upload may use a token for a little longer than it lives, because clocks differ. The
// PowerSync Service would refuse it, so the app must get a new one first.
func TestExpiredTokensAreNotHandedOut(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "ES256")
	s := rig.ServeCommand(t, rig.NewDatabase(t), "SUPABASE_URL="+p.URL)
	s.AwaitReady(t)
	token := p.sign(t, "ES256", p.supabase(jwt.MapClaims{"exp": time.Now().Unix() - 1}))
	accepted(t, s, token)
	refused(t, s, token, identity.Expired, credentials, older)
}

// Keys that cannot be fetched are our trouble and not the token's. They come by
// themselves once they can be, and those at hand outlive an outage.
func TestKeyServerOutage(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "ES256")
	p.down.Store(true)
	s := rig.ServeCommand(t, rig.NewDatabase(t), "SUPABASE_URL="+p.URL)
	token := p.sign(t, "ES256", p.supabase(nil))
	unavailable(t, s, token, upload)
	notReady(t, s, "the key set of "+p.URL+"/auth/v1 has not been fetched yet")
	refused(t, s, p.sign(t, "ES256", p.supabase(jwt.MapClaims{"iss": "https://other.example.com"})), identity.UnknownIssuer, upload)

	p.down.Store(false)
	accepted(t, s, token)
	s.AwaitReady(t)

	p.down.Store(true)
	accepted(t, s, token)
	unavailable(t, s, signWith(t, "ES256", p.keys["ES256"], "a-key-of-tomorrow", p.supabase(nil)), credentials)
	require.Equal(t, http.StatusOK, s.Send(t, http.MethodGet, "/readyz", "").Status)
}

// The token's iss picks the issuer, and with it the keys and the algorithms: those
// of another one say nothing.
func TestSeveralIssuers(t *testing.T) {
	t.Parallel()
	ofSupabase, ofNeon, other, stranger := newProvider(t, "ES256"), newProvider(t, "EdDSA"), newProvider(t, "ES256"), newProvider(t, "ES256")
	s := rig.ServeCommand(t, rig.NewDatabase(t), "POSTERN_SUBJECTS=unique", "SUPABASE_URL="+ofSupabase.URL, "NEON_AUTH_URL="+ofNeon.URL+"/neondb/auth",
		"POSTERN_ISSUER="+other.URL, "POSTERN_JWKS_URL="+other.URL+"/keys/jwks.json", "POSTERN_AUDIENCE=another-app, the-app")
	s.AwaitReady(t)
	accepted(t, s, ofSupabase.sign(t, "ES256", ofSupabase.supabase(nil)))
	accepted(t, s, ofNeon.sign(t, "EdDSA", ofNeon.neon(nil)))
	accepted(t, s, other.sign(t, "ES256", other.other(nil)))

	for _, test := range []struct {
		name, token string
		want        identity.Kind
	}{
		{"Stranger", stranger.sign(t, "ES256", stranger.other(nil)), identity.UnknownIssuer},
		{"SupabaseSignedByOther", other.sign(t, "ES256", ofSupabase.supabase(nil)), identity.UnknownKey},
		{"SupabaseSignedByOtherUnderItsKeyID", signWith(t, "ES256", other.keys["ES256"], ofSupabase.keyIDs["ES256"], ofSupabase.supabase(nil)), identity.BadSignature},
		{"SupabaseSignedByNeon", ofNeon.sign(t, "EdDSA", ofSupabase.supabase(nil)), identity.WrongAlgorithm},
		{"NeonSignedBySupabase", ofSupabase.sign(t, "ES256", ofNeon.neon(nil)), identity.WrongAlgorithm},
		{"OtherSignedBySupabase", ofSupabase.sign(t, "ES256", other.other(nil)), identity.UnknownKey},
		{"OtherSignedByNeon", ofNeon.sign(t, "EdDSA", other.other(nil)), identity.UnknownKey},
		{"OtherSignedBySupabaseUnderItsKeyID", signWith(t, "ES256", ofSupabase.keys["ES256"], other.keyIDs["ES256"], other.other(nil)), identity.BadSignature},
		{"SupabaseForOthersAudience", ofSupabase.sign(t, "ES256", ofSupabase.supabase(jwt.MapClaims{"aud": "the-app"})), identity.WrongAudience},
	} {
		// One by one: a kid that joins another one's fetch is only told to come again.
		t.Run(test.name, func(t *testing.T) { refused(t, s, test.token, test.want, upload) })
	}
}

// TestOneOfSeveralIssuersOutOfReach has one issuer that cannot be reached from the start.
func TestOneOfSeveralIssuersOutOfReach(t *testing.T) {
	t.Parallel()
	ofSupabase, ofNeon := newProvider(t, "ES256"), newProvider(t, "EdDSA")
	ofNeon.down.Store(true)
	s := rig.ServeCommand(t, rig.NewDatabase(t), "POSTERN_SUBJECTS=unique", "SUPABASE_URL="+ofSupabase.URL, "NEON_AUTH_URL="+ofNeon.URL+"/neondb/auth")
	s.AwaitReady(t)
	accepted(t, s, ofSupabase.sign(t, "ES256", ofSupabase.supabase(nil)))
	token := ofNeon.sign(t, "EdDSA", ofNeon.neon(nil))
	unavailable(t, s, token, upload)
	ofNeon.down.Store(false)
	accepted(t, s, token)
}

func TestAnonymousUsers(t *testing.T) {
	t.Parallel()
	ofSupabase, ofNeon := newProvider(t, "ES256"), newProvider(t, "EdDSA")
	tokens := []string{
		ofSupabase.sign(t, "ES256", ofSupabase.supabase(jwt.MapClaims{"is_anonymous": true})),
		ofNeon.sign(t, "EdDSA", ofNeon.neon(jwt.MapClaims{"isAnonymous": true})),
	}
	db := rig.NewDatabase(t)
	issuers := []string{"POSTERN_SUBJECTS=unique", "SUPABASE_URL=" + ofSupabase.URL, "NEON_AUTH_URL=" + ofNeon.URL + "/neondb/auth"}

	t.Run("AllowedByDefault", func(t *testing.T) {
		t.Parallel()
		s := rig.ServeCommand(t, db, issuers...)
		s.AwaitReady(t)
		for _, token := range tokens {
			accepted(t, s, token)
		}
	})

	t.Run("Refused", func(t *testing.T) {
		t.Parallel()
		s := rig.ServeCommand(t, db, append(slices.Clone(issuers), "POSTERN_ANONYMOUS_USERS=refuse")...)
		s.AwaitReady(t)
		for _, token := range tokens {
			refused(t, s, token, identity.Anonymous, upload, credentials, older)
		}
		accepted(t, s, ofSupabase.sign(t, "ES256", ofSupabase.supabase(nil)))
	})
}

const publishableKey = "sb_publishable_of_this_test"

// answerUser makes the stand-in for Supabase Auth answer GET /auth/v1/user.
func (p *provider) answerUser(t *testing.T, status int, body string) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("apikey") != publishableKey || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ey") {
			t.Error("the question has not both keys")
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
	p.user.Store(&handler)
}

const signedOut = `{"code":403,"error_code":"session_not_found","msg":"Session from session_id claim in JWT does not exist"}`

// SUPABASE_SESSIONS=check asks Supabase Auth, here a stand-in, about each token.
func TestSessions(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "ES256")
	s := rig.ServeCommand(t, rig.NewDatabase(t), "SUPABASE_URL="+p.URL, "SUPABASE_SESSIONS=check", "SUPABASE_PUBLISHABLE_KEY="+publishableKey)
	s.AwaitReady(t)
	session := func() string { return p.sign(t, "ES256", p.supabase(nil)) } // a new one each time

	p.answerUser(t, http.StatusOK, `{"id":"`+local.UserID("alice")+`","aud":"authenticated"}`)
	signedIn := session()
	accepted(t, s, signedIn)

	p.answerUser(t, http.StatusForbidden, signedOut)
	refused(t, s, session(), identity.Revoked, upload, credentials, older)
	accepted(t, s, signedIn) // whom it was asked about less than 30 s ago

	p.answerUser(t, http.StatusInternalServerError, `{"code":500,"msg":"Internal Server Error"}`)
	unavailable(t, s, session(), upload)
	p.answerUser(t, http.StatusTooManyRequests, `{"code":429,"msg":"Request rate limit reached"}`)
	unavailable(t, s, session(), credentials)
	p.answerUser(t, http.StatusUnauthorized, `{"message":"Invalid API key"}`)
	unavailable(t, s, session(), older)
	p.down.Store(true)
	unavailable(t, s, session(), upload)

	require.NotContains(t, s.Logs.String(), publishableKey)
}

// Legacy projects sign with a shared secret, with which the project's API keys are
// signed, too.
func TestSharedSecret(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	year := time.Now().AddDate(1, 0, 0).Unix()
	apiKey := func(p *provider, role string, more jwt.MapClaims) string {
		claims := jwt.MapClaims{"iss": "supabase", "ref": "abcdefghijklmnopqrst", "role": role, "iat": time.Now().Unix(), "exp": year}
		maps.Copy(claims, more)
		return p.sign(t, "HS256", claims)
	}

	t.Run("Known", func(t *testing.T) {
		t.Parallel()
		p := newProvider(t)
		s := rig.ServeCommand(t, db, "SUPABASE_URL="+p.URL, "SUPABASE_JWT_SECRET="+string(p.secret))
		s.AwaitReady(t)
		accepted(t, s, p.sign(t, "HS256", p.supabase(nil)))
		refused(t, s, apiKey(p, "anon", nil), identity.UnknownIssuer, upload)
		refused(t, s, apiKey(p, "service_role", nil), identity.UnknownIssuer, upload)
		own := p.URL + "/auth/v1"
		refused(t, s, apiKey(p, "service_role", jwt.MapClaims{"iss": own}), identity.WrongAudience, upload)
		refused(t, s, apiKey(p, "service_role", jwt.MapClaims{"iss": own, "aud": "authenticated"}), identity.NoSubject, upload)
		refused(t, s, apiKey(p, "service_role", jwt.MapClaims{"iss": own, "aud": "authenticated", "sub": local.UserID("alice")}), identity.WrongRole, upload)
		require.NotContains(t, s.Logs.String(), string(p.secret))
	})

	t.Run("Unknown", func(t *testing.T) {
		t.Parallel()
		p := newProvider(t)
		s := rig.ServeCommand(t, db, "SUPABASE_URL="+p.URL)
		require.Eventually(t, func() bool { return strings.Contains(s.Logs.String(), "the key set has no usable key") }, 20*time.Second, 10*time.Millisecond)
		require.Equal(t, http.StatusServiceUnavailable, s.Send(t, http.MethodGet, "/readyz", "").Status, "no token can be verified")
		refused(t, s, p.sign(t, "HS256", p.supabase(nil)), identity.WrongAlgorithm, upload)
	})

	// The stand-in for Supabase Auth judges in our place, as long as it has no keys.
	t.Run("KnownToSupabaseAlone", func(t *testing.T) {
		t.Parallel()
		p := newProvider(t)
		s := rig.ServeCommand(t, db, "SUPABASE_URL="+p.URL, "SUPABASE_PUBLISHABLE_KEY="+publishableKey)
		s.AwaitReady(t)
		p.answerUser(t, http.StatusOK, `{"id":"`+local.UserID("alice")+`","aud":"authenticated"}`)
		accepted(t, s, p.sign(t, "HS256", p.supabase(nil)))
		answer, _ := call(t, s, credentials, p.sign(t, "HS256", p.supabase(nil)))
		require.Equal(t, http.StatusUnprocessableEntity, answer.Status, answer.Body)
		require.Contains(t, answer.Body, "Rotate to an ES256 signing key")
		refused(t, s, p.sign(t, "HS256", p.supabase(jwt.MapClaims{"sub": local.UserID("bob")})), identity.Revoked, upload)
		p.answerUser(t, http.StatusForbidden, signedOut)
		refused(t, s, p.sign(t, "HS256", p.supabase(nil)), identity.Revoked, upload)
	})
}

// Without POSTERN_JWKS_URL the issuer says where its keys are.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "ES256")

	t.Run("Found", func(t *testing.T) {
		t.Parallel()
		s := rig.ServeCommand(t, rig.NewDatabase(t), "POSTERN_ISSUER="+p.URL, "POSTERN_AUDIENCE=the-app")
		s.AwaitReady(t)
		answer := s.Send(t, upload.method, upload.path,
			`{"transactions":[{"crud":[{"op":"PUT","table":"lists","id":"8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10","op_data":{"name":"Groceries"}}]}]}`,
			"Authorization", "Bearer "+p.sign(t, "ES256", p.other(nil)))
		require.Equal(t, "success", answer.Results(t)[0].Status, answer.Body)
		require.Equal(t, local.UserID("alice"), s.Database.Text(t, `select owner_id::text from lists`))
	})

	t.Run("NamesItselfOtherwise", func(t *testing.T) {
		t.Parallel()
		s := rig.ServeCommand(t, rig.NewDatabase(t), "POSTERN_ISSUER="+p.URL+"/", "POSTERN_AUDIENCE=the-app")
		unavailable(t, s, p.sign(t, "ES256", p.other(jwt.MapClaims{"iss": p.URL + "/"})), upload)
		notReady(t, s, "the key set of "+p.URL+"/ has not been fetched yet")
		require.Contains(t, s.Logs.String(), "configure the issuer exactly as it names itself")
	})
}

// Where there is nothing to give, that too must not be kept.
func TestCredentialsAreNotStored(t *testing.T) {
	t.Parallel()
	s := rig.NewService(t, rig.DemoPolicies(t), func(c *service.Config) { c.PowerSyncURL = "" })
	for _, to := range []route{credentials, older} {
		answer, _ := call(t, s, to, s.Token(t, "alice"))
		require.Equal(t, http.StatusNotImplemented, answer.Status)
	}
}
