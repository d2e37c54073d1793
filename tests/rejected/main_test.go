// Package rejected follows rejected writes through their lives: in the database,
// to their authors, and in the hands of the team that runs `postern rejected`.
package rejected_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/local"
	"postern/service/upload"
	"postern/tests/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// testBundle is a running service with the demo's tables and policies.
type testBundle struct {
	*rig.Service
	db         *rig.Database
	alice, bob string // their subs
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	t.Parallel()
	s := rig.NewService(t, rig.DemoPolicies(t))
	return &testBundle{Service: s, db: s.Database, alice: local.UserID("alice"), bob: local.UserID("bob")}
}

// tooLong is a list's name that the demo's check constraint refuses.
var tooLong = strings.Repeat("a", 201)

// rejectedList has a user make a list with a name that is too long, in a
// transaction of that number, and returns the list's id and the record's.
func (b *testBundle) rejectedList(t *testing.T, user string, transaction int) (list, record string) {
	t.Helper()
	list = uuid.NewString()
	body := fmt.Sprintf(`{"client_id":"phone","transactions":[{"transaction_id":%d,"crud":[{"op_id":%[1]d,"op":"PUT","table":"lists","id":%q,"op_data":{"name":%q}}]}]}`,
		transaction, list, tooLong)
	result := b.Upload(t, user, body).Results(t)[0]
	require.Equal(t, "fatal_error", result.Status)
	require.Equal(t, "CHECK_VIOLATION", result.FailedOperation.ErrorCode)
	return list, b.db.Text(t, `select id::text from postern.rejected_writes where transaction::text like '%' || $1 || '%'`, list)
}

// fix makes room for long names.
func (b *testBundle) fix(t *testing.T) {
	t.Helper()
	b.db.Exec(t, `alter table lists drop constraint lists_name_check`)
}

func (b *testBundle) status(t *testing.T, record string) string {
	t.Helper()
	return b.db.Text(t, `select status from postern.rejected_writes where id = $1::uuid`, record)
}

// actions are what was done about a record, and by whom.
func (b *testBundle) actions(t *testing.T, record string) string {
	t.Helper()
	return b.db.Text(t, `select coalesce(string_agg(action || ' by ' || who, ', ' order by id), '') from postern.rejected_actions where record = $1::uuid`, record)
}

// ledger is one connected as the login role.
func (b *testBundle) ledger(t *testing.T) (*ledger.Ledger, *pgxpool.Pool) {
	t.Helper()
	pool, err := service.Connect(b.db.LoginURL)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return ledger.New(pool), pool
}

// who is a user as the service knows them.
func (b *testBundle) who(name string) identity.Identity {
	id := local.UserID(name)
	return identity.Identity{
		Issuer: local.IssuerName, Subject: id, Role: "authenticated", SessionID: "session of " + name,
		Claims: fmt.Appendf(nil, `{"iss":%q,"sub":%q,"role":"authenticated"}`, local.IssuerName, id),
	}
}

// in runs statements in one database transaction.
func in(t *testing.T, pool *pgxpool.Pool, statements ...ledger.Statement) error {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	pipeline := conn.Conn().PgConn().StartPipeline(ctx)
	for _, s := range statements {
		pipeline.SendQueryParams(s.SQL, s.Args, nil, nil, nil)
	}
	require.NoError(t, pipeline.Sync())
	return pipeline.Close()
}

// entry is a transaction of a device's queue.
func (b *testBundle) entry(user, device string, id int, rejection *upload.Rejection) ledger.Entry {
	transaction := upload.Transaction{ID: fmt.Sprint(id), Operations: []upload.Operation{{OpID: fmt.Sprint(id), Op: upload.Delete, Table: "lists", ID: uuid.NewString()}}}
	transaction.Operations[0].ID = uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, user, device, id)).String()
	e := ledger.NewEntry(b.who(user), device, transaction)
	e.Rejection = rejection
	return e
}

// postern runs the command to its end as its user would, and returns what it
// printed.
func postern(t *testing.T, databaseURL string, args ...string) (output string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), rig.Command(t), args...)
	policies, absErr := filepath.Abs("../../policies/demo")
	require.NoError(t, absErr)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+databaseURL, "POSTERN_POLICIES="+policies)
	content, err := cmd.CombinedOutput()
	return string(content), err
}

// mustPostern is postern where nothing goes wrong.
func mustPostern(t *testing.T, databaseURL string, args ...string) string {
	t.Helper()
	output, err := postern(t, databaseURL, args...)
	require.NoError(t, err, output)
	return output
}

func unmarshal(t *testing.T, text string, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), into), text)
}
