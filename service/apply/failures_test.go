package apply

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"postern/service/identity"
	"postern/service/ledger"
)

func TestStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &Applier{failures: newFailureTracker()}
		full := &pgconn.PgError{Code: "53100"}
		fail := func(n byte, err error) time.Duration {
			_, _, failing := a.failures.failed(identity.Identity{Subject: string(n)}, ledger.Digest{Sum: [32]byte{n}}, err)
			return failing
		}
		for range 10 {
			fail(1, full)
			fail(2, errors.New("connection reset"))
			require.Empty(t, a.Stuck())
			time.Sleep(time.Minute)
		}
		require.Equal(t, 10*time.Minute, fail(1, full))
		fail(2, errors.New("connection reset"))
		fail(3, full)
		require.Equal(t, map[string]int{"53100": 1, "no answer": 1}, a.Stuck())

		a.failures.succeeded(identity.Identity{Subject: "\x02"}, []*transaction{{Entry: ledger.Entry{Digest: ledger.Digest{Sum: [32]byte{2}}}}})
		require.Equal(t, map[string]int{"53100": 1}, a.Stuck())
		now := time.Now()
		require.Equal(t, []StuckQueue{{"", "\x01", "53100", now.Add(-10 * time.Minute), now}}, a.StuckQueues())
		time.Sleep(6 * time.Minute)
		require.Empty(t, a.Stuck(), "its device has gone")
	})
}
