package conformance_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// setupColumns has one table with a column for each strategy, known by several names.
func setupColumns(t *testing.T) *testBundle {
	t.Helper()
	return setupSchema(t, `
		create table docs (id text primary key, title text, qty int, price numeric(10,2), notes text, updated_at timestamptz, plain text, increment int, "column" text, seen_at timestamp);
		create table doc_changes (row_id text, field text, previous jsonb, value jsonb);
		alter table docs enable row level security;
		create policy visible on docs to authenticated using (title is distinct from 'hidden');
		grant select, insert, update, delete on docs to authenticated;
		grant insert on doc_changes to authenticated;`, `
tables:
  docs: &docs {table: docs, allow: all, conflict: {columns: {title: {newest: updated_at}, qty: increment, notes: fields, price: reject}}}
  kept: {<<: *docs, history: doc_changes}
  others: {table: docs, allow: all, conflict: {columns: {qty: increment, '*': fields}}}
  rejects: {table: docs, allow: all, conflict: {columns: {qty: increment, '*': reject}}}
  words: {table: docs, allow: all, conflict: {columns: {increment: increment, column: fields}}}
  inserts: {<<: *docs, put: insert}
  bounded: {table: docs, allow: all, conflict: {newest: {column: updated_at, ahead: 5m}}}
  whole: {table: docs, allow: all, conflict: fields}
  sums: {table: docs, allow: all, conflict: {increment: [qty]}}
  boundedColumn: {table: docs, allow: all, conflict: {columns: {title: {newest: {column: seen_at, ahead: 5m}}}}}
  judged:
    table: docs
    allow: all
    conflict: {columns: {qty: increment, title: {newest: updated_at}}}
    rules:
      - {name: enough, on: [put, patch], when: has(data.qty), check: new.qty == null || new.qty >= 0, code: TOO_FEW, message: Too few}
      - {name: calm, on: [put, patch], when: has(data.title), check: new.title != 'loud', code: LOUD, message: Too loud}`)
}

const (
	before = `"updated_at":"2026-11-23T09:00:00Z"`
	equal  = `"updated_at":"2026-11-23T10:00:00Z"`
	after  = `"updated_at":"2026-11-23T11:00:00Z"`
)

func put(table, id, data, previous string) string {
	return strings.Replace(patch(table, id, data, previous), "PATCH", "PUT", 1)
}

func deletion(table, id, previous string) string {
	return fmt.Sprintf(`{"op":"DELETE","table":%q,"id":%q,"previous_values":{%s}}`, table, id, previous)
}

