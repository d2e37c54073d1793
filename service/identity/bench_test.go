package identity

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"ES256", "RS256", "EdDSA", "HS256"} {
		b.Run(alg, func(b *testing.B) {
			key := newSigner(b, alg, "k")
			description := testDescription()
			var keys []any
			if alg == "HS256" {
				description.Secret = []byte(testSecret)
			} else {
				keys = append(keys, key.jwk(b, nil))
			}
			v, _ := verifierOn(b, newKeyServer(b, keys...), nil, description)
			awaitKeys(b, v)
			token := key.token(b, time.Now(), nil, nil)
			for _, name := range []string{"First", "Again"} {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if name == "First" {
							v.verified.younger = nil
						}
						if _, err := v.Verify(b.Context(), token); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}

// BenchmarkFlood compares what a good token waits while strangers send unknown
// kids as fast as one core lets them with what it waits in peace: ratio is that
// of the medians, p99-ratio that of the 99th percentiles.
func BenchmarkFlood(b *testing.B) {
	key := newSigner(b, "ES256", "k")
	v, _ := verifierOn(b, newKeyServer(b, key.jwk(b, nil)), nil, testDescription())
	awaitKeys(b, v)
	good := key.token(b, time.Now(), nil, nil)
	strangers := make([]string, 1000)
	for n := range strangers {
		strangers[n] = key.token(b, time.Now(), map[string]any{"kid": fmt.Sprintf("stranger-%d", n)}, nil)
	}
	measure := func() (median, p99 time.Duration) {
		took := make([]time.Duration, max(b.N, 100))
		for n := range took {
			started := time.Now()
			_, err := v.Verify(b.Context(), good)
			took[n] = time.Since(started)
			require.NoError(b, err)
		}
		slices.Sort(took)
		return took[len(took)/2], took[len(took)*99/100]
	}
	b.ResetTimer()
	quiet, quiet99 := measure()

	ctx, stop := context.WithCancel(b.Context())
	var flood sync.WaitGroup
	sent := 0
	flood.Go(func() {
		for ; ctx.Err() == nil; sent++ {
			_, _ = v.Verify(ctx, strangers[sent%len(strangers)])
		}
	})
	started := time.Now()
	busy, busy99 := measure()
	lasted := time.Since(started)
	stop()
	flood.Wait()
	b.ReportMetric(float64(busy)/float64(quiet), "ratio")
	b.ReportMetric(float64(busy99)/float64(quiet99), "p99-ratio")
	b.ReportMetric(float64(sent)/lasted.Seconds(), "strangers/s")
}
