package faults_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// lateRequests are copies of a device's requests that a network delivers once more, when
// the device has gone on.
type lateRequests struct {
	device  *device // whose requests they are; nil if they arrive once
	sent    [][]*transaction
	sending sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

func newLateRequests(d *device) *lateRequests {
	if !d.repeats {
		return &lateRequests{}
	}
	return &lateRequests{device: d}
}

// sendSome keeps a copy of a request, and may send one of the copies, while the device
// sends what comes next.
func (l *lateRequests) sendSome(ctx context.Context, url func() string, batch []*transaction) {
	if l.device == nil {
		return
	}
	l.sent = append(l.sent, batch)
	if l.device.random.IntN(2) == 0 {
		l.send(ctx, url, l.sent[l.device.random.IntN(len(l.sent))])
	}
}

// sendAll sends all copies in any order, after the device's queue is empty.
func (l *lateRequests) sendAll(ctx context.Context, url func() string) error {
	l.sending.Wait()
	if l.device != nil {
		for _, i := range l.device.random.Perm(len(l.sent)) {
			l.send(ctx, url, l.sent[i])
			if i%4 == 0 {
				l.sending.Wait() // so that there are few at once
			}
		}
	}
	l.sending.Wait()
	return errors.Join(l.errs...)
}

// send sends a copy once. Each answer must be one that the transaction may get.
func (l *lateRequests) send(ctx context.Context, url func() string, batch []*transaction) {
	l.sending.Go(func() {
		client := newClient()
		defer client.CloseIdleConnections()
		results, err := post(ctx, client, url(), l.device.token, l.device.clientID, batch)
		if err == nil {
			_, err = settle(batch, results)
		}
		if err != nil && !errors.Is(err, errNoAnswer) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.errs = append(l.errs, err)
		}
	})
}

// TestLateDuplicates has requests arrive a second time when their devices have gone on, and
// all of them once more in the end, in any order, while connections are cut.
func TestLateDuplicates(t *testing.T) {
	t.Parallel()
	each := 250
	if testing.Short() {
		each = 40
		t.Log("short: 40 transactions a device instead of 250")
	}
	b := setup(t)
	w := b.world(t, 6, each)
	for _, d := range w.devices {
		d.most, d.repeats = 10, true
	}
	b.arm(
		rig.RandomFates(b.seed, 3_000, 300_000, rig.CutRequest, rig.CutAnswer, rig.DropAnswer),
		rig.RandomFates(b.seed, 1_000, 30_000, rig.DropAnswer, rig.CutAnswer, rig.CutRequest))
	w.upload(t.Context(), b.through)
	w.await(t)
	b.logEnds(t)
	w.verify(t, b.db)
	require.Positive(t, b.client.Cuts()+b.client.Drops(), "ended connections of the devices")
}
