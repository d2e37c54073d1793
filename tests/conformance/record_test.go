package conformance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/service/record"
	"postern/tests/rig"
)

// TestRecord has a service that records requests: those that are applied, with the claims
// of the user and without the token.
func TestRecord(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "requests.jsonl")
	s := rig.NewService(t, rig.DemoPolicies(t), func(c *service.Config) { c.Record = path })
	b := &testBundle{Service: s, db: s.Database}
	list := uuid.NewString()
	put := func(table, name string) string {
		return fmt.Sprintf(`{"op":"PUT","table":%q,"id":%q,"op_data":{"name":%q}}`, table, list, name)
	}
	for range 2 { // the second time, the answer is known
		require.Equal(t, "success", b.Upload(t, "alice", `{"client_id":"phone","transactions":[{"transaction_id":7,"crud":[`+put("lists", "first")+`]}]}`).Results(t)[0].Status)
	}
	require.Equal(t, "UNAUTHORIZED", b.outcome(t, "bob", put("nowhere", "rejected")))
	s.Database.Exec(t, `alter table lists rename to renamed`)
	require.Equal(t, "retryable_error", b.One(t, "alice", put("lists", "retried")).Status)
	require.Eventually(t, func() bool {
		return slices.Equal(counted(t, b, "postern_recorded_requests_total{"), []string{`postern_recorded_requests_total{outcome="dropped"} 0`, `postern_recorded_requests_total{outcome="written"} 1`})
	}, 10*time.Second, 10*time.Millisecond)

	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(content), strings.Split(b.Token(t, "alice"), ".")[0], "no token")
	var got []string
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	for request, err := range record.Read(f) {
		require.NoError(t, err)
		require.Equal(t, "authenticated", request.Role)
		require.Contains(t, string(request.Claims), request.Subject)
		got = append(got, fmt.Sprintf("%s %s", request.ClientID, request.Transactions))
	}
	require.Equal(t, []string{
		`phone [{"transaction_id":7,"crud":[{"id":"` + list + `","op":"PUT","table":"lists","op_data":{"name":"first"}}]}]`,
	}, got)
}