// TestConflictByColumn is a table of strategies, verbs and what is stored. Each case
// begins with the row title a, qty 10, price 1.50, notes n, at ten o'clock.
func TestConflictByColumn(t *testing.T) {
	t.Parallel()
	b := setupColumns(t)
	const first = "a 10 1.50 n 10:00"
	for i, test := range []struct {
		name    string
		crud    func(id string) string
		outcome string
		row     string
	}{
		{"NewestPatchLater", func(id string) string { return op("PATCH", "docs", id, `"title":"b",`+after) }, "success", "b 10 1.50 n 11:00"},
		{"NewestPatchAtTheSameTime", func(id string) string { return op("PATCH", "docs", id, `"title":"b",`+equal) }, "success", "b 10 1.50 n 10:00"},
		{"NewestPatchEarlier", func(id string) string { return op("PATCH", "docs", id, `"title":"b",`+before) }, "success", first},
		{"NewestPatchWithoutTime", func(id string) string { return op("PATCH", "docs", id, `"title":"b"`) }, "INVALID_DATA", first},
		{"NewestPatchWithNull", func(id string) string { return op("PATCH", "docs", id, `"title":"b","updated_at":null`) }, "INVALID_DATA", first},
		{"NewestPutLater", func(id string) string { return op("PUT", "docs", id, `"title":"b",`+after) }, "success", "b 10 1.50 n 11:00"},
		{"NewestPutEarlier", func(id string) string { return op("PUT", "docs", id, `"title":"b",`+before) }, "success", first},
		{"NewestPutWithoutTime", func(id string) string { return op("PUT", "docs", id, `"title":"b"`) }, "INVALID_DATA", first},
		{"NewestPreviousValuesDoNotMatter", func(id string) string { return patch("docs", id, `"title":"b",`+before, `"title":"a"`) }, "success", first},
		{"TimeAloneLater", func(id string) string { return op("PATCH", "docs", id, after) }, "success", "a 10 1.50 n 11:00"},
		{"TimeAloneEarlier", func(id string) string { return op("PATCH", "docs", id, before) }, "success", first},
		{"TimeAloneNull", func(id string) string { return op("PATCH", "docs", id, `"updated_at":null`) }, "success", first},
		{"NewestDelete", func(id string) string { return op("DELETE", "docs", id, ``) }, "success", ""},

		{"IncrementPatch", func(id string) string { return patch("docs", id, `"qty":7`, `"qty":9`) }, "success", "a 8 1.50 n 10:00"},
		{"IncrementPatchOfNothing", func(id string) string { return patch("docs", id, `"qty":9`, `"qty":9`) }, "success", first},
		{"IncrementPatchFromNull", func(id string) string { return patch("docs", id, `"qty":3`, `"qty":null`) }, "success", "a 13 1.50 n 10:00"},
		{"IncrementPatchToNull", func(id string) string { return patch("docs", id, `"qty":null`, `"qty":9`) }, "success", "a 1.50 n 10:00"},
		{"IncrementPatchWithoutPrevious", func(id string) string { return op("PATCH", "docs", id, `"qty":7`) }, "INVALID_DATA", first},
		{"IncrementPut", func(id string) string { return op("PUT", "docs", id, `"qty":7`) }, "success", first},
		{"IncrementPutWithPrevious", func(id string) string { return put("docs", id, `"qty":7`, `"qty":9`) }, "success", "a 8 1.50 n 10:00"},
		{"IncrementDelete", func(id string) string { return deletion("docs", id, `"qty":9`) }, "success", ""},

		{"FieldsPatchOfWhatIsStored", func(id string) string { return patch("docs", id, `"notes":"mine"`, `"notes":"n"`) }, "success", "a 10 1.50 mine 10:00"},
		{"FieldsPatchOfWhatHasChanged", func(id string) string { return patch("docs", id, `"notes":"mine"`, `"notes":"old"`) }, "success", first},
		{"FieldsPatchFromNull", func(id string) string { return patch("docs", id, `"notes":"mine"`, `"notes":null`) }, "success", first},
		{"FieldsPatchWithoutPrevious", func(id string) string { return op("PATCH", "docs", id, `"notes":"mine"`) }, "INVALID_DATA", first},
		{"FieldsPut", func(id string) string { return op("PUT", "docs", id, `"notes":"mine"`) }, "success", "a 10 1.50 mine 10:00"},
		{"FieldsPutOfWhatHasChanged", func(id string) string { return put("docs", id, `"notes":"mine"`, `"notes":"old"`) }, "success", first},
		{"FieldsDelete", func(id string) string { return deletion("docs", id, `"notes":"old"`) }, "success", ""},

		{"RejectPatchOfWhatIsStored", func(id string) string { return patch("docs", id, `"price":2`, `"price":1.5`) }, "success", "a 10 2.00 n 10:00"},
		{"RejectPatchOfWhatHasChanged", func(id string) string { return patch("docs", id, `"price":2,"qty":9`, `"price":1,"qty":10`) }, "CONFLICT", first},
		{"RejectPatchOfAnotherColumn", func(id string) string { return patch("docs", id, `"qty":9`, `"price":1,"qty":10`) }, "success", "a 9 1.50 n 10:00"},
		{"RejectPatchWithoutPrevious", func(id string) string { return op("PATCH", "docs", id, `"price":2`) }, "INVALID_DATA", first},
		{"RejectPut", func(id string) string { return op("PUT", "docs", id, `"price":2`) }, "CONFLICT", first},
		{"RejectPutOfWhatIsStored", func(id string) string { return op("PUT", "docs", id, `"price":1.5,"notes":"mine"`) }, "success", "a 10 1.50 mine 10:00"},
		{"RejectPutWithPrevious", func(id string) string { return put("docs", id, `"price":2`, `"price":1.5`) }, "success", "a 10 2.00 n 10:00"},
		{"RejectDelete", func(id string) string { return op("DELETE", "docs", id, ``) }, "success", ""},
		{"RejectDeleteOfWhatIsStored", func(id string) string { return deletion("docs", id, `"price":1.5`) }, "success", ""},
		{"RejectDeleteOfWhatHasChanged", func(id string) string { return deletion("docs", id, `"price":1`) }, "CONFLICT", first},

		{"NoStrategyPatch", func(id string) string { return op("PATCH", "docs", id, `"plain":"last"`) }, "success", first + " last"},
		{"AllAtOnce", func(id string) string {
			return patch("docs", id, `"title":"b",`+before+`,"qty":12,"notes":"mine","price":3`, `"qty":10,"notes":"n","price":1.5`)
		}, "success", "a 12 3.00 mine 10:00"},
		{"AllOthersAreFields", func(id string) string {
			return patch("others", id, `"plain":"p","title":"b"`, `"plain":null,"title":"old"`)
		}, "success", first + " p"},
		{"AllOthersReject", func(id string) string { return patch("rejects", id, `"qty":11,"plain":"p"`, `"qty":10,"plain":"old"`) }, "CONFLICT", first},
		{"AllOthersRejectUnlessTheyAreWritten", func(id string) string { return patch("rejects", id, `"qty":11`, `"qty":10,"plain":"old"`) }, "success", "a 11 1.50 n 10:00"},
		{"ColumnsCalledLikeStrategies", func(id string) string {
			return patch("words", id, `"increment":2,"column":"c"`, `"increment":1,"column":"old"`)
		}, "success", first + " 1"},
		{"PutThatInsertsOnly", func(id string) string { return op("PUT", "inserts", id, `"qty":1`) }, "UNIQUE_VIOLATION", first},
		{"PutThatInsertsOnlyAndAPatch", func(id string) string { return patch("inserts", id, `"qty":11`, `"qty":10`) }, "success", "a 11 1.50 n 10:00"},
		{"PatchOfAMissingRow", func(id string) string { return patch("docs", "no "+id, `"qty":1,"price":1`, `"qty":0,"price":0`) }, "success", first},
		{"TwoInOneTransaction", func(id string) string {
			return patch("docs", id, `"qty":11,"price":2`, `"qty":10,"price":1.5`) + "," + patch("docs", id, `"qty":12,"price":3`, `"qty":11,"price":2`)
		}, "success", "a 12 3.00 n 10:00"},

		{"RuleSeesTheMergedValue", func(id string) string { return patch("judged", id, `"qty":1`, `"qty":12`) }, "TOO_FEW", first},
		{"RuleSeesTheSum", func(id string) string { return patch("judged", id, `"qty":-1`, `"qty":0`) }, "success", "a 9 1.50 n 10:00"},
		{"RuleSeesTheStoredTitle", func(id string) string { return op("PATCH", "judged", id, `"title":"loud",`+before) }, "success", first},
		{"RuleSeesTheNewTitle", func(id string) string { return op("PATCH", "judged", id, `"title":"loud",`+after) }, "LOUD", first},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			id := fmt.Sprint("d", i)
			b.db.Exec(t, `insert into docs (id, title, qty, price, notes, updated_at) values ($1, 'a', 10, 1.5, 'n', '2026-11-23 10:00Z')`, id)
			result := b.One(t, "alice", test.crud(id))
			outcome := result.Status
			if result.FailedOperation != nil {
				outcome = result.FailedOperation.ErrorCode
			}
			require.Equal(t, test.outcome, outcome)
			require.Equal(t, test.row, columnsOf(t, b, id))
		})
	}
}

