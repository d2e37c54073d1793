package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/plan"
	"postern/service/upload"
)

const (
	whole   = `{name: r, check: "old == null", code: C, message: m}`
	unowned = `{name: r, check: old == null || old.owner_id == auth.sub, code: C, message: m}`
	some    = `{name: r, check: new.qty > 0, code: C, message: m}`
	rising  = `{name: r, check: old == null || new.qty >= old.qty, code: C, message: m}`
)

const (
	let    = `let: {list: {lookup: "select most"}, few: list != null && new.qty < list.most}`
	shared = `{name: r, check: few, code: C, message: m}, {name: s, when: few, check: list.most > 3, code: D, message: m}`
)

// lookup is a rule with a lookup.
func lookup(sql string) string {
	return `{name: r, check: lookup.l == null, code: C, message: m, lookup: {l: "` + sql + `"}}`
}

// checked plans one operation whose rules need the database.
func checked(t *testing.T, rules, policy string, op upload.Operation) *plan.Checks {
	t.Helper()
	p := newPlanner(t, shop, "tables: {"+op.Table+": {allow: all, rules: ["+rules+"], "+policy+"}}")
	orders := planned(t, p, op)
	operations := inOrder(t, orders[0])
	require.Len(t, operations, 1)
	require.NotNil(t, operations[0].Checks)
	return operations[0].Checks
}

