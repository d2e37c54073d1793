package identity

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxKeySetBytes = 1 << 20
	maxKeys        = 100
	minRSABits     = 2048 // RFC 7518, section 3.3
	maxRSABits     = 8192 // a verification beyond takes over a millisecond
	maxRedirects   = 3
)

// keySource is where an issuer's key set comes from.
type keySource struct {
	issuer string
	url    string // empty: the issuer's discovery document tells
	client *http.Client
}

// fetch brings the keys that may verify signatures, and the kids of those that
// may not.
func (s keySource) fetch(ctx context.Context) (usable []jwkset.JWK, leftOut []string, err error) {
	url := s.url
	if url == "" {
		if url, err = s.discover(ctx); err != nil {
			return nil, nil, err
		}
	}
	body, err := s.get(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	usable, leftOut, err = parseKeySet(body)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", url, err)
	}
	return usable, leftOut, nil
}

// discover asks the issuer where its key set is: OpenID Connect Discovery 1.0,
// section 4. An issuer that is reached over TLS cannot point away from it.
func (s keySource) discover(ctx context.Context) (string, error) {
	url := strings.TrimSuffix(s.issuer, "/") + "/.well-known/openid-configuration"
	body, err := s.get(ctx, url)
	if err != nil {
		return "", err
	}
	var document struct {
		Issuer    string `json:"issuer"`
		KeySetURL string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return "", fmt.Errorf("%s: not a discovery document: %w", url, err)
	}
	if document.Issuer != s.issuer {
		return "", fmt.Errorf("%s is about issuer %q, not %q: configure the issuer exactly as it names itself", url, truncate(document.Issuer), s.issuer)
	}
	if err := checkURL(document.KeySetURL); err != nil {
		return "", fmt.Errorf("%s: jwks_uri: %w", url, err)
	}
	if strings.HasPrefix(s.issuer, "https:") && !strings.HasPrefix(document.KeySetURL, "https:") {
		return "", fmt.Errorf("%s: jwks_uri %q is not https, while the issuer is", url, truncate(document.KeySetURL))
	}
	return document.KeySetURL, nil
}

func (s keySource) get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered with status %d", url, response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxKeySetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", url, err)
	}
	if len(body) > maxKeySetBytes {
		return nil, fmt.Errorf("%s answered with more than %d bytes", url, maxKeySetBytes)
	}
	return body, nil
}

// newHTTPClient fetches key sets. It follows redirects only within the origin
// that it was sent to.
func newHTTPClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			if from := via[0].URL; next.URL.Host != from.Host || next.URL.Scheme != from.Scheme {
				return fmt.Errorf("redirected to another origin, %s://%s", next.URL.Scheme, next.URL.Host)
			}
			return nil
		},
	}
}

// parseKeySet reads a JWK set (RFC 7517, section 5). A key that cannot be used
// does not spoil the others.
func parseKeySet(body []byte) (usable []jwkset.JWK, leftOut []string, err error) {
	var set struct {
		Keys *[]jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, nil, fmt.Errorf("not a key set: %w", err)
	}
	if set.Keys == nil {
		return nil, nil, errors.New("not a key set: it has no keys member")
	}
	if len(*set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("the key set has %d keys, more than %d", len(*set.Keys), maxKeys)
	}
	for _, raw := range *set.Keys {
		var key jwkset.JWKMarshal
		if err := json.Unmarshal(raw, &key); err != nil {
			leftOut = append(leftOut, "unreadable")
			continue
		}
		parsed, err := verificationKey(key)
		if err != nil {
			leftOut = append(leftOut, truncate(key.KID)+": "+err.Error())
			continue
		}
		usable = append(usable, parsed)
	}
	return usable, leftOut, nil
}

// verificationKey makes of a published key one that can do nothing but verify:
// public and asymmetric, meant for signatures by its use and key_ops (RFC 7517,
// sections 4.2 and 4.3), and bound to its algorithm. Certificates that come with
// it are not read: the key set's address is what is trusted.
func verificationKey(key jwkset.JWKMarshal) (jwkset.JWK, error) {
	algorithm, err := algorithmOf(key)
	switch {
	case err != nil:
		return jwkset.JWK{}, err
	case key.KID == "":
		return jwkset.JWK{}, errors.New("no kid")
	case key.D != "" || key.P != "" || key.Q != "" || key.DP != "" || key.DQ != "" || key.QI != "" || key.K != "" || len(key.OTH) > 0:
		return jwkset.JWK{}, errors.New("a private key, which is no longer one")
	case key.USE != "" && key.USE != jwkset.UseSig:
		return jwkset.JWK{}, errors.New("use is not sig")
	case len(key.KEYOPS) > 0 && !slices.Contains(key.KEYOPS, jwkset.KeyOpsVerify):
		return jwkset.JWK{}, errors.New("key_ops has no verify")
	}
	public := jwkset.JWKMarshal{KTY: key.KTY, KID: key.KID, ALG: algorithm, CRV: key.CRV, X: key.X, Y: key.Y, N: key.N, E: key.E}
	parsed, err := jwkset.NewJWKFromMarshal(public, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return jwkset.JWK{}, errors.New("broken")
	}
	if k, ok := parsed.Key().(*rsa.PublicKey); ok && (k.N.BitLen() < minRSABits || k.N.BitLen() > maxRSABits) {
		return jwkset.JWK{}, fmt.Errorf("%d bits", k.N.BitLen())
	}
	return parsed, nil
}

// algorithmOf is the algorithm a key is for. A curve has one (RFC 7518, section
// 3.4; RFC 8037, section 3.1), which a differing alg makes useless; an RSA key
// without alg serves any RS*, for which it is empty.
func algorithmOf(key jwkset.JWKMarshal) (jwkset.ALG, error) {
	var algorithm jwkset.ALG
	switch {
	case key.KTY == jwkset.KtyEC && key.CRV == jwkset.CrvP256:
		algorithm = jwkset.AlgES256
	case key.KTY == jwkset.KtyEC && key.CRV == jwkset.CrvP384:
		algorithm = jwkset.AlgES384
	case key.KTY == jwkset.KtyEC && key.CRV == jwkset.CrvP521:
		algorithm = jwkset.AlgES512
	case key.KTY == jwkset.KtyOKP && key.CRV == jwkset.CrvEd25519:
		algorithm = jwkset.AlgEdDSA
	case key.KTY == jwkset.KtyRSA && (key.ALG == "" || key.ALG == jwkset.AlgRS256 || key.ALG == jwkset.AlgRS384 || key.ALG == jwkset.AlgRS512):
		return key.ALG, nil
	default:
		return "", fmt.Errorf("kty %q with crv %q and alg %q verifies nothing here", truncate(key.KTY.String()), truncate(key.CRV.String()), truncate(key.ALG.String()))
	}
	if key.ALG != "" && key.ALG != algorithm {
		return "", fmt.Errorf("alg %q does not go with crv %q", truncate(key.ALG.String()), truncate(key.CRV.String()))
	}
	return algorithm, nil
}
