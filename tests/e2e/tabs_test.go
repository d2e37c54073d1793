package e2e_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two tabs share a queue, and what each writes takes effect once, also if one of them is
// closed with writes queued.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	for _, sync := range []string{"shared", "separate"} {
		t.Run(sync, func(t *testing.T) {
			needBrowser(t)
			b := setup(t)
			b.db.Exec(t, noteEffects)
			r := b.runNode(t, "scenarios/two-tabs.mjs", sync)

			var want []string
			for tab := range 2 {
				for i := range 20 {
					want = append(want, fmt.Sprintf("%d of tab %d", i+1, tab+1))
				}
				want = append(want, fmt.Sprintf("offline of tab %d", tab+1))
			}
			names := []string{}
			for _, list := range r.Lists {
				names = append(names, list.Name)
			}
			require.ElementsMatch(t, want, names, "what the second tab sees")
			require.Equal(t, "42", b.db.Text(t, `select count(*) from effects where operation = 'INSERT'`))
			require.Equal(t, "42", b.db.Text(t, `select count(*) from effects`))
			require.Equal(t, "42", b.db.Text(t, `select count(*) from lists where owner_id = $1`, b.alice))
			require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
			for _, upload := range r.Uploads {
				require.Equal(t, r.ClientID, upload.Request.ClientID)
			}
		})
	}
}

// A tab that is suspended in the middle of an upload goes on when it wakes.
func TestSuspendedTab(t *testing.T) {
	needBrowser(t)
	b := setup(t)
	b.db.Exec(t, noteEffects)
	r := b.run(t, "suspended")

	require.Equal(t, "INSERT Groceries,INSERT Chores", b.db.Text(t, `select string_agg(operation || ' ' || name, ',' order by number) from effects`))
	require.Len(t, r.Lists, 2)
	require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
}