func columnsOf(t *testing.T, b *testBundle, id string) string {
	t.Helper()
	return b.db.Text(t, `select coalesce((select concat_ws(' ', title, qty, price, notes, to_char(updated_at at time zone 'UTC', 'HH24:MI'), plain, increment, "column") from docs where id = $1), '')`, id)
}

// TestConflictByColumnInserts has a PUT of a row that does not exist: it is stored as sent.
func TestConflictByColumnInserts(t *testing.T) {
	t.Parallel()
	b := setupColumns(t)
	b.succeed(t, "alice", op("PUT", "docs", "i", `"title":"t","qty":3,"price":2,"notes":"x",`+equal))
	require.Equal(t, "t 3 2.00 x 10:00", columnsOf(t, b, "i"))
	result := b.One(t, "alice", patch("docs", "hidden", `"qty":1`, `"qty":0`))
	require.Equal(t, "success", result.Status, "no such row")
	b.db.Exec(t, `insert into docs (id, title, qty) values ('hidden', 'hidden', 5)`)
	result = b.One(t, "alice", patch("docs", "hidden", `"qty":2`, `"qty":0`))
	require.Equal(t, "UNAUTHORIZED", result.FailedOperation.ErrorCode)
	require.Equal(t, "5", b.db.Text(t, `select qty::text from docs where id = 'hidden'`))
}

