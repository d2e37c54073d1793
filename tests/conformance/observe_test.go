package conformance_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// TestObserve has rules in mode observe. Each of them would reject what is sent, or fail;
// all is accepted and counted.
func TestObserve(t *testing.T) {
	t.Parallel()
	const schema = `
		create table notes (id uuid primary key, body text, n int, secret text);
		create table limits (name text primary key, least int);
		insert into limits values ('x', 1);
		grant select (id, body, n), insert, update, delete on notes to authenticated;
		grant select on limits to authenticated;`
	rule := func(text string) string {
		return "tables: {notes: {allow: all, rules: [{name: r, mode: observe, code: NO, message: No, " + text + "}]}}"
	}
	whole := func(text string) string {
		return "tables: {notes: {allow: all}}\ntransaction: {rules: [{name: r, mode: observe, code: NO, message: No, " + text + "}]}"
	}
	row := uuid.NewString()
	for _, test := range []struct{ name, policies, crud, result, want string }{
		{"WhatWasSent", rule(`check: size(new.body) < 3`), op("PUT", "notes", row, `"body":"secret"`), "rejected", "secret"},
		{"Fails", rule(`check: int(new.body) == 1`), op("PUT", "notes", row, `"body":"secret"`), "failed", "secret"},
		{"WhenFails", rule(`when: int(data.body) == 1, check: "old == null"`), op("PUT", "notes", row, `"body":"secret"`), "failed", "secret"},
		{"StoredRow", rule(`on: [update], check: old.n == new.n`), op("PATCH", "notes", "ROW", `"n":2`), "rejected", "there"},
		{"Delete", rule(`on: [delete], check: old.n > 9`), op("DELETE", "notes", "ROW", ``), "rejected", "none"},
		{"Lookup", rule(`lookup: {l: "select least from limits where name = 'x' and $new.n > 0"}, check: lookup.l.least > new.n`), op("PUT", "notes", row, `"body":"secret","n":5`), "rejected", "secret"},
		{"LookupFails", rule(`lookup: {l: "select least from limits where least = $new.body::int"}, check: "lookup.l == null"`), op("PUT", "notes", row, `"body":"secret"`), "failed", "secret"},
		{"ColumnThatTheUserMayNotRead", rule(`on: [update], check: old.secret == null`), op("PATCH", "notes", "ROW", `"body":"secret"`), "failed", "secret"},
		{"ModeOfTheTable", "tables: {notes: {allow: all, mode: observe, rules: [{name: r, check: size(new.body) < 3, code: NO, message: No}]}}",
			op("PUT", "notes", row, `"body":"secret"`), "rejected", "secret"},
		{"Transaction", "tables: {notes: {allow: all}}\ntransaction: {rules: [{name: r, mode: observe, check: tx.size() > 1, code: NO, message: No}]}",
			op("PUT", "notes", row, `"body":"secret"`), "rejected", "secret"},
		{"TransactionOverRows", whole(`each: {notes: id}, lookup: {l: "select n from notes where id = $each"}, check: lookup.l.n > 9`),
			op("PUT", "notes", row, `"body":"secret","n":5`), "rejected", "secret"},
		{"TransactionWhoseLookupFails", whole(`lookup: {l: "select least / (least - 1) as n from limits"}, check: "lookup.l == null"`),
			op("PUT", "notes", row, `"body":"secret"`), "failed", "secret"},
		{"BesideASet", "tables: {notes: {allow: all, set: {body: \"old == null ? 'secret' : old.body\"}, rules: [{name: r, mode: observe, code: NO, message: No, check: size(new.body) < 3}]}}",
			op("PUT", "notes", row, `"n":1`), "rejected", "secret"},
		{"BesideASetItsLookupFails", "tables: {notes: {allow: all, set: {body: \"old == null ? 'secret' : old.body\"}, rules: [{name: r, mode: observe, code: NO, message: No, lookup: {l: \"select least from limits where least = $new.body::int\"}, check: lookup.l == null}]}}",
			op("PUT", "notes", row, `"n":1`), "failed", "secret"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setupSchema(t, schema, test.policies)
			there := uuid.NewString()
			b.db.Exec(t, `insert into notes values ($1, 'there', 1)`, there)
			b.succeed(t, "alice", strings.ReplaceAll(test.crud, "ROW", there))
			require.Equal(t, test.want, b.db.Text(t, `select coalesce((select body from notes order by id = $1::uuid desc, id = $2::uuid desc limit 1), 'none')`, row, there))
			table := "notes"
			if strings.HasPrefix(test.name, "Transaction") {
				table = ""
			}
			require.Equal(t, []string{fmt.Sprintf(`postern_observed_total{result=%q,rule="r",table=%q} 1`, test.result, table)}, counted(t, b, "postern_observed_total{"))
			require.Equal(t, 1, strings.Count(b.Logs.String(), "because the rules only observe"))
			require.NotContains(t, b.Logs.String(), "secret")
		})
	}
}

// TestObserveCountsTransactions has rules that observe beside rules that reject.
func TestObserveCountsTransactions(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `create table notes (id uuid primary key, body text); create table others (id uuid primary key, body text);
		grant select, insert, update, delete on notes, others to authenticated`, `
let: {limit: {lookup: "select 3 as size"}}
tables:
  notes:
    allow: all
    mode: observe
    rules:
      - {name: short, check: size(new.body) < limit.size, code: NO, message: No}
      - {name: also-short, check: size(new.body) < 4, code: NO, message: No}
      - {name: no-x, check: new.body != 'x', code: NO, message: No, mode: enforce}
      - {name: enforced, check: size(new.body) < 5 * limit.size, code: NO, message: No, mode: enforce}
  others: {allow: all, rules: [{name: short, check: size(new.body) < 3, code: NO, message: No}]}`)
	put := func(table, body string) string {
		return op("PUT", table, uuid.NewString(), fmt.Sprintf(`"body":%q`, body))
	}
	const long = "123456"
	b.succeed(t, "alice", put("notes", "1"))
	require.Empty(t, counted(t, b, "postern_observed_total{"))
	for _, rejected := range []string{put("notes", "x"), put("others", long), put("notes", strings.Repeat("x", 15))} {
		require.Equal(t, "NO", b.outcome(t, "alice", put("notes", long)+","+rejected))
	}
	require.Empty(t, counted(t, b, "postern_observed_total{"), "what others reject")

	twice := fmt.Sprintf(`{"client_id":"phone","transactions":[{"transaction_id":1,"crud":[%s,%s,%s]}]}`, put("notes", long), put("notes", long), put("notes", "1"))
	for range 2 {
		require.Equal(t, "success", b.Upload(t, "alice", twice).Results(t)[0].Status)
	}
	require.Equal(t, []string{
		`postern_observed_total{result="rejected",rule="also-short",table="notes"} 1`,
		`postern_observed_total{result="rejected",rule="short",table="notes"} 1`,
	}, counted(t, b, "postern_observed_total{"))
	require.Equal(t, 1, strings.Count(b.Logs.String(), `"would_reject":["also-short","short"]`))
}
