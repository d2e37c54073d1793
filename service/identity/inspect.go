package identity

import (
	"context"
	"net/http"
	"time"

	"github.com/MicahParks/jwkset"
)

// KeySetReport describes an issuer's key set as it is now.
type KeySetReport struct {
	Keys    []KeyReport   // those that can verify signatures
	LeftOut []string      // the kid of each other key, and the reason
	Skew    time.Duration // how far the server's clock is ahead of ours; 0 if it did not say
}

// KeyReport describes one key. Its algorithm is empty for an RSA key that serves RS256,
// RS384 and RS512.
type KeyReport struct{ ID, Algorithm string }

// Inspect fetches the issuer's key set once, in the same way as a Verifier.
func (i Issuer) Inspect(ctx context.Context, transport http.RoundTripper) (report KeySetReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	clock := &dateReader{next: transport}
	var usable []jwkset.JWK
	usable, report.LeftOut, err = keySource{issuer: i.Issuer, url: i.KeySetURL, client: newHTTPClient(clock)}.fetch(ctx)
	for _, key := range usable {
		marshalled := key.Marshal()
		report.Keys = append(report.Keys, KeyReport{marshalled.KID, marshalled.ALG.String()})
	}
	report.Skew = clock.skew
	return report, err
}

// dateReader compares the Date header of responses with our clock.
type dateReader struct {
	next http.RoundTripper
	skew time.Duration
}

func (d *dateReader) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := d.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil && response.Header.Get("Age") == "" { // a cache's copy has an old date
		d.skew = time.Until(date).Round(time.Second)
	}
	return response, nil
}

// Leeway is the allowed difference between an issuer's clock and ours.
const Leeway = leeway

// Await returns when the first fetch of each issuer's key set has ended, or ctx has.
func (v *Verifier) Await(ctx context.Context) {
	for _, i := range v.issuers {
		i.keys.mu.Lock()
		first := i.keys.next
		i.keys.mu.Unlock()
		if i.keys.tried.Load() {
			continue
		}
		select {
		case <-first.done:
		case <-ctx.Done():
		}
	}
}
