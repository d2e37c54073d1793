package identity

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxTokenBytes = 16 << 10
	maxTime       = 253402300799 // 9999-12-31T23:59:59Z; later times do not fit in most formats
)

// token is a decoded bearer token. It is not verified yet.
type token struct {
	text      string
	head      header
	body      claims
	raw       jsontext.Value // the claims as they were sent
	signed    string         // the part of text that the signature covers
	signature []byte

	verifiedWith *keys // the key set in which the signature's key was found; nil if it is not verified
}

// header has the parameters that are read (RFC 7515, section 4.1). Parameters with keys
// or their URLs (jku, jwk, x5u, x5c) are not read, on purpose.
type header struct {
	Algorithm string         `json:"alg"`
	KeyID     *string        `json:"kid"`
	Type      string         `json:"typ"`
	Critical  jsontext.Value `json:"crit"`
}

func (h header) keyID() string {
	if h.KeyID == nil {
		return ""
	}
	return *h.KeyID
}

type claims struct {
	Issuer    string         `json:"iss"`
	Subject   *string        `json:"sub"`
	Audience  audience       `json:"aud"`
	Expires   *numericDate   `json:"exp"`
	IssuedAt  *numericDate   `json:"iat"`
	NotBefore *numericDate   `json:"nbf"`
	Role      *string        `json:"role"`
	SessionID jsontext.Value `json:"session_id"`

	// The first is Supabase's claim, the second Better Auth's.
	IsAnonymous      jsontext.Value `json:"is_anonymous"`
	IsAnonymousCamel jsontext.Value `json:"isAnonymous"`

	// Better Auth's claim. A banned user's token is refused.
	Banned jsontext.Value `json:"banned"`
}

func (c claims) anonymous() bool { return isSet(c.IsAnonymous) || isSet(c.IsAnonymousCamel) }

// isSet reports whether a flag is present and neither null nor false. Any other value
// counts as true, to be on the safe side.
func isSet(flag jsontext.Value) bool {
	kind := flag.Kind()
	return len(flag) > 0 && kind != 'n' && kind != 'f'
}

// decodeToken decodes the compact serialisation (RFC 7515, section 7.1) strictly: three
// parts of unpadded base64url, JSON objects without duplicate names, and no critical
// extensions (section 4.1.11). If it refuses a token, it returns the parts that it
// could decode, for the log.
func decodeToken(text string) (t token, refusal *Refusal) {
	malformed := func(reason string) (token, *Refusal) {
		return t, &Refusal{Kind: NotAToken, Reason: reason}
	}
	t.text = text
	if len(text) > maxTokenBytes {
		return malformed(fmt.Sprintf("longer than %d bytes", maxTokenBytes))
	}
	if strings.ContainsAny(text, "\r\n") { // base64 decoders skip them
		return malformed("line breaks")
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return malformed(fmt.Sprintf("%d parts, not 3", len(parts)))
	}
	t.signed = text[:len(parts[0])+1+len(parts[1])]
	strict := base64.RawURLEncoding.Strict()
	head, err := strict.DecodeString(parts[0])
	if err != nil || jsontext.Value(head).Kind() != '{' || json.Unmarshal(head, &t.head) != nil {
		return malformed("unreadable header")
	}
	t.raw, err = strict.DecodeString(parts[1])
	if err != nil || t.raw.Kind() != '{' {
		return malformed("unreadable claims")
	}
	if err := json.Unmarshal(t.raw, &t.body); err != nil {
		var semantic *json.SemanticError
		if errors.As(err, &semantic) {
			return malformed("claim " + truncate(semantic.JSONPointer.LastToken()) + " has a wrong type")
		}
		return malformed("unreadable claims")
	}
	if t.signature, err = strict.DecodeString(parts[2]); err != nil {
		return malformed("unreadable signature")
	}
	if t.head.Critical != nil {
		return malformed("the header has critical extensions")
	}
	if !isAccessTokenType(t.head.Type) {
		return malformed(fmt.Sprintf("typ %q is another kind of token", truncate(t.head.Type)))
	}
	return t, nil
}

// isAccessTokenType reports whether typ may be an access token's. Issuers sign other
// tokens with the same keys, such as logout tokens (RFC 8725, section 3.11).
func isAccessTokenType(typ string) bool {
	switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
	case "", "jwt", "at+jwt":
		return true
	}
	return false
}

// audience is the aud claim: a string or an array of strings.
type audience []string

func (a *audience) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == '"' {
		var one string
		err := json.UnmarshalDecode(d, &one)
		*a = audience{one}
		return err
	}
	return json.UnmarshalDecode(d, (*[]string)(a))
}

// numericDate is a time claim in seconds since 1970, which may have a fraction.
type numericDate float64

func (n *numericDate) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var seconds float64
	if err := json.UnmarshalDecode(d, &seconds); err != nil {
		return err
	}
	if seconds < 0 || seconds > maxTime {
		return errors.New("out of range")
	}
	*n = numericDate(seconds)
	return nil
}

func (n numericDate) time() time.Time {
	whole, fraction := math.Modf(float64(n))
	return time.Unix(int64(whole), int64(fraction*float64(time.Second)))
}

// truncate cuts a text of a token or an issuer to 100 bytes, for the log.
func truncate(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
