package faults_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

// soakEnv says how long the soak takes, such as 20m. What grows slowly shows only then.
const soakEnv = "POSTERN_TEST_SOAK"

const (
	soakClients = 250  // the hard_limit of fly.toml
	mostDrift   = 0.10 // growth over the time that is judged, as a part of the mean
)

// measured are the metrics that must stay flat, in the order of the table.
var measured = []string{"process_resident_memory_bytes", "go_memstats_next_gc_bytes", "go_goroutines", "process_open_fds", "postern_pool_connections"}

// sample is what one scrape says.
type sample struct {
	at     time.Duration
	values map[string]float64 // of measured, each summed over its labels
}

// TestSoak sends as much as one service takes, with the memory of Fly's smallest machine:
// new tokens, new connections, rejected writes, uploads that are no JSON. In the end,
// nothing is lost or doubled, and memory, goroutines and connections have not grown.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	lasts, judged := 15*time.Second, false
	if text := os.Getenv(soakEnv); text != "" {
		var err error
		lasts, err = time.ParseDuration(text)
		require.NoError(t, err)
		judged = lasts >= 5*time.Minute
	}
	db, s := rig.NewDatabase(t), seed(t)
	var users []string
	for i := range soakClients {
		users = append(users, fmt.Sprintf("user%d", i))
	}
	setUp(t, db, users...)
	db.Exec(t, `drop trigger note_effect on counters; drop trigger note_effect on entries`) // the counters suffice, and do not grow
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	keys, folder, output := rig.ServeIssuer(t, issuer), t.TempDir(), filepath.Join(t.TempDir(), "output")
	require.NoError(t, os.WriteFile(filepath.Join(folder, "all.yaml"), []byte(policies), 0o644))
	ready, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, url, err := rig.Serve(ready, output, rig.Command(t), db.LoginURL, keys, folder, "GOMEMLIMIT=230MiB")
	require.NoError(t, err)
	defer p.Stop()
	metrics, err := p.Await(ready, regexp.MustCompile(`"msg":"serving".*"metrics":"([^"]+)"`))
	require.NoError(t, err)

	var (
		all      sync.WaitGroup
		requests atomic.Int64
		failed   atomic.Pointer[error]
		soakers  []*soaker
	)
	begun := time.Now()
	for i, user := range users {
		k := &soaker{user: user, issuer: issuer, url: url, random: rand.New(rand.NewPCG(s, uint64(i))), ends: begun.Add(lasts), requests: &requests}
		soakers = append(soakers, k)
		all.Go(func() {
			if err := k.run(t.Context()); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	samples := record(t, "http://"+metrics+"/metrics", begun, lasts)
	all.Wait()
	if err := failed.Load(); err != nil {
		require.NoError(t, *err)
	}
	table(t, samples, requests.Load())

	want := map[string]int{}
	for _, k := range soakers {
		if k.increments > 0 {
			want[counterID(k.user, 0)] = k.increments
		}
	}
	require.Equal(t, want, counts(t, db, `select id::text, n from counters where n <> 0`), "each transaction counts once")
	for _, s := range samples {
		require.Less(t, s.values["process_resident_memory_bytes"], 256e6, "of Fly's smallest machine")
	}
	for _, name := range measured {
		drift := drift(samples[len(samples)/4:], name)
		t.Logf("%s: %+.1f %% over the last three quarters", name, 100*drift)
		if judged {
			require.Less(t, drift, mostDrift, name)
		}
	}
}

// soaker is a client that has one request under way all the time.
type soaker struct {
	user, url  string
	issuer     *local.Issuer
	random     *rand.Rand
	ends       time.Time
	requests   *atomic.Int64
	last       int // transaction
	increments int // of its counter, as acknowledged
}

func (k *soaker) run(ctx context.Context) error {
	const tokenLasts, requestsOfAConnection = 20 * time.Second, 50
	client, token, renew := newClient(), "", time.Time{}
	defer client.CloseIdleConnections()
	for n := 0; time.Now().Before(k.ends); n++ {
		if now := time.Now(); now.After(renew) {
			var err error
			if token, err = k.issuer.Token(k.user, now); err != nil {
				return err
			}
			renew = now.Add(tokenLasts)
		}
		if n%requestsOfAConnection == 0 {
			client.CloseIdleConnections()
			if err := k.sendNonsense(ctx, client, token); err != nil {
				return err
			}
		}
		if err := k.send(ctx, client, token, k.batch()); err != nil {
			return fmt.Errorf("%s: %w", k.user, err)
		}
	}
	return nil
}

// batch is one to five transactions, each of which counts once. One of 50 is rejected.
func (k *soaker) batch() (batch []*transaction) {
	for range 1 + k.random.IntN(5) {
		k.last++
		tx, amount := &transaction{id: k.last, rejected: -1}, 1
		if k.random.IntN(50) == 0 {
			tx.rejected, amount = 1, -1
		}
		entry := local.UserID(fmt.Sprintf("%s entry %d", k.user, k.random.IntN(20)))
		tx.body = fmt.Sprintf(`{"transaction_id":%[1]d,"crud":[{"op_id":%[2]d,"op":"PATCH","table":"counters","id":%[4]q,"op_data":{"marker":"m"}},
			{"op_id":%[3]d,"op":"PUT","table":"entries","id":%[5]q,"op_data":{"amount":%[6]d,"marker":"m"}}]}`, k.last, 2*k.last, 2*k.last+1, counterID(k.user, 0), entry, amount)
		batch = append(batch, tx)
	}
	return batch
}

// send sends a batch until all of it is answered for good.
func (k *soaker) send(ctx context.Context, client *http.Client, token string, batch []*transaction) error {
	for len(batch) > 0 {
		k.requests.Add(1)
		results, err := post(ctx, client, k.url, token, k.user+"'s phone", batch)
		if err != nil && !errors.Is(err, errNoAnswer) {
			return err
		}
		completed := 0
		if err == nil {
			if completed, err = settle(batch, results); err != nil {
				return err
			}
		}
		for _, tx := range batch[:completed] {
			if tx.rejected < 0 {
				k.increments++
			}
		}
		batch = batch[completed:]
	}
	return nil
}

// sendNonsense sends what is no upload.
func (k *soaker) sendNonsense(ctx context.Context, client *http.Client, token string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, k.url+"/api/data", strings.NewReader(`{"transactions":`))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest && response.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("what is no JSON is answered with %s", response.Status)
	}
	return nil
}

