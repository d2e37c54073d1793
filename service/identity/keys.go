package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"golang.org/x/time/rate"
)

const (
	refreshEvery    = 7 * time.Minute        // Supabase's edge keeps a key set 10 min; a revoked key must not outlive that here
	unknownKeyEvery = 10 * time.Second       // at most one fetch in this time, however many unknown kids arrive
	unknownKeyBurst = 3                      //
	unknownKeyWait  = 200 * time.Millisecond // the longest a request waits for a fetch it caused
	fetchTimeout    = 5 * time.Second
	maxKeySetBytes  = 1 << 20
)

// keySet holds one issuer's keys and decides when to fetch them again. A fetch
// that fails leaves the keys as they are.
type keySet struct {
	memory  *verificationKeys
	keyfunc keyfunc.Keyfunc
	limiter *rate.Limiter

	mu       sync.Mutex
	fetching chan struct{} // closed when the fetch under way ends; nil when there is none
}

// newKeySet starts fetching url, now and every few minutes, until ctx ends.
func newKeySet(ctx context.Context, url string, client *http.Client, logger *slog.Logger) (*keySet, error) {
	k := &keySet{
		memory:  &verificationKeys{MemoryJWKSet: jwkset.NewMemoryStorage()},
		limiter: rate.NewLimiter(rate.Every(unknownKeyEvery), unknownKeyBurst),
	}
	storage, err := jwkset.NewStorageFromHTTP(url, jwkset.HTTPClientStorageOptions{
		Client:                    client,
		Ctx:                       ctx,
		HTTPTimeout:               fetchTimeout,
		NoErrorReturnFirstHTTPReq: true,
		RefreshInterval:           refreshEvery,
		Storage:                   k.memory,
		RefreshErrorHandler: func(_ context.Context, err error) {
			k.memory.failed()
			logger.Warn("cannot fetch key set, keeping the last good one", "url", url, "error", err)
		},
	})
	if err != nil {
		return nil, err
	}
	// keyfunc's own refresh makes requests wait for it; find bounds that wait
	// instead, so here every unknown key may fetch.
	combined, err := jwkset.NewHTTPClient(jwkset.HTTPClientOptions{
		HTTPURLs:          map[string]jwkset.Storage{url: storage},
		RefreshUnknownKID: rate.NewLimiter(rate.Inf, 1),
	})
	if err != nil {
		return nil, err
	}
	k.keyfunc, err = keyfunc.New(keyfunc.Options{Ctx: ctx, Storage: combined})
	return k, err
}

// find makes sure that the key is at hand, fetching the set again for an unknown
// one. It fails with UnknownKey when the issuer was asked and has no such key,
// and with Unavailable when it could not be asked.
func (k *keySet) find(ctx context.Context, kid string) *Refusal {
	if k.memory.has(ctx, kid) {
		return nil
	}
	done, ok := k.fetch(kid)
	if !ok {
		return unavailable("the key set was fetched a moment ago and has no such key yet", unknownKeyEvery)
	}
	timer := time.NewTimer(unknownKeyWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		return unavailable("still fetching the issuer's key set", time.Second)
	case <-ctx.Done():
		return unavailable("the request ended while the issuer's key set was fetched", time.Second)
	}
	switch {
	case k.memory.has(ctx, kid):
		return nil
	case !k.memory.current():
		return unavailable("cannot fetch the issuer's key set", unknownKeyEvery)
	default:
		return &Refusal{Kind: UnknownKey, Reason: "the issuer's key set has no usable key of this id"}
	}
}

// fetch joins the fetch under way or starts one where the limit allows.
func (k *keySet) fetch(kid string) (done <-chan struct{}, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fetching != nil {
		return k.fetching, true
	}
	if !k.limiter.Allow() {
		return nil, false
	}
	fetching := make(chan struct{})
	k.fetching = fetching
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		_, _ = k.keyfunc.Storage().KeyRead(ctx, kid) // what it found is read from memory; what failed was reported
		k.mu.Lock()
		defer k.mu.Unlock()
		k.fetching = nil
		close(fetching)
	}()
	return fetching, true
}

func unavailable(reason string, after time.Duration) *Refusal {
	return &Refusal{Kind: Unavailable, Reason: reason, RetryAfter: after}
}

// verificationKeys keeps of a fetched set only what may verify signatures:
// public keys of asymmetric algorithms whose use and key_ops allow it (RFC 7517,
// sections 4.2 and 4.3). It also remembers how the last fetch went.
type verificationKeys struct {
	*jwkset.MemoryJWKSet

	mu     sync.Mutex
	loaded bool // a fetch has succeeded
	stale  bool // the latest fetch failed
}

// KeyReplaceAll takes the keys of a successful fetch.
func (v *verificationKeys) KeyReplaceAll(ctx context.Context, keys []jwkset.JWK) error {
	usable := slices.DeleteFunc(slices.Clone(keys), func(key jwkset.JWK) bool { return !verifies(key) })
	v.mu.Lock()
	v.loaded, v.stale = true, false
	v.mu.Unlock()
	return v.MemoryJWKSet.KeyReplaceAll(ctx, usable)
}

func (v *verificationKeys) has(ctx context.Context, kid string) bool {
	_, err := v.KeyRead(ctx, kid)
	return err == nil
}

func (v *verificationKeys) failed() {
	v.mu.Lock()
	v.stale = true
	v.mu.Unlock()
}

// current reports whether the keys are what the issuer said when last asked.
func (v *verificationKeys) current() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.loaded && !v.stale
}

func (v *verificationKeys) ready() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.loaded
}

func verifies(key jwkset.JWK) bool {
	switch key.Key().(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey:
	default:
		return false
	}
	marshalled := key.Marshal()
	if marshalled.KID == "" || marshalled.USE != "" && marshalled.USE != jwkset.UseSig {
		return false
	}
	return len(marshalled.KEYOPS) == 0 || slices.Contains(marshalled.KEYOPS, jwkset.KeyOpsVerify)
}

// newHTTPClient fetches key sets: bounded in size, https or loopback only, and
// redirected only within the host it was sent to.
func newHTTPClient() *http.Client {
	return &http.Client{
		Timeout:   fetchTimeout,
		Transport: boundedTransport{http.DefaultTransport},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if len(via) > 3 {
				return errors.New("more than 3 redirects")
			}
			if next.URL.Host != via[0].URL.Host {
				return fmt.Errorf("redirected to another host, %q", next.URL.Host)
			}
			return checkURL(next.URL.String())
		},
	}
}

type boundedTransport struct{ base http.RoundTripper }

func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxKeySetBytes), response.Body}
	return response, nil
}
