package apply

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/catalog"
	"postern/service/upload"
)

// TestExpectTables has the operations after which a step compares their tables with the
// catalogue.
func TestExpectTables(t *testing.T) {
	t.Parallel()
	b := setupShop(t)
	put, patch, remove := write(upload.Put, "lists", "l1", "title", `"a"`), write(upload.Patch, "lists", "l1", "title", `"a"`), write(upload.Delete, "lists", "l1")
	for _, test := range []struct {
		name       string
		age        time.Duration
		operations []upload.Operation
		want       string // the OIDs; empty if there is no step
	}{
		{"Put", 0, []upload.Operation{put}, ""},
		{"PatchThatMayFindNoRow", 0, []upload.Operation{patch}, `{"1"}`},
		{"DeletesThatMayFindNoRow", 0, []upload.Operation{put, remove, remove}, `{"1"}`},
		{"NotYetOld", catalog.MaxAge - time.Second, []upload.Operation{put}, ""},
		{"Old", catalog.MaxAge + time.Second, []upload.Operation{put}, `{"1"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := &attempt{request: &request{snapshot: &catalog.Snapshot{ReadAt: time.Now().Add(-test.age)}}}
			a.expectTables([]*transaction{b.transaction(t, test.operations...)})
			if test.want == "" {
				require.Empty(t, a.steps)
				return
			}
			require.Len(t, a.steps, 1)
			require.Equal(t, test.want, string(a.steps[0].Args[0]))
		})
	}
}