// TestQueries has the queries that rules need, with their arguments.
func TestQueries(t *testing.T) {
	t.Parallel()
	type list = []string
	for _, test := range []struct {
		name, rules, policy string
		operation           upload.Operation
		before, after       list
	}{
		{"OldOfAPut", unowned, "", put("notes", "n1", `{}`), list{
			`select to_jsonb(t."owner_id"), set_config('postern.seen', $2, true) from (select t."owner_id" from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, nil},
		{"OldOfAPutWithoutColumns", whole, "", put("notes", "n1", `{}`), list{
			`select set_config('postern.seen', $2, true) from (select  from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, nil},
		{"OldOfAPatch", unowned, "", patch("notes", "n1", `{"title": "a"}`), list{
			`select to_jsonb(t."owner_id"), set_config('postern.seen', $2, true) from (select t."owner_id" from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, nil},
		{"OldOfAnEmptyPatch", unowned, "", patch("notes", "n1", `{}`), list{
			`select to_jsonb(t."owner_id"), set_config('postern.seen', $2, true) from (select t."owner_id" from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, nil},
		{"OldOfADelete", unowned, "", remove("notes", "n1"), list{
			`select postern.lock_row($1, $2, $3) | 1 | {"id"} | {"n1"}`,
			`select to_jsonb(t."owner_id"), set_config('postern.seen', $2, true) from "public"."notes" as t where t."id" = $1 | n1 | 1 2 id 2 n1`,
		}, nil},
		{"OldOfASoftDelete", unowned, "soft_delete: gone", remove("notes", "n1"), list{
			`select to_jsonb(t."owner_id"), set_config('postern.seen', $2, true) from (select t."owner_id" from "public"."notes" as t where t."id" = $1 and t."gone" is not true for update of t) as t | n1 | 1 2 id 2 n1`,
		}, nil},
		{"OldThatItsUserMayNotUpdate", whole, "", put("small", "s1", `{}`), list{
			`select set_config('postern.seen', $2, true) from "public"."small" as t where t."id" = $1 | s1 | 2 2 id 2 s1`,
		}, nil},
		{"OldOfACompositeKey", whole, "id: [list_id, user_id]", patch("members", "l1:7", `{"role": "a"}`), list{
			`select set_config('postern.seen', $3, true) from (select  from "public"."members" as t where t."list_id" = $1 and t."user_id" = $2 for update of t) as t | l1 | 7 | 3 7 list_id 2 l1 7 user_id 1 7`,
		}, nil},
		{"NewOfAPut", some, "", put("notes", "n1", `{}`), nil, list{
			`select to_jsonb(t."qty") from "public"."notes" as t where t."id" = $1 | n1`,
		}},
		{"NewOfAPatch", some, "", patch("notes", "n1", `{"title": "a"}`), list{
			`select to_jsonb(t."qty"), set_config('postern.seen', $2, true) from (select t."qty" from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, list{
			`select to_jsonb(t."qty") from "public"."notes" as t where t."id" = $1 | n1`,
		}},
		{"OldAndNew", rising, "", patch("notes", "n1", `{"title": "a"}`), list{
			`select to_jsonb(t."qty"), set_config('postern.seen', $2, true) from (select t."qty" from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, list{
			`select to_jsonb(t."qty") from "public"."notes" as t where t."id" = $1 | n1`,
		}},
		{"OldAndNewSent", rising, "", put("notes", "n1", `{"qty": 1}`), list{
			`select to_jsonb(t."qty"), set_config('postern.seen', $2, true) from (select t."qty" from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, nil},
		{"OldAndNewSentByAPatch", rising, "", patch("notes", "n1", `{"qty": 1}`), list{
			`select to_jsonb(t."qty"), set_config('postern.seen', $2, true) from (select t."qty" from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, nil},
		{"OldAndNewThatPostgresRounds", `{name: r, check: old == null || new.at >= old.at, code: C, message: m}`, "", put("notes", "n1", `{"at": "2026-01-01T00:00:00Z"}`), list{
			`select to_jsonb(t."at"), set_config('postern.seen', $2, true) from (select t."at" from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, list{
			`select to_jsonb(t."at") from "public"."notes" as t where t."id" = $1 | n1`,
		}},
		{"OldAndNewUnderAStrategy", rising, "conflict: server", put("notes", "n1", `{"qty": 1}`), list{
			`select to_jsonb(t."qty"), set_config('postern.seen', $2, true) from (select t."qty" from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, list{
			`select to_jsonb(t."qty") from "public"."notes" as t where t."id" = $1 | n1`,
		}},
		{"OldAndNewThatATriggerMayChange", `{name: r, check: old == null || new.title >= old.title, code: C, message: m}`, "", put("triggered", "n1", `{"title": "a"}`), list{
			`select to_jsonb(t."title"), set_config('postern.seen', $2, true) from "public"."triggered" as t where t."id" = $1 | n1 | 8 2 id 2 n1`,
		}, list{
			`select to_jsonb(t."title") from "public"."triggered" as t where t."id" = $1 | n1`,
		}},
		{"OldAndNewThatAnAfterTriggerMayChange", `{name: r, check: old == null || new.title >= old.title, code: C, message: m}`, "", put("audited", "n1", `{"title": "a"}`), list{
			`select to_jsonb(t."title"), set_config('postern.seen', $2, true) from "public"."audited" as t where t."id" = $1 | n1 | 9 2 id 2 n1`,
		}, list{
			`select to_jsonb(t."title") from "public"."audited" as t where t."id" = $1 | n1`,
		}},
		{"ColumnsOfTwoRules", unowned + `, {name: s, check: new.rev > 1 || new.price > 1.0, code: C, message: m}`, "", put("notes", "n1", `{}`), list{
			`select to_jsonb(t."owner_id"), set_config('postern.seen', $2, true) from (select t."owner_id" from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, list{
			`select to_jsonb(t."price"), to_jsonb(t."rev") from "public"."notes" as t where t."id" = $1 | n1`,
		}},

		{"WhetherThereIsARow", `{name: r, on: [create], check: new.qty > 0, code: C, message: m}`, "", put("notes", "n1", `{"qty": 0}`), list{
			`select set_config('postern.seen', $2, true) from (select  from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, nil},
		{"LetOfTwoRules", shared, let, put("notes", "n1", `{"qty": 1}`), list{
			`select to_jsonb(q.*) from (select most ) as q limit 1`,
		}, nil},

		{"Lookup", lookup("select 1 from small where id = $id and a = $auth.sub and b = $auth.role"), "", put("notes", "n1", `{}`), list{
			`select to_jsonb(q.*) from (select 1 from small where id = $1 and a = $2 and b = $3 ) as q limit 1 | n1 | u1 | authenticated`,
		}, nil},
		{"LookupOfAPatch", lookup("select 1"), "", patch("notes", "n1", `{"title": "a"}`), list{
			`select set_config('postern.seen', $2, true) from (select  from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
			`select to_jsonb(q.*) from (select 1 ) as q limit 1`,
		}, nil},
		{"LookupOfADelete", lookup("select 1"), "", remove("notes", "n1"), list{
			`select postern.lock_row($1, $2, $3) | 1 | {"id"} | {"n1"}`,
			`select set_config('postern.seen', $2, true) from "public"."notes" as t where t."id" = $1 | n1 | 1 2 id 2 n1`,
			`select to_jsonb(q.*) from (select 1 ) as q limit 1`,
		}, nil},
		{"LookupByNewSent", lookup("select 1 where $new.title > 'a'"), "", put("notes", "n1", `{"title": "a"}`), list{
			`select to_jsonb(q.*) from (select 1 where coalesce($1, (null::"public"."notes")."title") > 'a' ) as q limit 1 | a`,
		}, nil},
		{"LookupByNewStored", lookup("select 1 where $new.title > 'a'"), "", patch("notes", "n1", `{"qty": 1}`), list{
			`select set_config('postern.seen', $2, true) from (select  from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
			`select to_jsonb(q.*) from (select 1 where (select t."title" from "public"."notes" as t where t."id" = $1) > 'a' ) as q limit 1 | n1`,
		}, nil},
		{"LookupByNewOfAPut", lookup("select 1 where $new.owner_id > 'a'"), "", put("notes", "n1", `{}`), list{
			`select set_config('postern.seen', $2, true) from (select  from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
			`select to_jsonb(q.*) from (select 1 where (select t."owner_id" from "public"."notes" as t where t."id" = $1) > 'a' ) as q limit 1 | n1`,
		}, nil},
		{"LookupByNewDefault", lookup("select 1 where $new.qty > 0"), "", put("notes", "n1", `{}`), nil, list{
			`select to_jsonb(q.*) from (select 1 where (select t."qty" from "public"."notes" as t where t."id" = $1) > 0 ) as q limit 1 | n1`,
		}},
		{"LookupByNewOfAReplacingPut", lookup("select 1 where $new.owner_id > 'a'"), "put: replace", put("notes", "n1", `{}`), nil, list{
			`select to_jsonb(q.*) from (select 1 where (select t."owner_id" from "public"."notes" as t where t."id" = $1) > 'a' ) as q limit 1 | n1`,
		}},
		{"LookupByNewSum", lookup("select 1 where $new.qty > 0"), "conflict: {increment: [qty]}", after(`{"qty": 1}`, patch("notes", "n1", `{"qty": 2}`)), list{
			`select set_config('postern.seen', $2, true) from (select  from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
		}, list{
			`select to_jsonb(q.*) from (select 1 where (select t."qty" from "public"."notes" as t where t."id" = $1) > 0 ) as q limit 1 | n1`,
		}},
		{"LookupByNewInitial", lookup("select 1 where $new.title > 'a'"), `defaults: {title: "'none'"}`, put("notes", "n1", `{}`), list{
			`select set_config('postern.seen', $2, true) from (select  from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
			`select to_jsonb(q.*) from (select 1 where (case when exists (select from "public"."notes" as t where t."id" = $1) then (select t."title" from "public"."notes" as t where t."id" = $2) else coalesce($3, (null::"public"."notes")."title") end) > 'a' ) as q limit 1 | n1 | n1 | none`,
		}, nil},
		{"LookupByOld", lookup("select 1 where $old.qty > 0"), "", put("notes", "n1", `{"qty": 2}`), list{
			`select set_config('postern.seen', $2, true) from (select  from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
			`select to_jsonb(q.*) from (select 1 where (select t."qty" from "public"."notes" as t where t."id" = $1) > 0 ) as q limit 1 | n1`,
		}, nil},
		{"LookupByOldAndNew", lookup("select 1 where $old.qty > $new.qty"), "conflict: {increment: [qty]}", after(`{"qty": 1}`, patch("notes", "n1", `{"qty": 2}`)), list{
			`select set_config('postern.seen', $2, true) from (select  from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
			`select to_jsonb(q.*) from (select 1 where (select t."qty" from "public"."notes" as t where t."id" = $1) > (select t."qty" from "public"."notes" as t where t."id" = $2) ) as q limit 1 | n1 | n1`,
		}, nil},
		{"LookupByOldAndNewThatIsSetInNewRows", lookup("select 1 where $old.title > $new.title"), `set: {title: {value: "'new'", on: [create]}}`, put("notes", "n1", `{"title": "sent"}`), list{
			`select set_config('postern.seen', $2, true) from (select  from "public"."notes" as t where t."id" = $1 for update of t) as t | n1 | 1 2 id 2 n1`,
			`select to_jsonb(q.*) from (select 1 where (select t."title" from "public"."notes" as t where t."id" = $1) > (case when exists (select from "public"."notes" as t where t."id" = $2) then coalesce($4, (null::"public"."notes")."title") else coalesce($3, (null::"public"."notes")."title") end) ) as q limit 1 | n1 | n1 | new | sent`,
		}, nil},
		{"LookupsEarlyAndLate", lookup("select 1 where $new.qty > 0") + `, {name: s, check: lookup.k == null, code: C, message: m, lookup: {k: select 2}}`, "", put("notes", "n1", `{}`), list{
			`select to_jsonb(q.*) from (select 2 ) as q limit 1`,
		}, list{
			`select to_jsonb(q.*) from (select 1 where (select t."qty" from "public"."notes" as t where t."id" = $1) > 0 ) as q limit 1 | n1`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := checked(t, test.rules, test.policy, test.operation)
			require.Equal(t, test.before, queries(c.Before()))
			require.Equal(t, test.after, queries(c.After()))
		})
	}
}

// queries are the SQL of queries, each with its arguments.
func queries(list []*plan.Query) (texts []string) {
	for _, q := range list {
		texts = append(texts, statement(q.Statement))
	}
	return texts
}

func statement(s plan.Statement) string {
	return strings.Join(append([]string{strings.ReplaceAll(s.SQL, "\n", " ")}, args(s)...), " | ")
}

// TestSeenGuard has the condition that the row is the one that rules have seen. If it
// fails, the transaction is tried again.
func TestSeenGuard(t *testing.T) {
	t.Parallel()
	const (
		seen      = "current_setting('postern.seen', true) = $3"
		again     = "postern.raise_error('PN009', 'the rules have not seen the row') is null end"
		raises    = " where case when " + seen + " then true else " + again
		explained = "(" + seen + ") is not true then "
		unruled   = "allow: all, rules: [" + some + "]"
		ruled     = "allow: all, rules: [" + whole + "]"
	)
	title := `{"title": "a"}`
	for _, test := range []struct {
		name, policy string
		operation    upload.Operation
		want         string // the end of the statement, or a part of its explanation; empty if there is no guard
	}{
		{"NoRuleNeedsOld", unruled, put("notes", "n1", title), ""},
		{"Put", ruled, put("notes", "n1", title), raises},
		{"PutUnderRowSecurity", ruled, put("secrets", "n1", title), raises},
		{"PutWithAnotherGuard", ruled + ", owner: owner_id", put("notes", "n1", title), "(current_setting('postern.seen', true) = $5) is not true then "},
		{"PutThatATriggerMaySuppress", ruled, put("triggered", "n1", title), explained},
		{"PutThatOnlyUpdates", "allow: [update], rules: [" + whole + "]", put("notes", "n1", title), explained},
		{"Patch", ruled, patch("notes", "n1", title), " and case when " + seen + " then true else " + again},
		{"PatchThatATriggerMaySuppress", ruled, patch("triggered", "n1", title), " and case when " + seen + " then true else " + again},
		{"PatchUnderRowSecurity", ruled, patch("secrets", "n1", title), explained},
		{"PatchThatRejectsMissing", ruled + ", on_missing: reject", patch("notes", "n1", title), explained},
		{"Delete", ruled, remove("notes", "n1"), " and case when current_setting('postern.seen', true) = $2 then true else " + again},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := sent(t, newPlanner(t, shop, "tables: {"+test.operation.Table+": {"+test.policy+"}}"), test.operation)[0]
			switch {
			case test.want == "":
				require.NotContains(t, o.SQL, "postern.seen")
			case strings.HasSuffix(test.want, "then "):
				require.Contains(t, o.SQL, test.want)
				require.Contains(t, args(o.Statement), "AGAIN")
			default:
				require.True(t, strings.HasSuffix(o.SQL, test.want), o.SQL)
				require.NotContains(t, args(o.Statement), "AGAIN")
			}
		})
	}
	t.Run("EmptyPatch", func(t *testing.T) {
		t.Parallel()
		o := sent(t, newPlanner(t, shop, "tables: {notes: {"+ruled+"}}"), patch("notes", "n1", `{}`))[0]
		require.Equal(t, "select", o.SQL, "it writes nothing")
		require.Empty(t, o.Args)
	})
}

// TestRejectHidden is for a PUT alone that may change a row, and only if rules read the row,
// or what the policy sets does.
func TestRejectHidden(t *testing.T) {
	t.Parallel()
	of := func(policy string, operation upload.Operation) string {
		hidden, _ := sent(t, newPlanner(t, shop, "tables: {notes: {allow: all, "+policy+"}}"), operation)[0].RejectHidden()
		return statement(hidden)
	}
	const hidden = `select postern.explain_no_row($1, $2, $3, $4, false, postern.row_version($2, $3, $4), null, 'UNAUTHORIZED', null)` +
		` where not exists (select from postern.current_row(null::"public"."notes", $3, $4, true)) | 0 | 1 | {"id"} | {"n1"}`
	ruled := "rules: [" + whole + "]"
	require.Equal(t, hidden, of(ruled, put("notes", "n1", `{}`)))
	require.Equal(t, hidden, of("set: {qty: {value: 'old == null ? 1 : old.qty + 1'}}", put("notes", "n1", `{}`)))
	require.Empty(t, of(ruled, patch("notes", "n1", `{"qty": 1}`)))
	require.Empty(t, of("put: insert, "+ruled, put("notes", "n1", `{}`)))
	require.Empty(t, of("rules: ["+some+"]", put("notes", "n1", `{}`)))
}

// TestEvaluate has rules and what their queries found: a row each, in the order in
// which they run.
func TestEvaluate(t *testing.T) {
	t.Parallel()
	type rows = [][]string
	const (
		put1 = `{"qty": 1, "title": "a"}`
		l    = `{name: r, check: lookup.l != null && lookup.l.most > 3, code: C, message: m, lookup: {l: "select most"}}`
	)
	for _, test := range []struct {
		name, rules, policy string
		operation           upload.Operation
		found               rows   // nil for a query that found no row
		want                string // the code of the rejection, or a part of the error
	}{
		{"NoRowBefore", whole, "", put("notes", "n1", put1), rows{nil}, ""},
		{"RowBefore", whole, "", put("notes", "n1", put1), rows{{"1"}}, "C"},
		{"OldIsRight", unowned, "", put("notes", "n1", put1), rows{{`"u1"`, "1"}}, ""},
		{"OldIsWrong", unowned, "", put("notes", "n1", put1), rows{{`"u2"`, "1"}}, "C"},
		{"NewIsRight", some, "", put("notes", "n1", `{"title": "a"}`), rows{{"1"}}, ""},
		{"NewIsWrong", some, "", put("notes", "n1", `{"title": "a"}`), rows{{"0"}}, "C"},
		{"NewIsNotWhatWasSent", rising, "conflict: fields", put("notes", "n1", put1), rows{{"1", "1"}, {"0"}}, "C"},
		{"OldAndNew", rising, "", patch("notes", "n1", `{"qty": 3}`), rows{{"2", "1"}}, ""},

		{"OldAndNewThatIsLess", rising, "", patch("notes", "n1", `{"qty": 3}`), rows{{"4", "1"}}, "C"},
		{"OldAndNewOfNoRow", rising, "", patch("notes", "n1", `{"qty": 3}`), rows{nil}, ""},
		{"PatchOfNoRow", some, "", patch("notes", "n1", `{"title": "a"}`), rows{nil, nil}, ""},
		{"PatchThatHidesItsRow", rising, "", patch("notes", "n1", `{"qty": 1}`), rows{{"2", "1"}}, "C"},
		{"PatchThatHidesAnotherColumn", some, "", patch("notes", "n1", `{"title": "a"}`), rows{{"0", "1"}, nil}, "C"},
		{"PutThatHidesItsRow", `{name: r, check: new.qty > 1 || new.owner_id != null, code: C, message: m}`, "", put("notes", "n1", put1), rows{nil}, "C"},
		{"PutThatHidesWhatIsRight", `{name: r, check: new.qty == 1 && new.owner_id == null, code: C, message: m}`, "", put("notes", "n1", put1), rows{nil}, ""},
		{"DeleteOfNoRow", unowned, "", remove("notes", "n1"), rows{nil, nil}, ""},
		{"DeleteOfAWrongRow", unowned, "", remove("notes", "n1"), rows{nil, {`"u2"`, "1"}}, "C"},

		{"LookupFound", l, "", put("notes", "n1", put1), rows{{`{"most": 4}`}}, ""},
		{"LookupFoundWrong", l, "", put("notes", "n1", put1), rows{{`{"most": 3}`}}, "C"},
		{"LookupFoundNothing", l, "", put("notes", "n1", put1), rows{nil}, "C"},
		{"LookupsOfTwoRules", l + `, {name: s, check: lookup.l.least < 3, code: D, message: m, lookup: {l: "select least"}}`, "", put("notes", "n1", put1), rows{{`{"most": 4}`}, {`{"least": 3}`}}, "D"},
		{"FirstOfTwoRules", l + `, {name: s, check: "lookup.l == null", code: D, message: m, lookup: {l: "select 1"}}`, "", put("notes", "n1", put1), rows{{`{"most": 3}`}, {`{}`}}, "C"},

		{"LetIsRight", shared, let, put("notes", "n1", put1), rows{{`{"most": 4}`}}, ""},
		{"LetIsWrong", shared, let, put("notes", "n1", put1), rows{{`{"most": 1}`}}, "C"},
		{"LetFoundNothing", shared, let, put("notes", "n1", put1), rows{nil}, "C"},
		{"LetIsWrongForTheSecondRule", shared, let, put("notes", "n1", put1), rows{{`{"most": 3}`}}, "D"},
		{"LetFails", `{name: r, check: few, code: C, message: m}`, "let: {few: 1 / new.qty > 0}", put("notes", "n1", `{}`), rows{{"0"}}, "r: few: 1 / new.qty > 0: division by zero"},
		{"LetFailsUnused", `{name: r, check: few || new.qty == 0, code: C, message: m}`, "let: {few: 1 / new.qty > 0}", put("notes", "n1", `{}`), rows{{"0"}}, ""},
		{"OnCreateOfNoRow", `{name: r, on: [create], check: new.qty > 1, code: C, message: m}`, "", put("notes", "n1", put1), rows{nil}, "C"},
		{"OnCreateOfARow", `{name: r, on: [create], check: new.qty > 1, code: C, message: m}`, "", put("notes", "n1", put1), rows{{"1"}}, ""},
		{"OnUpdateOfNoRow", `{name: r, on: [update], check: new.qty > 1, code: C, message: m}`, "", put("notes", "n1", put1), rows{nil}, ""},
		{"OnUpdateOfARow", `{name: r, on: [update], check: new.qty > 1, code: C, message: m}`, "", put("notes", "n1", put1), rows{{"1"}}, "C"},

		{"ForbiddenNullIsFilledIn", `{name: r, check: size(new.title) > 0, code: C, message: m}`, "", put("notes", "n1", `{"title": null}`), rows{{`"a"`}}, ""},
		{"RuleFails", `{name: r, check: 1 / new.qty > 0, code: C, message: m}`, "", put("notes", "n1", `{"title": "a"}`), rows{{"0"}}, "r: 1 / new.qty > 0: division by zero"},
		{"LookupFails", l, "", put("notes", "n1", put1), rows{{`most`}}, "r: lookup l: "},
		{"ValueThatCannotBeHeld", some, "", put("notes", "n1", `{"title": "a"}`), rows{{`"x"`}}, "r: new.qty > 0: qty: "},
		{"ValueThatCannotBeHeldIsNotUsed", rising, "", put("notes", "n1", `{"title": "a"}`), rows{nil, {`"x"`}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := checked(t, test.rules, test.policy, test.operation)
			run := slices.Concat(c.Before(), c.After())
			require.Len(t, run, len(test.found))
			answers := plan.Answers{}
			for i, row := range test.found {
				for _, value := range row {
					answers[run[i]] = append(answers[run[i]], []byte(value))
				}
			}
			rejection, err := c.Evaluate(t.Context(), answers)
			switch {
			case err != nil:
				var failed *policies.RuleError
				require.ErrorAs(t, err, &failed)
				require.NotEmpty(t, test.want)
				require.ErrorContains(t, err, test.want)
			case test.want == "":
				require.Nil(t, rejection)
			default:
				require.NotNil(t, rejection)
				require.Equal(t, test.want, string(rejection.Code))
			}
		})
	}
}

// TestEvaluateRejection has what the rejection of a rule over stored rows tells the
// client.
func TestEvaluateRejection(t *testing.T) {
	t.Parallel()
	p := newPlanner(t, shop, `tables: {notes: {allow: all, client: [TOO_FEW], rules: [{name: r, check: old == null, code: TOO_FEW, message: Take more, details: {was: old.qty}}]}}`)
	o := sent(t, p, remove("notes", "n1"), put("notes", "n2", `{}`))[1]
	rejection, err := o.Checks.Evaluate(t.Context(), plan.Answers{o.Checks.Before()[0]: {[]byte("5"), []byte("1")}})
	require.NoError(t, err)
	require.Equal(t, &upload.Rejection{
		Code: "TOO_FEW", Message: "Take more", Details: map[string]jsontext.Value{"was": jsontext.Value("5")}, Operation: 1, Rule: "r", ClientHandling: true,
	}, rejection)
}
