package examples_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service"
	"postern/service/apply"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/upload"
	"postern/tests/rig"
)

// world is an app's database, and what applies uploads to it.
type world struct {
	*rig.Database
	applier  *apply.Applier
	snapshot *catalog.Snapshot
	logs     *rig.Logs
}

func newWorld(t testing.TB, dir string, live *policies.Live) *world {
	t.Helper()
	database := newDatabase(t, dir)
	db, err := service.Connect(database.LoginURL)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	w := &world{Database: database, logs: &rig.Logs{}}
	w.applier = apply.New(db, catalog.New(db, []string{"authenticated"}), live, ledger.New(db), apply.Skip)
	w.snapshot, err = w.applier.Catalog.Current(t.Context())
	require.NoError(t, err)
	return w
}

func app(t testing.TB, name string) *world {
	t.Helper()
	live, err := policies.Load(filepath.Join(examples, name))
	require.NoError(t, err)
	return newWorld(t, filepath.Join(examples, name), live)
}

// as is a user with claims of their own.
func as(t testing.TB, sub string, claims map[string]any) identity.Identity {
	t.Helper()
	all := map[string]any{"sub": sub, "role": "authenticated"}
	for name, value := range claims {
		all[name] = value
	}
	raw, err := json.Marshal(all)
	require.NoError(t, err)
	return identity.Identity{Issuer: "test", Subject: sub, Role: "authenticated", Claims: raw}
}

// upload applies one transaction and returns its outcome: success, the code of
// the rejection, or the status.
func (w *world) upload(t testing.TB, who identity.Identity, crud string) (string, upload.Result) {
	t.Helper()
	result := w.apply(t, who, transaction(t, crud))
	if result.FailedOperation != nil {
		return string(result.FailedOperation.ErrorCode), result
	}
	return string(result.Status), result
}

func (w *world) apply(t testing.TB, who identity.Identity, transaction upload.Transaction) upload.Result {
	t.Helper()
	logger := slog.New(slog.NewJSONHandler(w.logs, nil))
	return w.applier.Apply(t.Context(), logger, who, upload.Batch{Transactions: []upload.Transaction{transaction}}, nil)[0]
}

func transaction(t testing.TB, crud string) upload.Transaction {
	t.Helper()
	batch, err := upload.DecodeBatch([]byte(`{"transactions":[{"crud":[` + crud + `]}]}`))
	require.NoError(t, err)
	return batch.Transactions[0]
}

func marshal(t testing.TB, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return string(text)
}