// record scrapes the metrics every five seconds, or in a short soak more often.
func record(t *testing.T, metrics string, begun time.Time, lasts time.Duration) (samples []sample) {
	t.Helper()
	every := min(5*time.Second, lasts/20)
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for time.Since(begun) < lasts {
		<-ticks.C
		response, err := http.Get(metrics)
		require.NoError(t, err)
		s := sample{at: time.Since(begun), values: map[string]float64{}}
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			for _, name := range measured {
				if series, value, _ := strings.Cut(lines.Text(), " "); series == name || strings.HasPrefix(series, name+"{") {
					number, err := strconv.ParseFloat(value, 64)
					require.NoError(t, err)
					s.values[name] += number
				}
			}
		}
		response.Body.Close()
		require.Len(t, s.values, len(measured), "every metric is there")
		samples = append(samples, s)
	}
	return samples
}

// drift is how much a value grows from the first sample to the last, by the line that fits
// best, as a part of the mean.
func drift(samples []sample, name string) float64 {
	var meanAt, mean float64
	for _, s := range samples {
		meanAt += s.at.Seconds() / float64(len(samples))
		mean += s.values[name] / float64(len(samples))
	}
	var product, square float64
	for _, s := range samples {
		product += (s.at.Seconds() - meanAt) * (s.values[name] - mean)
		square += (s.at.Seconds() - meanAt) * (s.at.Seconds() - meanAt)
	}
	span := samples[len(samples)-1].at - samples[0].at
	return product / square * span.Seconds() / mean
}

// table logs about twenty of the samples.
func table(t *testing.T, samples []sample, requests int64) {
	t.Helper()
	var b strings.Builder
	last := samples[len(samples)-1].at
	fmt.Fprintf(&b, "%d requests, %.0f a second\n%8s %12s %12s %11s %6s %12s\n", requests, float64(requests)/last.Seconds(), "time", "resident MB", "GC's goal MB", "goroutines", "files", "connections")
	for i := 0; i < len(samples); i += max(1, len(samples)/20) {
		v := func(n int) float64 { return samples[i].values[measured[n]] }
		fmt.Fprintf(&b, "%8s %12.1f %12.1f %11.0f %6.0f %12.0f\n", samples[i].at.Round(time.Second), v(0)/1e6, v(1)/1e6, v(2), v(3), v(4))
	}
	t.Log("\n" + b.String())
}
