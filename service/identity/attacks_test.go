package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// target is what the attacks are made on: an issuer with an elliptic-curve and
// an RSA key, another one beside it, and an older one with a shared secret.
type target struct {
	testing.TB
	now              time.Time
	server           *keyServer
	verifier         *Verifier
	honest, rsa      signer // the issuer's keys
	other            signer // another issuer's key
	legacy           signer // the older issuer's secret
	published        signer // a key that the older issuer has besides
	attacker         signer
	otherIss, oldIss string
}

func newTarget(t testing.TB) *target {
	x := &target{
		TB: t, now: time.Now(), otherIss: "https://other.example.com", oldIss: "https://old.example.com",
		honest: newSigner(t, "ES256", "ec-1"), rsa: newSigner(t, "RS256", "rsa-1"), other: newSigner(t, "EdDSA", "ed-1"),
		legacy: newSigner(t, "HS256", "secret-1"), published: newSigner(t, "ES256", "old-1"), attacker: newSigner(t, "ES256", "attacker-1"),
	}
	x.server = newKeyServer(t)
	sets := map[string][]any{
		"issuer.example.com": {x.honest.jwk(t, nil), x.rsa.jwk(t, nil)},
		"other.example.com":  {x.other.jwk(t, nil)},
		"old.example.com":    {x.published.jwk(t, nil)},
	}
	x.server.serve(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": sets[r.Host]})
	})
	main, other, old := testDescription(), testDescription(), testDescription()
	other.Issuer, other.KeySetURL = x.otherIss, x.otherIss+"/jwks.json"
	old.Issuer, old.KeySetURL, old.Secret = x.oldIss, x.oldIss+"/jwks.json", []byte(testSecret)
	x.verifier, _ = verifierOn(t, x.server, nil, main, other, old)
	awaitKeys(t, x.verifier)
	return x
}

// with is a token that is honest but for changes to its claims.
func (x *target) with(changes map[string]any) string {
	return x.honest.token(x, x.now, nil, changes)
}

// claim is a token whose one claim is written in another way.
func (x *target) claim(name, value string) string {
	body := strings.TrimSuffix(asJSON(x, honest(x.now, map[string]any{name: nil})), "}") + `,"` + name + `":` + value + `}`
	return x.honest.raw(x, asJSON(x, x.honest.header(nil)), body)
}

// header is a token of the honest key whose header has been changed.
func (x *target) header(changes map[string]any) string {
	return x.honest.token(x, x.now, changes, nil)
}

// keyed is an HS256 token signed with what is no secret.
func (x *target) keyed(secret []byte, kid any, iss string) string {
	s := signer{alg: "HS256", private: secret}
	return s.token(x, x.now, map[string]any{"kid": kid}, map[string]any{"iss": iss})
}

// resigned swaps the signature of an honest token.
func (x *target) resigned(signature []byte) string {
	text := x.with(nil)
	return text[:strings.LastIndexByte(text, '.')+1] + base64.RawURLEncoding.EncodeToString(signature)
}

type attack struct {
	name  string
	want  Kind
	token func(x *target) string
}

