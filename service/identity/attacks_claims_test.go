package identity

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var attacksOnTheClaims = []attack{
	{"no iss", UnknownIssuer, func(x *target) string { return x.with(map[string]any{"iss": nil}) }},
	{"iss null", UnknownIssuer, func(x *target) string { return x.claim("iss", `null`) }},
	{"iss of another type", NotAToken, func(x *target) string { return x.with(map[string]any{"iss": []string{testIssuer}}) }},
	{"iss with a slash", UnknownIssuer, func(x *target) string { return x.with(map[string]any{"iss": testIssuer + "/"}) }},
	{"iss in capitals", UnknownIssuer, func(x *target) string { return x.with(map[string]any{"iss": "HTTPS://issuer.example.com"}) }},
	{"iss that looks alike", UnknownIssuer, func(x *target) string { return x.with(map[string]any{"iss": "https://\u0456ssuer.example.com"}) }},
	{"iss nobody configured", UnknownIssuer, func(x *target) string { return x.with(map[string]any{"iss": "https://attacker.example.com"}) }},

	{"no aud", WrongAudience, func(x *target) string { return x.with(map[string]any{"aud": nil}) }},
	{"aud null", WrongAudience, func(x *target) string { return x.claim("aud", `null`) }},
	{"aud of an OAuth client", WrongAudience, func(x *target) string { return x.with(map[string]any{"aud": "client-1"}) }},
	{"aud of others", WrongAudience, func(x *target) string { return x.with(map[string]any{"aud": []string{"a", "b"}}) }},
	{"aud empty", WrongAudience, func(x *target) string { return x.with(map[string]any{"aud": ""}) }},
	{"aud an empty array", WrongAudience, func(x *target) string { return x.with(map[string]any{"aud": []string{}}) }},
	{"aud a number", NotAToken, func(x *target) string { return x.with(map[string]any{"aud": 1}) }},
	{"aud an object", NotAToken, func(x *target) string { return x.with(map[string]any{"aud": map[string]any{testAudience: true}}) }},
	{"aud nested", NotAToken, func(x *target) string { return x.with(map[string]any{"aud": []any{[]any{testAudience}}}) }},
	{"aud with a prefix", WrongAudience, func(x *target) string { return x.with(map[string]any{"aud": testAudience + "2"}) }},

	{"no exp", NotAToken, func(x *target) string { return x.with(map[string]any{"exp": nil}) }},
	{"exp null", NotAToken, func(x *target) string { return x.claim("exp", `null`) }},
	{"exp a string", NotAToken, func(x *target) string { return x.claim("exp", `"99999999999"`) }},
	{"exp negative", NotAToken, func(x *target) string { return x.claim("exp", `-1`) }},
	{"exp negative zero", Expired, func(x *target) string { return x.claim("exp", `-0`) }},
	{"exp beyond 2^53", NotAToken, func(x *target) string { return x.claim("exp", `9007199254740993`) }},
	{"exp beyond 2^63", NotAToken, func(x *target) string { return x.claim("exp", `9223372036854775808`) }},
	{"exp beyond a double", NotAToken, func(x *target) string { return x.claim("exp", `1e400`) }},
	{"exp in milliseconds", NotAToken, func(x *target) string { return x.with(map[string]any{"exp": x.now.Add(time.Hour).UnixMilli()}) }},
	{"exp not a number", NotAToken, func(x *target) string { return x.claim("exp", `NaN`) }},
	{"exp true", NotAToken, func(x *target) string { return x.claim("exp", `true`) }},
	{"exp an array", NotAToken, func(x *target) string { return x.claim("exp", `[99999999999]`) }},
	{"exp a fraction too late", Expired, func(x *target) string { return x.with(map[string]any{"exp": float64(x.now.Unix()) - 30.5}) }},
	{"exp passed", Expired, func(x *target) string { return x.with(map[string]any{"exp": x.now.Add(-30 * time.Second).Unix()}) }},
	{"no iat", NotAToken, func(x *target) string { return x.with(map[string]any{"iat": nil}) }},
	{"iat in the future", NotYetValid, func(x *target) string { return x.with(map[string]any{"iat": x.now.Add(31 * time.Second).Unix()}) }},
	{"iat a string", NotAToken, func(x *target) string { return x.claim("iat", `"1"`) }},
	{"nbf in the future", NotYetValid, func(x *target) string { return x.with(map[string]any{"nbf": x.now.Add(31 * time.Second).Unix()}) }},
	{"nbf a string", NotAToken, func(x *target) string { return x.claim("nbf", `"1"`) }},

	{"no sub", NoSubject, func(x *target) string { return x.with(map[string]any{"sub": nil}) }},
	{"sub null", NoSubject, func(x *target) string { return x.claim("sub", `null`) }},
	{"sub empty", NoSubject, func(x *target) string { return x.with(map[string]any{"sub": ""}) }},
	{"sub blank", NoSubject, func(x *target) string { return x.with(map[string]any{"sub": " \t\u00a0"}) }},
	{"sub a number", NotAToken, func(x *target) string { return x.claim("sub", `1`) }},
	{"sub an object", NotAToken, func(x *target) string { return x.claim("sub", `{}`) }},
	{"sub with NUL", NoSubject, func(x *target) string { return x.with(map[string]any{"sub": "a\x00b"}) }},

	{"no role", WrongRole, func(x *target) string { return x.with(map[string]any{"role": nil}) }},
	{"role null", WrongRole, func(x *target) string { return x.claim("role", `null`) }},
	{"role empty", WrongRole, func(x *target) string { return x.with(map[string]any{"role": ""}) }},
	{"role a number", NotAToken, func(x *target) string { return x.claim("role", `1`) }},
	{"role an array", NotAToken, func(x *target) string { return x.claim("role", `["authenticated"]`) }},
	{"role anon", WrongRole, func(x *target) string { return x.with(map[string]any{"role": "anon"}) }},
	{"role service_role", WrongRole, func(x *target) string { return x.with(map[string]any{"role": "service_role"}) }},
	{"role none", WrongRole, func(x *target) string { return x.with(map[string]any{"role": "none"}) }},
	{"role of the login", WrongRole, func(x *target) string { return x.with(map[string]any{"role": "postern"}) }},
	{"role postgres", WrongRole, func(x *target) string { return x.with(map[string]any{"role": "postgres"}) }},
	{"role in capitals", WrongRole, func(x *target) string { return x.with(map[string]any{"role": "Authenticated"}) }},
	{"role with a space", WrongRole, func(x *target) string { return x.with(map[string]any{"role": "authenticated "}) }},
	{"role with NUL", WrongRole, func(x *target) string { return x.with(map[string]any{"role": "authenticated\x00"}) }},
	{"role that looks alike", WrongRole, func(x *target) string { return x.with(map[string]any{"role": "\u0430uthenticated"}) }},
	{"role decomposed", WrongRole, func(x *target) string { return x.with(map[string]any{"role": "authenticate\u0064\u0301"}) }},
	{"a banned user", Revoked, func(x *target) string { return x.with(map[string]any{"banned": true}) }},
}

