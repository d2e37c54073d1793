package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

// SigningKey is an ES256 key: a pair, or the public half alone.
type SigningKey struct {
	ID      string // the kid
	private *ecdsa.PrivateKey
	public  jwkset.JWKMarshal
}

// CanSign reports whether the key has its private half.
func (k SigningKey) CanSign() bool { return k.private != nil }

// NewSigningKey makes a key pair.
func NewSigningKey() (SigningKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return SigningKey{}, err
	}
	return signingKey(private, &private.PublicKey, "")
}

// ParseSigningKey reads a key from PEM (SEC 1, PKCS 8, or PKIX for the public half) or
// from a JWK. PEM may have \n for its line breaks, as environment variables often do.
// Its errors do not quote the text.
func ParseSigningKey(text string) (SigningKey, error) {
	key, id, err := readKey(strings.TrimSpace(text))
	if err != nil {
		return SigningKey{}, err
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return signingKey(key, &key.PublicKey, id)
	case *ecdsa.PublicKey:
		return signingKey(nil, key, id)
	}
	return SigningKey{}, errors.New("is not an elliptic curve key")
}

// readKey returns a key as package crypto has it, and the kid of a JWK.
func readKey(text string) (key any, id string, err error) {
	if !strings.HasPrefix(text, "{") {
		key, err = readPEM(strings.ReplaceAll(text, `\n`, "\n"))
		return key, "", err
	}
	var jwk jwkset.JWKMarshal
	if json.Unmarshal([]byte(text), &jwk) != nil {
		return nil, "", errors.New("is not a JWK")
	}
	if (jwk.ALG != "" && jwk.ALG != jwkset.AlgES256) || (jwk.USE != "" && jwk.USE != jwkset.UseSig) {
		return nil, "", errors.New("is a JWK with another alg than ES256, or another use than sig")
	}
	parts := jwkset.JWKMarshal{KTY: jwk.KTY, CRV: jwk.CRV, X: jwk.X, Y: jwk.Y, D: jwk.D}
	parsed, err := jwkset.NewJWKFromMarshal(parts, jwkset.JWKMarshalOptions{Private: true}, jwkset.JWKValidateOptions{})
	if err != nil {
		return nil, "", errors.New("is a JWK whose parts are not a valid key")
	}
	return parsed.Key(), jwk.KID, nil
}

func readPEM(text string) (any, error) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("is neither PEM nor a JWK")
		}
		if block.Type == "EC PARAMETERS" { // openssl writes it before the key
			continue
		}
		key, err := jwkset.LoadX509KeyInfer(block)
		if err != nil {
			return nil, errors.New("is PEM without a key that can be read")
		}
		return key, nil
	}
}

// signingKey checks a key and gives it an id, if it has none: its thumbprint (RFC 7638).
func signingKey(private *ecdsa.PrivateKey, public *ecdsa.PublicKey, id string) (SigningKey, error) {
	if public.Curve != elliptic.P256() {
		return SigningKey{}, errors.New("is not of the curve P-256, which ES256 needs")
	}
	if private != nil {
		const trial = "trial"
		signature, err := jwt.SigningMethodES256.Sign(trial, private)
		if err != nil || jwt.SigningMethodES256.Verify(trial, signature, public) != nil {
			return SigningKey{}, errors.New("has a public half that is not its private half's")
		}
	}
	jwk, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.AlgES256, USE: jwkset.UseSig}})
	if err != nil {
		return SigningKey{}, errors.New("is not a valid key")
	}
	k := SigningKey{ID: id, private: private, public: jwk.Marshal()}
	if k.ID == "" {
		digest := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, k.public.X, k.public.Y))
		k.ID = base64.RawURLEncoding.EncodeToString(digest[:])
	}
	k.public.KID = k.ID
	return k, nil
}

// PrivateJWK returns the key as a JWK with its private half, in one line.
func (k SigningKey) PrivateJWK() (string, error) {
	jwk, err := jwkset.NewJWKFromKey(k.private, jwkset.JWKOptions{
		Marshal:  jwkset.JWKMarshalOptions{Private: true},
		Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.AlgES256, USE: jwkset.UseSig, KID: k.ID},
	})
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(jwk.Marshal())
	return string(text), err
}

// publish returns a JWK set of the public halves (RFC 7517, section 5).
func publish(keys []SigningKey) ([]byte, error) {
	public := make([]jwkset.JWKMarshal, 0, len(keys))
	for _, k := range keys {
		public = append(public, k.public)
	}
	return json.Marshal(map[string]any{"keys": public})
}
