package catalog

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// unreachable is a database that does not answer.
type unreachable struct{}

var errUnreachable = errors.New("unreachable")

func (unreachable) BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error) {
	return nil, errUnreachable
}

// TestRunRetries has Run wait twice as long after each failure, up to a second.
func TestRunRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var waits []time.Duration
		last := time.Now()
		New(unreachable{}, nil).Run(ctx, func(s *Snapshot, err error) {
			require.Nil(t, s)
			require.ErrorIs(t, err, errUnreachable)
			waits, last = append(waits, time.Since(last)), time.Now()
			if len(waits) == 9 {
				cancel()
			}
		})
		require.Equal(t, []time.Duration{
			0, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, time.Second, time.Second, time.Second, time.Second, time.Second,
		}, waits)
	})
}

func TestCurrentWithoutADatabase(t *testing.T) {
	t.Parallel()
	c := New(unreachable{}, nil)
	s, err := c.Current(t.Context())
	require.ErrorIs(t, err, errUnreachable)
	require.ErrorContains(t, err, "the database's catalogue")
	require.Nil(t, s)

	read := &Snapshot{ReadAt: time.Now()}
	c.current.Store(read)
	s, err = c.Current(t.Context())
	require.NoError(t, err)
	require.Same(t, read, s)
	require.ErrorIs(t, c.Refresh(t.Context()), errUnreachable)
	require.Same(t, read, c.Snapshot(), "a failure keeps the old snapshot")
}

func TestRefreshIfOlderThan(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		age, most time.Duration
		want      int
	}{
		{"Young", time.Second, time.Minute, 0},
		{"Old", 2 * time.Minute, time.Minute, 1},
		{"AnyAge", time.Second, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			catalog := New(unreachable{}, nil)
			catalog.RefreshIfOlderThan(c.most)
			require.Empty(t, catalog.stale, "Run reads the first snapshot without being asked")
			catalog.current.Store(&Snapshot{ReadAt: time.Now().Add(-c.age)})
			catalog.RefreshIfOlderThan(c.most)
			catalog.RefreshIfOlderThan(c.most)
			require.Len(t, catalog.stale, c.want)
		})
	}
}

// slow is a database that takes a while to fail.
type slow struct{ began *[]time.Duration }

func (s slow) BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error) {
	*s.began = append(*s.began, time.Duration(time.Now().UnixNano()))
	time.Sleep(10 * time.Millisecond)
	return nil, errUnreachable
}

func TestRefreshPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var began []time.Duration
		c, start := New(slow{&began}, nil), time.Duration(time.Now().UnixNano())
		for range 3 {
			require.ErrorIs(t, c.Refresh(t.Context()), errUnreachable)
		}
		time.Sleep(time.Minute)
		require.ErrorIs(t, c.Refresh(t.Context()), errUnreachable)
		for i, want := range []time.Duration{0, 20 * time.Millisecond, 40 * time.Millisecond, 50*time.Millisecond + time.Minute} {
			require.Equal(t, want, began[i]-start)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, c.Refresh(ended), context.Canceled)
	})
}