// TestConflictByColumnHistory records what was stored, and not what was sent.
func TestConflictByColumnHistory(t *testing.T) {
	t.Parallel()
	b := setupColumns(t)
	b.db.Exec(t, `insert into docs (id, title, qty, notes, updated_at) values ('h', 'a', 10, 'n', '2026-11-23 10:00Z')`)
	b.succeed(t, "alice", patch("kept", "h", `"title":"late",`+before+`,"qty":7,"notes":"mine"`, `"qty":9,"notes":"old"`))
	b.succeed(t, "alice", patch("kept", "h", `"title":"b",`+after+`,"notes":"mine"`, `"notes":"n"`))
	require.Equal(t, "notes n mine, qty 10 8, title a b", b.db.Text(t,
		`select string_agg(concat_ws(' ', field, previous #>> '{}', value #>> '{}'), ', ' order by field) from doc_changes where row_id = 'h' and field <> 'updated_at'`))
	require.Equal(t, "1", b.db.Text(t, `select count(*)::text from doc_changes where field = 'updated_at'`), "the earlier time was not stored")
}

// TestAhead has times that are further ahead than a device's clock may be: they count as
// now, and now is stored.
func TestAhead(t *testing.T) {
	t.Parallel()
	b := setupColumns(t)
	at := func(column string, ahead time.Duration) string {
		return fmt.Sprintf(`%q:%q`, column, time.Now().Add(ahead).UTC().Format(time.RFC3339Nano))
	}
	for _, test := range []struct{ name, table, column string }{{"Row", "bounded", "updated_at"}, {"Column", "boundedColumn", "seen_at"}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			stored := func() string {
				return b.db.Text(t, `select concat_ws(' ', title, case when `+test.column+` <= clock_timestamp() at time zone 'UTC' then 'now' else 'ahead' end) from docs where id = $1`, test.name)
			}
			b.db.Exec(t, `insert into docs (id, title) values ($1, 'a')`, test.name)
			b.succeed(t, "alice", op("PATCH", test.table, test.name, `"title":"2090",`+at(test.column, 60*365*24*time.Hour)))
			require.Equal(t, "2090 now", stored())
			b.succeed(t, "alice", op("PUT", test.table, test.name, `"title":"infinity","`+test.column+`":"infinity"`))
			require.Equal(t, "infinity now", stored())
			b.succeed(t, "alice", op("PATCH", test.table, test.name, `"title":"earlier",`+at(test.column, -time.Hour)))
			require.Equal(t, "infinity now", stored())
			b.succeed(t, "alice", op("PATCH", test.table, test.name, `"title":"in bounds",`+at(test.column, 4*time.Minute)))
			require.Equal(t, "in bounds ahead", stored())
			b.succeed(t, "alice", op("PUT", test.table, test.name+" new", `"title":"new",`+at(test.column, time.Hour)))
			require.Equal(t, "now", b.db.Text(t, `select case when `+test.column+` <= clock_timestamp() at time zone 'UTC' then 'now' else 'ahead' end from docs where id = $1`, test.name+" new"))
		})
	}
}

