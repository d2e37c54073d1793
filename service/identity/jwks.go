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
	maxRSABits     = 8192 // verifying with a longer key takes over a millisecond
	maxRedirects   = 3
)

// keySource fetches an issuer's key set.
type keySource struct {
	issuer     string
	url        string // if empty, the issuer's discovery document has it
	client     *http.Client
	mayBeEmpty bool // tokens can be verified without a key of the set
}

// fetch returns the keys that may verify signatures. leftOut has the kid of each other
// key, and the reason.
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

// discover finds the URL of the issuer's key set (OpenID Connect Discovery 1.0, section
// 4). If the issuer's URL is https, the key set's must be, too.
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
		return "", fmt.Errorf("%s is not a discovery document: %w", url, err)
	}
	if document.Issuer != s.issuer {
		return "", fmt.Errorf("%s is about issuer %q, not %q: configure the issuer exactly as it names itself", url, truncate(document.Issuer), s.issuer)
	}
	if err := checkURL(document.KeySetURL); err != nil {
		return "", fmt.Errorf("%s: jwks_uri: %w", url, err)
	}
	if strings.HasPrefix(s.issuer, "https:") && !strings.HasPrefix(document.KeySetURL, "https:") {
		return "", fmt.Errorf("%s: jwks_uri %q must be https, because the issuer's URL is", url, truncate(document.KeySetURL))
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

// newHTTPClient returns a client that follows redirects only within one origin.
func newHTTPClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			if from := via[0].URL; next.URL.Host != from.Host || next.URL.Scheme != from.Scheme {
				return fmt.Errorf("the key set redirects to another origin, %s://%s: configure the final URL", next.URL.Scheme, next.URL.Host)
			}
			return nil
		},
	}
}

// parseKeySet decodes a JWK set (RFC 7517, section 5). Keys that cannot be used are left
// out.
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

// verificationKey returns a key that can only verify signatures, with one algorithm. The
// published key must be public, asymmetric, and meant for signatures by its use and
// key_ops (RFC 7517, sections 4.2 and 4.3). Its certificates are not read, because
// the key set's URL is what is trusted.
func verificationKey(key jwkset.JWKMarshal) (jwkset.JWK, error) {
	algorithm, err := algorithmOf(key)
	switch {
	case err != nil:
		return jwkset.JWK{}, err
	case key.KID == "":
		return jwkset.JWK{}, errors.New("no kid")
	case key.D != "" || key.P != "" || key.Q != "" || key.DP != "" || key.DQ != "" || key.QI != "" || key.K != "" || len(key.OTH) > 0:
		return jwkset.JWK{}, errors.New("a private key: it is published, so it must be replaced")
	case key.USE != "" && key.USE != jwkset.UseSig:
		return jwkset.JWK{}, errors.New("use is not sig")
	case len(key.KEYOPS) > 0 && !slices.Contains(key.KEYOPS, jwkset.KeyOpsVerify):
		return jwkset.JWK{}, errors.New("key_ops has no verify")
	}
	public := jwkset.JWKMarshal{KTY: key.KTY, KID: key.KID, ALG: algorithm, CRV: key.CRV, X: key.X, Y: key.Y, N: key.N, E: key.E}
	parsed, err := jwkset.NewJWKFromMarshal(public, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return jwkset.JWK{}, errors.New("broken: its parts are not a valid key")
	}
	if k, ok := parsed.Key().(*rsa.PublicKey); ok && (k.N.BitLen() < minRSABits || k.N.BitLen() > maxRSABits) {
		return jwkset.JWK{}, fmt.Errorf("%d bits, not %d to %d", k.N.BitLen(), minRSABits, maxRSABits)
	}
	return parsed, nil
}

// algorithmOf returns the algorithm of a key. Each curve has one (RFC 7518, section 3.4;
// RFC 8037, section 3.1), and a key with another alg is refused. The result is empty
// for an RSA key without alg, which serves RS256, RS384 and RS512.
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
		return "", fmt.Errorf("kty %q with crv %q and alg %q is not supported", truncate(key.KTY.String()), truncate(key.CRV.String()), truncate(key.ALG.String()))
	}
	if key.ALG != "" && key.ALG != algorithm {
		return "", fmt.Errorf("alg %q does not fit crv %q", truncate(key.ALG.String()), truncate(key.CRV.String()))
	}
	return algorithm, nil
}
