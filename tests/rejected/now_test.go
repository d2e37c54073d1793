package rejected_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

type nowPage struct {
	NotReady string `json:"not_ready"`
	Minutes  []struct{ Requests, Results map[string]float64 }
	Pool     struct{ Most int }
	KeySets  []struct {
		Issuer string
		Keys   int
	} `json:"key_sets"`
	Policies struct{ Folder, SHA256, Content, Problem, Failure string }
	Stuck    []struct{ Subject string }
}

func TestConsoleNow(t *testing.T) {
	b := setup(t)
	b.rejectedList(t, "alice", 1)
	require.Equal(t, "success", b.One(t, "alice", `{"op":"PUT","table":"lists","id":"11111111-1111-4111-8111-111111111111","op_data":{"name":"Groceries"}}`).Status)
	require.Equal(t, http.StatusUnauthorized, b.Send(t, http.MethodPost, "/api/data", "").Status)
	var now nowPage
	b.get(t, "/api/now", &now)
	requests, results := map[string]float64{}, map[string]float64{}
	for _, minute := range now.Minutes {
		for class, n := range minute.Requests {
			requests[class] += n
		}
		for status, n := range minute.Results {
			results[status] += n
		}
	}
	require.Equal(t, map[string]float64{"2": 2, "4": 1}, requests)
	require.Equal(t, []float64{1, 1, 0}, []float64{results["success"], results["fatal_error"], results["retryable_error"]})
	require.Empty(t, now.NotReady)
	require.Equal(t, 20, now.Pool.Most)
	require.Len(t, now.KeySets, 1)
	require.Equal(t, 1, now.KeySets[0].Keys)
	require.Contains(t, now.Policies.Content, "tables")
	require.NotEmpty(t, now.Policies.SHA256)
	require.Empty(t, now.Stuck)
}

// The policies in force stay, and the page says what is wrong with the newest.
func TestConsoleNowFailedReload(t *testing.T) {
	t.Parallel()
	live := rig.Policies(t, "tables: {lists: {allow: all}}")
	s := rig.NewService(t, live)
	b := &testBundle{Service: s, db: s.Database}
	file := filepath.Join(live.Dir(), "test.yaml")
	state := func() (now nowPage) {
		b.get(t, "/api/now", &now)
		return now
	}
	before := state()
	require.Empty(t, before.Policies.Problem)
	require.NoError(t, os.WriteFile(file, []byte("tables: {lists: {allow: most}}"), 0o600))
	require.Eventually(t, func() bool { return state().Policies.Failure != "" }, time.Minute, 20*time.Millisecond)
	failed := state().Policies
	require.Contains(t, failed.Problem, "test.yaml:1:")
	require.Equal(t, failed.Problem, failed.Failure)
	require.Equal(t, before.Policies.SHA256, failed.SHA256)

	require.NoError(t, os.WriteFile(file, []byte("tables: {lists: {allow: [create]}}"), 0o600))
	require.Eventually(t, func() bool {
		now := state().Policies
		return now.SHA256 != before.Policies.SHA256 && now.Problem == ""
	}, time.Minute, 20*time.Millisecond)
	require.Equal(t, failed.Failure, state().Policies.Failure, "what failed last is still shown")
}

// TestConsoleNowNotReady has a table dropped that a policy names.
func TestConsoleNowNotReady(t *testing.T) {
	b := setup(t)
	b.db.Exec(t, `drop table lists cascade`)
	require.Equal(t, "retryable_error", b.One(t, "alice", `{"op":"PUT","table":"lists","id":"11111111-1111-4111-8111-111111111111","op_data":{"name":"Groceries"}}`).Status)
	var now nowPage
	b.get(t, "/api/now", &now)
	require.Contains(t, now.NotReady, "the database has no table public.lists")
}

func TestConsoleDoctor(t *testing.T) {
	b := setup(t)
	status, answer := b.page(t, http.MethodPost, "/api/now/doctor", "{}")
	require.Equal(t, http.StatusOK, status, answer)
	var found struct {
		Findings []struct{ Check, Severity, Cause, Remedy string }
	}
	unmarshalPage(t, answer, &found)
	require.NotEmpty(t, found.Findings, "the test's database has no publication, at least")
	for _, f := range found.Findings {
		require.NotEmpty(t, f.Check)
		require.NotEmpty(t, f.Severity)
		require.NotEmpty(t, f.Cause)
		require.NotEmpty(t, f.Remedy)
	}
	status, _ = b.page(t, http.MethodGet, "/api/now/doctor", "")
	require.Equal(t, http.StatusNotFound, status)
}
