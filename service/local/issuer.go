package local

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

const (
	// IssuerName is the iss claim of the development issuer. It does not contain
	// the address that dev mode listens on, so that tokens and receipts stay valid
	// if the address changes.
	IssuerName = "http://postern.localhost/auth/v1"
	// Audience is the aud claim, the same as in Supabase's tokens.
	Audience = "authenticated"

	tokenLifetime = time.Hour // Supabase's default
)

// users is the namespace of users' ids (RFC 9562, version 5).
var users = uuid.MustParse("5b0c3a0e-3c58-4f0c-9d55-6f6a3d6d2b0f")

// UserID is the sub of the development user with that name. A name has the same id
// on every machine.
func UserID(name string) string { return uuid.NewSHA1(users, []byte(name)).String() }

// Issuer issues tokens shaped like Supabase's, to anyone, for any user. It is for
// development and tests.
type Issuer struct {
	key    *ecdsa.PrivateKey
	keyID  string
	keySet []byte
}

// OpenIssuer reads the signing key in a folder. If there is none, it creates one.
func OpenIssuer(dir string) (*Issuer, error) {
	path := filepath.Join(dir, "issuer.pem")
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		content, err = createKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("the development issuer's key: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key: delete it, and a new key is created; tokens signed with the old key become invalid", path)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: delete it, and a new key is created", path, err)
	}
	return newIssuer(key)
}

func createKey(path string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	content := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return content, os.WriteFile(path, content, 0o600)
}

func newIssuer(key *ecdsa.PrivateKey) (*Issuer, error) {
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	keyID := uuid.NewSHA1(users, public).String()
	jwk, err := jwkset.NewJWKFromKey(key.Public(), jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.AlgES256, KID: keyID, USE: jwkset.UseSig, KEYOPS: []jwkset.KEYOPS{jwkset.KeyOpsVerify}},
	})
	if err != nil {
		return nil, err
	}
	keySet, err := json.Marshal(map[string]any{"keys": []any{jwk.Marshal()}})
	if err != nil {
		return nil, err
	}
	return &Issuer{key, keyID, keySet}, nil
}

// Token is a bearer token for the user with that name, valid for an hour from now.
func (i *Issuer) Token(name string, now time.Time) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claimsOf(name, now))
	token.Header["kid"] = i.keyID
	return token.SignedString(i.key)
}

// Claims are those of a token for the user with that name, a JSON object.
func Claims(name string) (jsontext.Value, error) {
	if err := CheckUserName(name); err != nil {
		return nil, fmt.Errorf("user: %w", err)
	}
	return json.Marshal(claimsOf(name, time.Now()))
}

func claimsOf(name string, now time.Time) jwt.MapClaims {
	return jwt.MapClaims{
		"iss":           IssuerName,
		"sub":           UserID(name),
		"aud":           Audience,
		"iat":           now.Unix(),
		"exp":           now.Add(tokenLifetime).Unix(),
		"email":         name + "@example.com",
		"phone":         "",
		"app_metadata":  map[string]any{"provider": "email", "providers": []string{"email"}},
		"user_metadata": map[string]any{"display_name": name},
		"role":          "authenticated",
		"aal":           "aal1",
		"amr":           []any{map[string]any{"method": "password", "timestamp": now.Unix()}},
		"session_id":    uuid.NewSHA1(users, []byte("session of "+name)).String(),
		"is_anonymous":  false,
	}
}

// ServeHTTP answers /dev/jwks.json and /dev/token?user=NAME.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet:
		reply(w, http.StatusMethodNotAllowed, map[string]string{"message": "use GET"})
	case r.URL.Path == "/dev/jwks.json":
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(i.keySet)
	case r.URL.Path == "/dev/token":
		i.serveToken(w, r)
	default:
		reply(w, http.StatusNotFound, map[string]string{"message": "use /dev/jwks.json or /dev/token?user=NAME"})
	}
}

func (i *Issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("user")
	if err := CheckUserName(name); err != nil {
		reply(w, http.StatusBadRequest, map[string]string{"message": "user: " + err.Error() + ": /dev/token?user=alice"})
		return
	}
	token, err := i.Token(name, time.Now())
	if err != nil {
		reply(w, http.StatusInternalServerError, map[string]string{"message": err.Error()})
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	reply(w, http.StatusOK, map[string]string{"token": token})
}

// CheckUserName accepts 1 to 100 bytes.
func CheckUserName(name string) error {
	if name == "" || len(name) > 100 {
		return errors.New("a name of 1 to 100 bytes is required")
	}
	return nil
}

func reply(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.MarshalWrite(w, body)
}
