package faults_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestOneLockedRow has a session of the database lock a row that 40 devices want. They
// wait, and others do not: meanwhile another device writes 200 times, and no request of
// the 40 comes to its end three times. The stall is that of the other device.
func TestOneLockedRow(t *testing.T) {
	t.Parallel()
	const blocked, others = 40, 200
	db := rig.NewDatabase(t)
	db.Exec(t, `create table stock (id text primary key, n int not null); insert into stock values ('locked', 0), ('free', 0);
		grant select, insert, update, delete on stock to authenticated`)
	s := rig.NewServiceOn(t, db, rig.Policies(t, `tables: {stock: {allow: all, conflict: {increment: [n]}}}`))
	count := func(user, row string, number int) (status string) {
		tx := &transaction{id: number, body: fmt.Sprintf(`{"transaction_id":%d,"crud":[{"op":"PATCH","table":"stock","id":%q,"op_data":{"n":1},"previous_values":{"n":0}}]}`, number, row)}
		client := newClient()
		defer client.CloseIdleConnections()
		results, err := post(context.WithoutCancel(t.Context()), client, s.URL, s.Token(t, user), user, []*transaction{tx})
		if err != nil {
			return err.Error()
		}
		return results[0].Status
	}
	lock, err := db.Owner.Begin(t.Context())
	require.NoError(t, err)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer lock.Rollback(t.Context())
	_, err = lock.Exec(t.Context(), `select from stock where id = 'locked' for update`)
	require.NoError(t, err)

	var (
		most atomic.Int64 // answers that one of the devices got while the row was locked
		free atomic.Bool
	)
	for _, user := range names("device", blocked) {
		waiting.Go(func() {
			for tries := int64(1); count(user, "locked", 1) != "success"; tries++ {
				if !free.Load() && tries > most.Load() {
					most.Store(tries)
				}
			}
		})
	}
	a := &account{sent: others + blocked, acknowledged: others + blocked}
	for i := range others {
		began := time.Now()
		require.Equal(t, "success", count("other", "free", i+1))
		a.stall = max(a.stall, time.Since(began))
	}
	require.Less(t, most.Load(), int64(3), "answers of one device, while another one wrote %d times", others)
	free.Store(true)
	require.NoError(t, lock.Rollback(t.Context()))
	waiting.Wait()
	compare(a, "increment of", map[string]int{"free": others, "locked": blocked}, counts(t, db, `select id, n from stock`))
	a.applied, a.rejected = receipts(t, db, "applied"), receipts(t, db, "rejected")
	a.report(t)
}