// TestMixedColumnsUnderManyWriters has 20 devices, which have all seen the same row, change
// columns of several strategies at the same time.
func TestMixedColumnsUnderManyWriters(t *testing.T) {
	t.Parallel()
	b := setupColumns(t)
	for table, row := range map[string]string{
		"docs": `title = '19' and updated_at = '2026-11-24 00:00:19Z' and qty = 10 + 190 and notes <> 'n'`,
		"kept": `title = '19' and qty = 10 + 190 and (select count(*) = 1 from doc_changes c where c.row_id = d.id and field = 'notes')
			and (select sum((value #>> '{}')::int - (previous #>> '{}')::int) = 190 from doc_changes c where c.row_id = d.id and field = 'qty')`,
	} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			b.db.Exec(t, `insert into docs (id, title, qty, price, notes, updated_at) values ($1, 'a', 10, 1.5, 'n', '2026-11-23 10:00Z')`, table)
			require.Equal(t, map[string]int{"success": writers}, atOnce(t, b, writers, func(i int) string {
				return patch(table, table, fmt.Sprintf(`"title":"%d","updated_at":"2026-11-24T00:00:%02[1]dZ","qty":%d,"notes":"%[1]d"`, i, 10+i), `"qty":10,"notes":"n"`)
			}))
			require.Equal(t, "true", b.db.Text(t, `select `+row+` from docs d where id = $1`, table))
		})
	}
}

// TestConflictsAreCounted has the metric of what was dropped and merged. What is not
// committed, and what comes again, does not count.
func TestConflictsAreCounted(t *testing.T) {
	t.Parallel()
	b := setupColumns(t)
	b.db.Exec(t, `insert into docs (id, title, qty, price, notes, updated_at, plain) values ('c', 'a', 10, 1.5, 'n', '2026-11-23 10:00Z', 'p')`)
	send := func(id int, crud string) {
		body := fmt.Sprintf(`{"client_id":"counting","transactions":[{"transaction_id":%d,"crud":[%s]}]}`, id, crud)
		require.Equal(t, http.StatusOK, b.Upload(t, "alice", body).Status)
	}
	late := patch("docs", "c", `"title":"late",`+before+`,"qty":11,"notes":"mine"`, `"qty":9,"notes":"old"`)
	send(1, late)
	send(1, late) // it has its receipt
	send(2, patch("others", "c", `"notes":"x","plain":"x"`, `"notes":"old","plain":"old"`))
	send(3, patch("docs", "c", `"qty":11,"price":2`, `"qty":9,"price":1`))                                                     // is rejected
	send(4, patch("docs", "c", `"title":"b",`+after+`,"qty":13,"notes":"mine","price":3`, `"qty":12,"notes":"n","price":1.5`)) // has no conflict
	send(5, op("PUT", "docs", "c", `"qty":1`))
	send(6, op("PATCH", "bounded", "c", `"title":"late",`+before))                                          // the whole write
	send(8, patch("whole", "c", `"qty":20,"notes":"y","plain":"y"`, `"qty":0,"notes":"old","plain":"old"`)) // one write
	send(9, patch("whole", "c", `"plain":"z"`, `"plain":"p"`))                                              // has no conflict
	send(10, patch("sums", "c", `"qty":20`, `"qty":19`))
	send(11, op("PUT", "sums", "c", `"qty":20`)) // adds nothing
	send(12, op("PUT", "sums", "fresh", `"qty":20`))
	send(13, op("DELETE", "whole", "fresh", ""))
	send(7, op("PUT", "docs", "new", `"title":"t","qty":1,"price":2,"notes":"n",`+before))
	require.Equal(t, []string{
		`postern_conflicts_total{outcome="dropped",strategy="fields",table="docs"} 1`,
		`postern_conflicts_total{outcome="dropped",strategy="fields",table="others"} 1`,
		`postern_conflicts_total{outcome="dropped",strategy="fields",table="whole"} 1`,
		`postern_conflicts_total{outcome="dropped",strategy="increment",table="docs"} 1`,
		`postern_conflicts_total{outcome="dropped",strategy="increment",table="sums"} 1`,
		`postern_conflicts_total{outcome="dropped",strategy="newest",table="bounded"} 1`,
		`postern_conflicts_total{outcome="dropped",strategy="newest",table="docs"} 1`,
		`postern_conflicts_total{outcome="merged",strategy="increment",table="docs"} 1`,
		`postern_conflicts_total{outcome="merged",strategy="increment",table="sums"} 1`,
	}, counted(t, b, "postern_conflicts_total{"))
}