// Anonymous users are known by Supabase's claim and by Better Auth's; a value
// that is neither yes nor no is a yes.
func TestAnonymousUsersAreRefusedWhereTheyAreNotWanted(t *testing.T) {
	t.Parallel()
	for _, body := range []map[string]any{
		{"is_anonymous": true}, {"isAnonymous": true}, {"is_anonymous": "false"}, {"is_anonymous": 0}, {"isAnonymous": []any{}},
	} {
		t.Run(asJSON(t, body), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				key := newSigner(t, "ES256", "ec-1")
				description := testDescription()
				description.Anonymous = false
				v, _ := verifierOn(t, newKeyServer(t, key.jwk(t, nil)), nil, description)
				awaitKeys(t, v)
				_, err := v.Verify(t.Context(), key.token(t, time.Now(), nil, body))
				requireKind(t, Anonymous, err)
				_, err = v.Verify(t.Context(), key.token(t, time.Now(), nil, nil))
				require.NoError(t, err)
			})
		})
	}
}

func TestBearerToken(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"Bearer a.b.c": "a.b.c", "bearer a.b.c": "a.b.c", "BEARER   a.b.c ": "a.b.c",
		"": "", "Bearer": "", "Bearer ": "", "a.b.c": "", "Basic YTpi": "", "Bearera.b.c": "", "Bearer\ta.b.c": "",
		"Bearer a.b.c, Bearer d.e.f": "a.b.c, Bearer d.e.f", // which is no token
	} {
		require.Equal(t, want, BearerToken(header), "%q", header)
	}
}