var attacksOnTheAlgorithm = []attack{
	{"alg none without a signature", WrongAlgorithm, func(x *target) string {
		return b64(`{"alg":"none","kid":"ec-1"}`) + "." + b64(asJSON(x, honest(x.now, nil))) + "."
	}},
	{"alg nOnE", WrongAlgorithm, func(x *target) string { return x.header(map[string]any{"alg": "nOnE"}) }},
	{"alg none with a signature", WrongAlgorithm, func(x *target) string { return x.header(map[string]any{"alg": "none"}) }},
	{"no alg", WrongAlgorithm, func(x *target) string { return x.header(map[string]any{"alg": nil}) }},
	{"alg of another type", NotAToken, func(x *target) string { return x.header(map[string]any{"alg": []string{"ES256"}}) }},
	{"alg in lower case", WrongAlgorithm, func(x *target) string { return x.header(map[string]any{"alg": "es256"}) }},
	{"alg with a space", WrongAlgorithm, func(x *target) string { return x.header(map[string]any{"alg": "ES256 "}) }},
	{"alg with a NUL", WrongAlgorithm, func(x *target) string { return x.header(map[string]any{"alg": "ES256\x00"}) }},
	{"alg name in other letters", WrongAlgorithm, func(x *target) string { return x.header(map[string]any{"alg": nil, "ALG": "ES256"}) }},
	{"alg that is not the key's curve", WrongAlgorithm, func(x *target) string { return x.header(map[string]any{"alg": "ES384"}) }},
	{"alg of another kind of key", WrongAlgorithm, func(x *target) string { return x.header(map[string]any{"alg": "RS256"}) }},
	{"alg that differs from an RSA key's", WrongAlgorithm, func(x *target) string {
		return signer{alg: "RS512", kid: x.rsa.kid, private: x.rsa.private}.token(x, x.now, nil, nil)
	}},
	{"PS256 with the RSA key", WrongAlgorithm, func(x *target) string {
		return signer{alg: "PS256", kid: x.rsa.kid, private: x.rsa.private}.token(x, x.now, nil, nil)
	}},
	{"HS256 signed with the public key as PEM", WrongAlgorithm, func(x *target) string {
		return x.keyed(pemOf(x, x.rsa), nil, testIssuer)
	}},
	{"HS256 signed with the public key and its kid", WrongAlgorithm, func(x *target) string {
		return x.keyed(pemOf(x, x.rsa), x.rsa.kid, testIssuer)
	}},
	{"HS256 signed with the public key where HS256 is on", BadSignature, func(x *target) string {
		return x.keyed(pemOf(x, x.published), nil, x.oldIss)
	}},
	{"HS256 signed with the published JWK where HS256 is on", WrongAlgorithm, func(x *target) string {
		return x.keyed([]byte(asJSON(x, x.published.jwk(x, nil))), x.published.kid, x.oldIss)
	}},
	{"HS256 with the secret and the kid of a public key", WrongAlgorithm, func(x *target) string {
		return x.keyed([]byte(testSecret), x.published.kid, x.oldIss)
	}},
	{"HS256 with the secret of another issuer", WrongAlgorithm, func(x *target) string {
		return x.keyed([]byte(testSecret), nil, testIssuer)
	}},
	{"HS256 signed with nothing", BadSignature, func(x *target) string { return x.keyed([]byte{}, nil, x.oldIss) }},
	{"HS512 with the secret", WrongAlgorithm, func(x *target) string {
		return signer{alg: "HS512", private: []byte(testSecret)}.token(x, x.now, map[string]any{"kid": nil}, map[string]any{"iss": x.oldIss})
	}},
	{"the anon API key", UnknownIssuer, func(x *target) string { return apiKey(x, "supabase", "anon") }},
	{"the service_role API key", UnknownIssuer, func(x *target) string { return apiKey(x, "supabase", "service_role") }},
	{"an anon API key of the issuer's name", WrongAudience, func(x *target) string { return apiKey(x, x.oldIss, "anon") }},
	{"a service_role API key of the issuer's name", WrongAudience, func(x *target) string { return apiKey(x, x.oldIss, "service_role") }},
}

var attacksOnTheKey = []attack{
	{"no kid", UnknownKey, func(x *target) string { return x.header(map[string]any{"kid": nil}) }},
	{"an empty kid", UnknownKey, func(x *target) string { return x.header(map[string]any{"kid": ""}) }},
	{"kid as a number", NotAToken, func(x *target) string { return x.header(map[string]any{"kid": 1}) }},
	{"kid as a path", UnknownKey, func(x *target) string { return x.header(map[string]any{"kid": "../../dev/null"}) }},
	{"kid that nobody has", UnknownKey, func(x *target) string { return x.attacker.token(x, x.now, nil, nil) }},
	{"kid of another issuer", UnknownKey, func(x *target) string { return x.other.token(x, x.now, nil, nil) }},
	{"another issuer's token under this one's kid", WrongAlgorithm, func(x *target) string {
		return x.other.token(x, x.now, map[string]any{"kid": x.honest.kid}, nil)
	}},
	{"this issuer's key for another issuer", UnknownKey, func(x *target) string { return x.with(map[string]any{"iss": x.otherIss}) }},
	{"the attacker's key under an honest kid", BadSignature, func(x *target) string {
		return x.attacker.token(x, x.now, map[string]any{"kid": x.honest.kid}, nil)
	}},
	{"jwk brings the attacker's key", UnknownKey, func(x *target) string {
		return x.attacker.token(x, x.now, map[string]any{"jwk": x.attacker.jwk(x, nil)}, nil)
	}},
	{"jwk brings the attacker's key under an honest kid", BadSignature, func(x *target) string {
		return x.attacker.token(x, x.now, map[string]any{"kid": x.honest.kid, "jwk": x.attacker.jwk(x, map[string]any{"kid": x.honest.kid})}, nil)
	}},
	{"jku points at the attacker", BadSignature, func(x *target) string {
		return x.attacker.token(x, x.now, map[string]any{"kid": x.honest.kid, "jku": "https://attacker.example.com/jwks.json"}, nil)
	}},
	{"x5u points at the attacker", BadSignature, func(x *target) string {
		return x.attacker.token(x, x.now, map[string]any{"kid": x.honest.kid, "x5u": "https://attacker.example.com/cert.pem"}, nil)
	}},
	{"x5c brings a certificate", BadSignature, func(x *target) string {
		return x.attacker.token(x, x.now, map[string]any{"kid": x.honest.kid, "x5c": []string{"MIIB"}}, nil)
	}},
	{"the signature of another token", BadSignature, func(x *target) string {
		one, another := x.with(nil), x.with(map[string]any{"sub": "another"})
		return one[:strings.LastIndexByte(one, '.')] + another[strings.LastIndexByte(another, '.'):]
	}},
	{"no signature", BadSignature, func(x *target) string { return x.resigned(nil) }},
	{"a signature of zeros", BadSignature, func(x *target) string { return x.resigned(make([]byte, 64)) }},
	{"a signature too short", BadSignature, func(x *target) string { return x.resigned(make([]byte, 63)) }},
	{"a signature in ASN.1", BadSignature, func(x *target) string {
		text := x.with(nil)
		sum := sha256.Sum256([]byte(text[:strings.LastIndexByte(text, '.')]))
		signature, err := ecdsa.SignASN1(rand.Reader, x.honest.private.(*ecdsa.PrivateKey), sum[:])
		require.NoError(x, err)
		return x.resigned(signature)
	}},
}