// TestHistoryOfWhatWasSent has a history with a column for what a strategy has not stored as
// it was sent.
func TestHistoryOfWhatWasSent(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table docs (id text primary key, title text, qty int, price numeric(10,2), notes jsonb, updated_at timestamptz, plain text);
		create table changes (n int generated always as identity, row_id text, field text, previous jsonb, value jsonb, sent jsonb);
		create table texts (n int generated always as identity, row_id text, field text, previous text, value text, sent text);
		grant select, insert, update, delete on docs, changes, texts to authenticated;
		insert into docs values ('d', 'a', 10, 1.5, '{"a": 1}', '2026-11-23 10:00Z', 'p')`, `
tables:
  docs: {allow: all, history: changes, conflict: &each {columns: {title: {newest: updated_at}, qty: increment, price: increment, notes: fields}}}
  in_texts: {table: docs, allow: all, history: texts, conflict: *each}
  whole: {table: docs, allow: all, history: changes, conflict: fields}`)
	for _, test := range []struct{ name, crud, changes string }{
		{"AsItWasSent", patch("docs", "d", `"qty":11,"plain":"q"`, `"qty":10,"plain":"p"`), `qty 10 11 -,plain "p" "q" -`},
		{"Merged", patch("docs", "d", `"qty":12,"price":"2.10"`, `"qty":9,"price":"2.10"`), `qty 11 14 12,price 1.50 1.50 2.10`},
		{"Dropped", patch("docs", "d", `"title":"late","notes":"[2]","updated_at":"2026-11-23T09:00:00Z"`, `"notes":"[1]"`), `title "a" "a" "late",notes {"a": 1} {"a": 1} [2]`},
		{"DroppedNull", patch("docs", "d", `"notes":null`, `"notes":"[1]"`), `notes {"a": 1} {"a": 1} null`},
		{"TheSame", patch("docs", "d", `"notes":{"a":1}`, `"notes":"[1]"`), ``},
		{"Put", op("PUT", "docs", "d", `"qty":1,"plain":"r"`), `qty 14 14 1,plain "q" "r" -`},
		{"PutOfANewRow", op("PUT", "docs", "e", `"qty":1`), `qty - 1 -`},
		{"OfTheWholeRow", patch("whole", "d", `"qty":2,"plain":"s"`, `"qty":3,"plain":"r"`), `qty 14 14 2,plain "r" "s" -`},
		{"Delete", op("DELETE", "docs", "e", ""), `qty 1 - -`},
		{"InTexts", patch("in_texts", "d", `"title":"late","notes":null,"qty":15,"updated_at":"2026-11-23T09:00:00Z"`, `"notes":"[1]","qty":14`), `title a a late,notes {"a": 1} {"a": 1} -,qty 14 15 -`},
	} {
		require.Equal(t, "success", b.One(t, "alice", test.crud).Status, test.name)
		require.Equal(t, test.changes, b.db.Text(t, `select coalesce(string_agg(concat_ws(' ', field, coalesce(previous, '-'), coalesce(value, '-'), coalesce(sent, '-')), ',' order by n), '')
			from (select n, field, previous::text, value::text, sent::text from changes union all select n, field, previous, value, sent from texts) c`), test.name)
		b.db.Exec(t, "delete from changes; delete from texts")
	}
}

// counted are the lines of a metric.
func counted(t *testing.T, b *testBundle, metric string) (lines []string) {
	t.Helper()
	answer := httptest.NewRecorder()
	b.Metrics.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, metric) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
