package service

import (
	"context"
	"sync"
	"time"

	"postern/service/console"
	"postern/service/doctor"
)

// reloads is when the policies came into force, and when they last did not.
type reloads struct {
	mu       sync.Mutex
	loadedAt time.Time
	failedAt time.Time // zero if that never happened
	failure  string
}

func (r *reloads) succeeded() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loadedAt = time.Now()
}

func (r *reloads) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failedAt, r.failure = time.Now(), err.Error()
}

// operations is the service as the team looks at it, in the console.
type operations struct{ *Service }

// State does not use the database, which a page that is left open would keep awake.
func (o operations) State() console.State {
	pool := o.db.Stat()
	state := console.State{
		Minutes: o.metrics.history.minutes(),
		Pool: console.Pool{
			Busy: pool.AcquiredConns(), Idle: pool.IdleConns(), Connecting: pool.ConstructingConns(), Most: pool.MaxConns(),
			Waits: pool.EmptyAcquireCount(), WaitSeconds: pool.EmptyAcquireWaitTime().Seconds(),
		},
		Policies: o.policyState(),
		Stuck:    []console.StuckQueue{},
	}
	if err := o.ready(); err != nil {
		state.NotReady = err.Error()
	}
	for _, keys := range o.verifier.KeySets() {
		state.KeySets = append(state.KeySets, console.KeySet{Issuer: keys.Issuer, Keys: keys.Keys, FetchedAt: keys.Fetched})
	}
	for _, q := range o.applier.StuckQueues() {
		state.Stuck = append(state.Stuck, console.StuckQueue{Issuer: q.Issuer, Subject: q.Subject, Reason: q.Reason, Since: q.Since, Last: q.Last})
	}
	if counts, ok := o.ledger.Counts(); ok {
		state.Waiting = &console.Waiting{Open: counts.Open, Held: counts.Held}
	}
	return state
}

func (o operations) policyState() console.Policies {
	o.reloads.mu.Lock()
	defer o.reloads.mu.Unlock()
	p := console.Policies{
		Folder: o.policies.Dir(), SHA256: o.policies.SHA256(),
		LoadedAt: o.reloads.loadedAt, FailedAt: o.reloads.failedAt, Failure: o.reloads.failure,
	}
	if snapshot := o.catalog.Snapshot(); snapshot != nil {
		if set, err := o.policies.For(snapshot); err == nil {
			p.Content = set.String()
		}
	}
	if err := o.policies.Problem(); err != nil {
		p.Problem = err.Error()
	}
	return p
}

// Examine does what `postern doctor` does, without a user's token.
func (o operations) Examine(ctx context.Context) []doctor.Finding {
	return doctor.Examine(ctx, o.cfg.Examination(o.db, o.issuers, o.policies))
}
