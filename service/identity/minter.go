package identity

import (
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// MinTokenLifetime is the shortest lifetime of a minted token: PowerSync's SDKs fetch the
// next one half a minute before it expires.
const MinTokenLifetime = time.Minute

// Minting says how tokens for the PowerSync Service are made.
type Minting struct {
	Keys     []SigningKey  // all are published; the first signs, so it has its private half
	Audience []string      // the aud claim
	Lifetime time.Duration // from MinTokenLifetime to MaxTokenLifetime
	Claims   []string      // the user's claims that are copied; none of ReservedClaims
}

// mintedType is the typ of minted tokens. The PowerSync Service does not look at it.
const mintedType = "powersync+jwt"

// ReservedClaims are those that the Minter sets or leaves out.
var ReservedClaims = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}

// Minter makes tokens for the PowerSync Service, for users whose own tokens it does not
// accept. It is safe for concurrent use.
//
// A minted token has the iss and the sub of the user's own, because a user is known by
// both. Its typ is mintedType, and no Verifier accepts that (RFC 8725, section 3.11). So
// whatever issuers are configured, it reads, and cannot write.
type Minter struct {
	minting Minting
	keySet  []byte
}

// NewMinter returns a Minter.
func NewMinter(m Minting) (*Minter, error) {
	set, err := publish(m.Keys)
	return &Minter{m, set}, err
}

// KeySet is the JWK set that verifies minted tokens.
func (m *Minter) KeySet() []byte { return slices.Clone(m.keySet) }

// Audience is the aud claim of the tokens.
func (m *Minter) Audience() []string { return slices.Clone(m.minting.Audience) }

// KeyIDs are the kids of the key set; the first is that of new tokens.
func (m *Minter) KeyIDs() (ids []string) {
	for _, key := range m.minting.Keys {
		ids = append(ids, key.ID)
	}
	return ids
}

// Mint returns a token for a user who was verified, and when it expires. That is never
// after the user's own token does, so a minted token does not prolong a session. The
// error is a *Refusal if the user's token has expired.
func (m *Minter) Mint(who Identity, now time.Time) (token string, expires time.Time, err error) {
	expires = now.Add(m.minting.Lifetime)
	if who.ExpiresAt.Before(expires) {
		expires = who.ExpiresAt
	}
	if expires = expires.Truncate(time.Second); !now.Before(expires) {
		return "", time.Time{}, &Refusal{Kind: Expired, Issuer: who.Issuer, KeyID: who.KeyID}
	}
	var theirs map[string]jsontext.Value
	if err := json.Unmarshal(who.Claims, &theirs); err != nil {
		return "", time.Time{}, fmt.Errorf("the claims of %q cannot be read", who.Issuer)
	}
	claims := jwt.MapClaims{"iss": who.Issuer, "sub": who.Subject, "aud": m.minting.Audience, "iat": now.Unix(), "exp": expires.Unix()}
	for _, name := range m.minting.Claims {
		if value, ok := theirs[name]; ok {
			claims[name] = value
		}
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	unsigned.Header["typ"] = mintedType
	unsigned.Header["kid"] = m.minting.Keys[0].ID
	token, err = unsigned.SignedString(m.minting.Keys[0].private)
	return token, expires, err
}
