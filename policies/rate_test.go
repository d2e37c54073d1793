package policies_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/identity"
	"postern/service/upload"
)

func puts(tables ...string) (t upload.Transaction) {
	for _, table := range tables {
		t.Operations = append(t.Operations, upload.Operation{Op: upload.Put, Table: table})
	}
	return t
}

// charged is a transaction that a rate counts.
type charged struct {
	user   string
	tables []string
	digest byte // 0 if the transaction cannot be recognised
	at     time.Duration
	wait   time.Duration
}

const (
	star = `
tables:
  lists: {allow: all}
  "*": {allow: all, because: x, rate: {most: 2, per: 2h}}`
	both = `
rate: {most: 3, per: 3h}
tables:
  lists: {allow: all}
  todos: {allow: all, rate: {most: 1, per: 1h}}`
)

var rateTests = []struct {
	name, yaml string
	sent       []charged
}{
	{"ComesBackEvenly", both, []charged{
		{"ann", []string{"lists", "lists", "lists"}, 0, 0, 0},
		{"ann", []string{"lists"}, 0, 15 * time.Minute, 45 * time.Minute},
		{"ann", []string{"lists"}, 0, time.Hour, 0},
		{"ann", []string{"lists"}, 0, time.Hour, time.Hour},
		{"ben", []string{"lists"}, 0, time.Hour, 0},
	}},
	{"MoreThanAllIsMadeUpFor", both, []charged{
		{"ann", []string{"lists", "lists", "lists", "lists", "lists"}, 0, 0, 0},
		{"ann", []string{"lists"}, 0, 0, 3 * time.Hour},
		{"ann", []string{"lists"}, 0, 3 * time.Hour, 0},
		{"ann", []string{"lists", "lists", "lists", "lists"}, 0, 5 * time.Hour, time.Hour},
		{"ann", []string{"lists", "lists", "lists", "lists"}, 0, 6 * time.Hour, 0},
	}},
	{"Bytes", "tables: {lists: {allow: all, rate: {most: 100, bytes: 20, per: 20h}}}", []charged{
		{"ann", []string{"lists", "lists"}, 0, 0, 0},
		{"ann", []string{"lists", "lists", "lists"}, 0, 0, 5 * time.Hour},
		{"ann", []string{"lists", "lists"}, 0, 0, 0},
		{"ben", []string{"lists", "lists", "lists", "lists", "lists"}, 0, 0, 0},
		{"ben", []string{"lists"}, 0, 0, 10 * time.Hour},
	}},
	{"AWaitChargesNothing", both, []charged{
		{"ann", []string{"todos"}, 0, 0, 0},
		{"ann", []string{"todos"}, 0, 0, time.Hour},
		{"ann", []string{"todos", "lists"}, 0, 0, time.Hour},
		{"ann", []string{"lists", "lists"}, 0, 0, 0},
		{"ann", []string{"lists"}, 0, 0, time.Hour},
	}},
	{"SentAgain", both, []charged{
		{"ann", []string{"todos"}, 1, 0, 0},
		{"ann", []string{"todos"}, 1, 0, 0},
		{"ann", []string{"todos"}, 2, 0, time.Hour},
		{"ann", []string{"todos"}, 2, 0, time.Hour},
		{"ann", []string{"todos"}, 2, time.Hour, 0},
		{"ann", []string{"todos"}, 2, time.Hour, 0},
	}},
	{"EveryOtherTable", star, []charged{
		{"ann", []string{"members"}, 0, 0, 0},
		{"ann", []string{"todos"}, 0, 0, 0},
		{"ann", []string{"changes"}, 0, 0, time.Hour},
		{"ann", []string{"lists"}, 0, 0, 0},
	}},
}

// TestRate sends transactions one after the other and checks how long each has to
// wait.
func TestRate(t *testing.T) {
	t.Parallel()
	for _, test := range rateTests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			set, start := compile(t, test.yaml), time.Now()
			var limiter policies.RateLimiter
			for i, s := range test.sent {
				wait := limiter.Wait(set, identity.Identity{Subject: s.user}, puts(s.tables...), [32]byte{s.digest}, start.Add(s.at))
				require.InDelta(t, s.wait, wait, float64(time.Microsecond), "transaction %d waits %s", i, wait)
			}
		})
	}
}

// TestRateInParallel checks that a transaction that must wait is not charged, even if
// many come at the same time.
func TestRateInParallel(t *testing.T) {
	t.Parallel()
	set, now := compile(t, "rate: {most: 100, per: 100h}\ntables: {lists: {allow: all}}"), time.Now()
	who := identity.Identity{Subject: "ann"}
	var limiter policies.RateLimiter
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				if limiter.Wait(set, who, puts("lists"), [32]byte{}, now) == 0 {
					taken.Add(1)
				}
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 100, taken.Load())
	require.InDelta(t, time.Hour, limiter.Wait(set, who, puts("lists"), [32]byte{}, now), float64(time.Microsecond))
}

// TestRateForgets checks that the number of users and transactions that are remembered
// is bounded.
func TestRateForgets(t *testing.T) {
	t.Parallel()
	set, now := compile(t, "rate: {most: 1, per: 1h}\ntables: {lists: {allow: all}}"), time.Now()
	var limiter policies.RateLimiter
	charge := func(n int) time.Duration {
		return limiter.Wait(set, identity.Identity{Subject: fmt.Sprint(n)}, puts("lists"), [32]byte{1, byte(n), byte(n >> 8), byte(n >> 16)}, now)
	}
	for n := range 30_000 {
		require.Zero(t, charge(n))
	}
	require.Zero(t, charge(29_999), "the transaction is still remembered")
}

// TestRateOfASetBefore checks that requests under the set before keep their allowances
// while a new set is in force.
func TestRateOfASetBefore(t *testing.T) {
	t.Parallel()
	const yaml = "rate: {most: 2, per: 2h}\ntables: {lists: {allow: all}}"
	before, after, now := compile(t, yaml), compile(t, yaml), time.Now()
	who := identity.Identity{Subject: "ann"}
	var limiter policies.RateLimiter
	for i, step := range []struct {
		set  *policies.Set
		wait time.Duration
	}{
		{before, 0}, {before, 0}, {before, time.Hour},
		{after, 0}, {before, time.Hour}, {after, 0}, {after, time.Hour},
	} {
		require.Equal(t, step.wait, limiter.Wait(step.set, who, puts("lists"), [32]byte{}, now), "step %d", i)
	}
}

// TestRateOfBytes has each part of an operation count.
func TestRateOfBytes(t *testing.T) {
	t.Parallel()
	set, now := compile(t, "rate: {most: 100, bytes: 100, per: 100h}\ntables: {lists: {allow: all}}"), time.Now()
	who := identity.Identity{Subject: "ann"}
	var limiter policies.RateLimiter
	require.Zero(t, limiter.Wait(set, who, upload.Transaction{Operations: []upload.Operation{{
		Op: upload.Patch, Table: "12345", ID: "123", Metadata: "1234",
		Data: []upload.Member{{Name: "12", Value: []byte("123456")}}, Previous: []upload.Member{{Name: "1", Value: []byte("123456789")}},
	}}}, [32]byte{}, now))
	require.InDelta(t, 5*time.Hour, limiter.Wait(set, who, upload.Transaction{Operations: []upload.Operation{{Op: upload.Patch, Table: "lists", Metadata: string(make([]byte, 70))}}}, [32]byte{}, now), float64(time.Microsecond))
}