var attacksOnTheForm = []attack{
	{"nothing", Missing, func(*target) string { return "" }},
	{"dots", NotAToken, func(*target) string { return ".." }},
	{"critical extension", NotAToken, func(x *target) string { return x.header(map[string]any{"crit": []string{"exp"}, "exp": 1}) }},
	{"unencoded payload", NotAToken, func(x *target) string { return x.header(map[string]any{"crit": []string{"b64"}, "b64": false}) }},
	{"no critical extensions in a list", NotAToken, func(x *target) string { return x.header(map[string]any{"crit": []string{}}) }},
	{"two signatures", NotAToken, func(x *target) string { return x.with(nil) + "." + b64("another") }},
	{"two signatures in JSON", NotAToken, func(x *target) string {
		parts := strings.Split(x.with(nil), ".")
		one := map[string]any{"protected": parts[0], "signature": parts[2]}
		return asJSON(x, map[string]any{"payload": parts[1], "signatures": []any{one, one}})
	}},
	{"a JWE", NotAToken, func(x *target) string {
		return b64(`{"alg":"RSA-OAEP","enc":"A256GCM","kid":"rsa-1"}`) + "." + b64("key") + "." + b64("iv") + "." + b64("text") + "." + b64("tag")
	}},
	{"64 kB", NotAToken, func(x *target) string { return x.with(map[string]any{"padding": strings.Repeat("a", 64<<10)}) }},
	{"a space before", NotAToken, func(x *target) string { return " " + x.with(nil) }},
	{"a space behind", NotAToken, func(x *target) string { return x.with(nil) + " " }},
	{"a line break behind", NotAToken, func(x *target) string { return x.with(nil) + "\n" }},
	{"a line break inside", NotAToken, func(x *target) string { return strings.Replace(x.with(nil), ".", "\r\n.", 1) }},
	{"padding", NotAToken, func(x *target) string { return x.with(nil) + "==" }},
	{"the other base64 alphabet", NotAToken, func(x *target) string {
		return strings.NewReplacer("-", "+", "_", "/").Replace(x.with(map[string]any{"x": "???>>>???>>>"}))
	}},
	{"two tokens", NotAToken, func(x *target) string { return x.with(nil) + "," + x.with(nil) }},
	{"header that is no object", NotAToken, func(x *target) string { return x.honest.raw(x, `"ES256"`, asJSON(x, honest(x.now, nil))) }},
	{"header null", NotAToken, func(x *target) string { return x.honest.raw(x, `null`, asJSON(x, honest(x.now, nil))) }},
	{"header with more behind it", NotAToken, func(x *target) string {
		return x.honest.raw(x, `{"alg":"ES256","kid":"ec-1"}{}`, asJSON(x, honest(x.now, nil)))
	}},
	{"alg twice", NotAToken, func(x *target) string {
		return x.honest.raw(x, `{"alg":"none","alg":"ES256","kid":"ec-1"}`, asJSON(x, honest(x.now, nil)))
	}},
	{"kid twice, once escaped", NotAToken, func(x *target) string {
		return x.honest.raw(x, `{"alg":"ES256","kid":"ec-1","\u006bid":"ec-1"}`, asJSON(x, honest(x.now, nil)))
	}},
	{"a logout token", NotAToken, func(x *target) string { return x.header(map[string]any{"typ": "logout+jwt"}) }},
	{"claims that are no object", NotAToken, func(x *target) string { return x.honest.raw(x, asJSON(x, x.honest.header(nil)), `[]`) }},
	{"claims with more behind them", NotAToken, func(x *target) string {
		return x.honest.raw(x, asJSON(x, x.honest.header(nil)), asJSON(x, honest(x.now, nil))+`{}`)
	}},
	{"claims in invalid UTF-8", NotAToken, func(x *target) string { return x.claim("sub", "\"a\xff\"") }},
	{"claims with half a surrogate", NotAToken, func(x *target) string { return x.claim("sub", `"a\ud800"`) }},
	{"sub twice", NotAToken, func(x *target) string { return x.claim("x", `1,"sub":"another"`) }},
	{"role twice, once escaped", NotAToken, func(x *target) string { return x.claim("x", `1,"r\u006fle":"service_role"`) }},
	{"duplicates deep inside", NotAToken, func(x *target) string { return x.claim("app_metadata", `{"a":{"b":1,"b":2}}`) }},
}

