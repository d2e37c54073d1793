package examples_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postern/service/apply"
	"postern/service/identity"
	"postern/service/upload"
	"postern/tests/rig"
)

// strategies open one table in every way that asks something of the stored row.
const strategies = `
tables:
  plain: {table: todos, allow: all}
  newest: {table: todos, allow: all, conflict: {newest: updated_at}}
  version: {table: todos, allow: all, conflict: {version: rev}}
  fields: {table: todos, allow: all, conflict: fields}
  increment: {table: todos, allow: all, conflict: {increment: [qty, price]}}
  server: {table: todos, allow: all, conflict: server}
  reject: {table: todos, allow: all, conflict: reject, client: [CONFLICT]}
  owned: {table: todos, allow: all, owner: owner_id, immutable: [note]}
  replaced: {table: todos, allow: all, put: replace, soft_delete: deleted}
  inserted: {table: todos, allow: all, put: insert, on_missing: reject}
  ruled:
    table: todos
    allow: all
    conflict: {increment: [qty]}
    set: {mood: {value: "has(data.done) && data.done != null ? string(data.done) : 'none'", on: [patch]}}
    rules:
      - {name: stock, check: new.qty >= 0, code: OUT_OF_STOCK, message: No}
      - {name: stays, on: [patch, delete], when: old.done, check: op == 'patch' && new.done, code: DONE, message: No}
      - {name: price, on: [put, patch], when: has(data.price), check: new.price == null || new.price < 100.0, code: TOO_DEAR, message: No}`

// TestOfflineIsPostgres has random transactions decided without a database and
// made in Postgres, and finds no difference in their outcomes or rows.
func TestOfflineIsPostgres(t *testing.T) {
	t.Parallel()
	live := rig.Policies(t, strategies)
	w := newWorld(t, testdata, live)
	set, err := live.For(w.snapshot)
	require.NoError(t, err)
	me := as(t, ann, nil)
	decided := 0
	rapid.Check(t, func(r *rapid.T) {
		id := uuid.NewString()
		offline := apply.NewOffline(set, w.snapshot)
		require.NoError(r, offline.Default("plain", members(`{"done":false,"qty":0,"rev":1,"deleted":false}`)))
		if rapid.Bool().Draw(r, "a row is there") {
			stored := drawColumns(r, "row", false)
			require.NoError(r, offline.Row("plain", id, members(stored)))
			_, err := w.Owner.Exec(context.Background(), `insert into todos (id, title, note, done, qty, price, meta, updated_at, rev, owner_id, deleted)
				select $1, title, note, done, qty, price, meta, updated_at, rev, owner_id, deleted from jsonb_populate_record(null::todos, $2)`, id, stored)
			require.NoError(r, err)
		}
		for range rapid.IntRange(1, 3).Draw(r, "transactions") {
			if !compareOne(r, t, w, offline, me, id) {
				return // undecidable, which is said
			}
			decided++
		}
	})
	require.Greater(t, decided, 25)
}

func compareOne(r *rapid.T, t *testing.T, w *world, offline *apply.Offline, me identity.Identity, id string) bool {
	var crud []string
	for range rapid.IntRange(1, 3).Draw(r, "operations") {
		crud = append(crud, drawOperation(r, id))
	}
	tx := transaction(t, strings.Join(crud, ","))
	decision, err := offline.Decide(context.Background(), me, time.Now(), tx)
	result := w.apply(t, me, tx)
	var undecidable *apply.Undecidable
	if errors.As(err, &undecidable) {
		return false
	}
	require.NoError(r, err)
	got := upload.Result{Status: upload.Success}
	if decision.Rejection != nil {
		got = upload.Rejected(decision.Rejection)
	}
	require.Equal(r, summary(result), summary(got), "%s\n%s", strings.Join(crud, "\n"), w.logs)
	stored := w.Text(t, `select coalesce((select to_jsonb(t) - 'doubled' - 'id' from todos t where id = $1), 'null')::text`, id)
	_, columns, there, err := offline.Stored("plain", id)
	require.NoError(r, err)
	var row map[string]jsontext.Value
	require.NoError(r, json.Unmarshal([]byte(stored), &row))
	require.Equal(r, row != nil, there, "%s\n%s", strings.Join(crud, "\n"), stored)
	for name, value := range row {
		if _, known := columns[name]; !known {
			continue
		}
		why, err := offline.Holds("plain", id, name, value)
		require.NoError(r, err)
		require.Empty(r, why, "%s of %s after\n%s", name, stored, strings.Join(crud, "\n"))
	}
	return true
}

// summary is what must be the same: the status, the code, the operation and who
// handles it.
func summary(r upload.Result) string {
	if r.FailedOperation == nil {
		return string(r.Status)
	}
	index := -1
	if r.FailedOperation.OperationIndex != nil {
		index = *r.FailedOperation.OperationIndex
	}
	return fmt.Sprint(r.Status, " ", r.FailedOperation.ErrorCode, " ", index, " ", *r.RequiresClientHandling)
}

func drawOperation(r *rapid.T, id string) string {
	table := rapid.SampledFrom([]string{"plain", "newest", "version", "fields", "increment", "server", "reject", "owned", "replaced", "inserted", "ruled"}).Draw(r, "table")
	verb := rapid.SampledFrom([]string{"PUT", "PATCH", "PATCH", "PATCH", "DELETE"}).Draw(r, "op")
	crud := fmt.Sprintf(`{"op":%q,"table":%q,"id":%q`, verb, table, id)
	if verb != "DELETE" {
		crud += `,"op_data":` + drawColumns(r, "data", true)
	}
	if verb != "PUT" && rapid.IntRange(0, 3).Draw(r, "tracked") > 0 {
		crud += `,"previous_values":` + drawColumns(r, "previous", false)
	}
	return crud + "}"
}

// The values that columns are drawn from: few, so that they often meet.
var domain = map[string][]string{
	"title": {`"a"`, `"b"`}, "note": {`null`, `"n"`, `"m"`}, "done": {`true`, `false`}, "qty": {`0`, `1`, `5`, `-1`},
	"price": {`null`, `1.5`, `1.50`, `2`, `99.999`, `"100.00"`}, "meta": {`null`, `{"a":1,"b":[true]}`, `{"b":[true],"a":1.0}`, `[]`},
	"updated_at": {`null`, `"2026-01-01T10:00:00Z"`, `"2026-01-01 11:00:00+01:00"`, `"2026-01-02T00:00:00Z"`},
	"rev":        {`1`, `2`, `3`}, "owner_id": {`null`, `"` + ann + `"`, `"` + ben + `"`}, "deleted": {`true`, `false`},
}

// drawColumns draws a row, or some of its columns.
func drawColumns(r *rapid.T, label string, some bool) string {
	names := make([]string, 0, len(domain))
	for name := range domain {
		names = append(names, name)
	}
	slices.Sort(names)
	var columns []string
	for _, name := range names {
		if some && rapid.IntRange(0, 2).Draw(r, label+" without "+name) == 0 {
			continue
		}
		columns = append(columns, fmt.Sprintf("%q:%s", name, rapid.SampledFrom(domain[name]).Draw(r, label+"."+name)))
	}
	return "{" + strings.Join(columns, ",") + "}"
}

func members(object string) (list []upload.Member) {
	var columns map[string]jsontext.Value
	if err := json.Unmarshal([]byte(object), &columns); err != nil {
		panic(err) // of this file's own making
	}
	for name, value := range columns {
		list = append(list, upload.Member{Name: name, Value: value})
	}
	return list
}
