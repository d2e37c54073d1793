package conformance_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/tests/rig"
)

// TestCrowdOfReaders has a user dismiss a rejected write ten times at once, while somebody
// else holds its lock. The pool has four connections. The user waits on one of them, so that
// others can write.
func TestCrowdOfReaders(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	db.Exec(t, `create table notes (id text primary key); grant select, insert, update on notes to authenticated`)
	s := rig.NewServiceOn(t, db, rig.Policies(t, `tables: {notes: {allow: all}}`), func(c *service.Config) { c.DatabaseURL += "&pool_max_conns=4" })
	require.Equal(t, "fatal_error", s.One(t, "alice", op("PUT", "others", "1", "")).Status)
	id := db.Text(t, `select id::text from postern.rejected_writes`)
	lock, err := db.Owner.Begin(t.Context())
	require.NoError(t, err)
	defer lock.Rollback(context.WithoutCancel(t.Context()))
	_, err = lock.Exec(t.Context(), `select from postern.rejected_writes for update`)
	require.NoError(t, err)
	token := s.Token(t, "alice")
	var asking sync.WaitGroup
	for range 10 {
		asking.Go(func() {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/api/rejected/"+id+"/dismiss", http.NoBody)
			if err != nil {
				return
			}
			request.Header.Set("Authorization", "Bearer "+token)
			if response, err := http.DefaultClient.Do(request); err == nil {
				response.Body.Close()
			}
		})
	}
	require.Eventually(t, func() bool {
		return db.Text(t, `select count(*) from pg_stat_activity where usename = 'postern' and datname = current_database() and wait_event_type = 'Lock'`) != "0"
	}, 10*time.Second, 5*time.Millisecond)
	for i := range 50 {
		require.Equal(t, "success", s.One(t, "bob", op("PUT", "notes", fmt.Sprint(i), "")).Status)
	}
	require.NoError(t, lock.Rollback(t.Context()))
	asking.Wait()
	require.Equal(t, "dismissed", db.Text(t, `select status from postern.rejected_writes`))
}