func pemOf(t testing.TB, s signer) []byte {
	der, err := x509.MarshalPKIXPublicKey(s.public())
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// apiKey is a legacy Supabase API key: signed with the shared secret, without
// sub and aud.
func apiKey(x *target, iss, role string) string {
	return x.legacy.token(x, x.now, map[string]any{"kid": nil},
		map[string]any{"iss": iss, "role": role, "sub": nil, "aud": nil, "exp": x.now.AddDate(10, 0, 0).Unix()})
}

func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, group := range []struct {
		name    string
		attacks []attack
	}{
		{"algorithm", attacksOnTheAlgorithm},
		{"key", attacksOnTheKey},
		{"form", attacksOnTheForm},
		{"claims", attacksOnTheClaims},
	} {
		for _, a := range group.attacks {
			t.Run(group.name+"/"+a.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					x := newTarget(t)
					text := a.token(x)
					_, err := x.verifier.Verify(t.Context(), text)
					refusal := requireKind(t, a.want, err)
					for part := range strings.SplitSeq(text, ".") {
						if len(part) > 20 {
							require.NotContains(t, refusal.Error()+refusal.Issuer+refusal.KeyID, part)
						}
					}
					for _, address := range x.server.requests() {
						require.Contains(t, []string{"issuer.example.com/jwks.json", "other.example.com/jwks.json", "old.example.com/jwks.json"}, address)
					}
				})
			})
		}
	}
}

// What looks odd and is allowed: the controls of the table of attacks.
func TestHonestTokens(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]func(x *target) string{
		"plain":                           func(x *target) string { return x.with(nil) },
		"RSA":                             func(x *target) string { return x.rsa.token(x, x.now, nil, nil) },
		"another issuer":                  func(x *target) string { return x.other.token(x, x.now, nil, map[string]any{"iss": x.otherIss}) },
		"HS256 where it is on":            func(x *target) string { return x.keyed([]byte(testSecret), nil, x.oldIss) },
		"HS256 with the secret's own kid": func(x *target) string { return x.keyed([]byte(testSecret), "secret-1", x.oldIss) },
		"a key where HS256 is on":         func(x *target) string { return x.published.token(x, x.now, nil, map[string]any{"iss": x.oldIss}) },
		"no typ":                          func(x *target) string { return x.header(map[string]any{"typ": nil}) },
		"typ of access tokens":            func(x *target) string { return x.header(map[string]any{"typ": "application/AT+JWT"}) },
		"unknown header parameters":       func(x *target) string { return x.header(map[string]any{"b64": true, "ALG": "none"}) },
		"spaces in the JSON": func(x *target) string {
			return x.honest.raw(x, "\t{ \"alg\" : \"ES256\", \"kid\" : \"ec-1\" }\n", " "+asJSON(x, honest(x.now, nil)))
		},
		"audience among others": func(x *target) string { return x.with(map[string]any{"aud": []string{"another", testAudience}}) },
		"times with fractions": func(x *target) string {
			return x.with(map[string]any{"iat": float64(x.now.Unix()) - 0.5, "exp": float64(x.now.Unix()) + 60.25})
		},
		"nbf that has come":  func(x *target) string { return x.with(map[string]any{"nbf": x.now.Unix()}) },
		"an anonymous user":  func(x *target) string { return x.with(map[string]any{"is_anonymous": true}) },
		"flags that are off": func(x *target) string { return x.claim("is_anonymous", `null,"isAnonymous":false,"banned":false`) },
		"no session":         func(x *target) string { return x.with(map[string]any{"session_id": nil}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				x := newTarget(t)
				who, err := x.verifier.Verify(t.Context(), token(x))
				require.NoError(t, err)
				require.Equal(t, "authenticated", who.Role)
				require.Equal(t, "8d7eaece-f329-4661-a3d0-cabe96fac66a", who.Subject)
			})
		})
	}
}
