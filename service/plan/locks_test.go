package plan_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/upload"
)

// lockedNotes locks rows of table notes by their keys, which follow.
const lockedNotes = `select from (select * from unnest(coalesce($1, array[(null::"public"."notes")."id"])) as key (k0) order by k0 offset 0) as key, lateral (select from "public"."notes" as t where t."id" = key.k0 for update of t) as t | `

// TestLocks has the statements that lock what several operations need, with their
// arguments.
func TestLocks(t *testing.T) {
	t.Parallel()
	type (
		transaction = []upload.Operation
		list        = []string
	)
	const tables = "tables: {notes: {allow: all, rules: [" + whole + "]}, small: {allow: all, rules: [" + whole + "]}, " +
		"secrets: {allow: all}, members: {allow: all, id: [list_id, user_id], rules: [" + whole + "]}}"
	for _, test := range []struct {
		name, yaml string
		transaction
		rows list
	}{
		{"NoRule", tables, transaction{put("secrets", "s1", `{}`), put("secrets", "s2", `{}`)}, nil},
		{"OnePatch", tables, transaction{patch("notes", "n1", `{"qty": 1}`)}, nil},
		{"OnePut", tables, transaction{put("notes", "n1", `{}`)}, nil},
		{"OneDelete", tables, transaction{remove("notes", "n1")}, nil},
		{"Patches", tables, transaction{patch("notes", "n2", `{"qty": 1}`), patch("notes", "n1", `{"qty": 1}`)}, list{
			lockedNotes + `{"n2","n1"}`,
		}},
		{"PatchesOfOneRow", tables, transaction{patch("notes", "n1", `{"qty": 1}`), patch("notes", "n1", `{"qty": 2}`)}, list{
			lockedNotes + `{"n1"}`,
		}},
		{"Puts", tables, transaction{put("notes", "n2", `{}`), put("notes", "n1", `{}`), put("notes", "n2", `{}`)}, list{
			lockedNotes + `{"n2","n1"}`,
		}},
		{"Deletes", tables, transaction{remove("notes", "n2"), remove("notes", "n1")}, list{
			lockedNotes + `{"n2","n1"}`,
			`select postern.lock_row($1, $2, array[k0::text]) from (select * from unnest(coalesce($3, array[(null::"public"."notes")."id"])) as key (k0) order by k0 offset 0) as key | 1 | {"id"} | {"n2","n1"}`,
		}},
		{"CompositeKey", tables, transaction{patch("members", "l1:8", `{"role": "a"}`), patch("members", "l1:7", `{"role": "a"}`), remove("members", "l2:9")}, list{
			`select from (select * from unnest(coalesce($1, array[(null::"public"."members")."list_id"]), coalesce($2, array[(null::"public"."members")."user_id"])) as key (k0, k1) order by k0, k1 offset 0) as key, lateral (select from "public"."members" as t where t."list_id" = key.k0 and t."user_id" = key.k1 for update of t) as t | {"l1","l1","l2"} | {"8","7","9"}`,
			`select postern.lock_row($1, $2, array[k0::text, k1::text]) from (select * from unnest(coalesce($3, array[(null::"public"."members")."list_id"]), coalesce($4, array[(null::"public"."members")."user_id"])) as key (k0, k1) order by k0, k1 offset 0) as key | 3 | {"list_id","user_id"} | {"l2"} | {"9"}`,
		}},
		{"Tables", tables, transaction{patch("members", "l1:8", `{"role": "a"}`), remove("small", "s1"), patch("notes", "n1", `{"qty": 1}`)}, list{
			lockedNotes + `{"n1"}`,
			`select from (select * from unnest(coalesce($1, array[(null::"public"."members")."list_id"]), coalesce($2, array[(null::"public"."members")."user_id"])) as key (k0, k1) order by k0, k1 offset 0) as key, lateral (select from "public"."members" as t where t."list_id" = key.k0 and t."user_id" = key.k1 for update of t) as t | {"l1"} | {"8"}`,
			`select postern.lock_row($1, $2, array[k0::text]) from (select * from unnest(coalesce($3, array[(null::"public"."small")."id"])) as key (k0) order by k0 offset 0) as key | 2 | {"id"} | {"s1"}`,
		}},
		{"UserMayNotUpdate", tables, transaction{put("small", "s1", `{}`), patch("small", "s2", `{"a": "x"}`)}, nil},
		{"RowAlone", "tables: {notes: {allow: all, rules: [" + some + "]}}", transaction{put("notes", "n1", `{}`), put("notes", "n2", `{}`)}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			orders := planned(t, newPlanner(t, shop, test.yaml), test.transaction...)
			locks := locks(t, orders[0], nil)
			require.Empty(t, locks.Keys)
			var rows list
			for _, s := range locks.Rows {
				rows = append(rows, statement(s))
			}
			require.Equal(t, test.rows, rows)
		})
	}
}

// TestQuotaLocks has what a lookup that counts is locked for: a part of the table, together
// with those who lock other parts, or the whole lookup alone.
func TestQuotaLocks(t *testing.T) {
	t.Parallel()
	const user, team, whole = "user,u1", "owner_id t1", ""
	inTeam := put("notes", "n1", `{"owner_id": "t1", "qty": 1}`)
	for _, test := range []struct {
		name, sql string
		operation upload.Operation
		part      string // of the table; empty if the whole lookup is locked
	}{
		{"OfAUser", "select count(*) as n from notes where owner_id = $auth.sub", inTeam, user},
		{"OfAUserInOtherWords", `SELECT count(*) FROM public.notes AS t WHERE t.gone = 'f' AND t.owner_id = $auth.sub::text`, inTeam, user},
		{"OfAUserInATeam", "select count(*) as n from notes where owner_id = $new.owner_id and title = $auth.sub", inTeam, user},
		{"OfATeam", "select count(*) as n from notes where owner_id = $new.owner_id and not gone", inTeam, team},
		{"OfATeamThatIsNotSent", "select count(*) as n from notes where owner_id = $new.owner_id", put("notes", "n1", `{}`), whole},
		{"OfATeamByAnotherColumn", "select count(*) as n from notes where owner_id = $new.title", put("notes", "n1", `{"title": "t1"}`), whole},
		{"OfTwoColumns", "select count(*) as n from notes where owner_id = $new.owner_id and qty = $new.qty", inTeam, "owner_id t1,qty 1"},
		{"OfATypeWithSeveralTexts", "select count(*) as n from notes where price = $new.price", put("notes", "n1", `{"price": 1.50}`), whole},
		{"OfAll", "select count(*) as n from notes where qty > $new.qty", inTeam, whole},
		{"OfAllOrAUser", "select 1 from notes where owner_id = $auth.sub or qty > 3", inTeam, whole},
		{"OfTheUsersTeam", "select count(*) as n from notes where title in (select list_id from members where user_id = $auth.sub )", inTeam, whole},
		{"OfTheUsersTeamByAJoin", "select count(*) as n from notes n join members m on m.list_id = n.title where m.user_id = $auth.sub", inTeam, whole},
		{"OfTheUsersTeamByAComma", "select count(*) as n from notes n, members m where m.list_id = n.title and m.user_id = $auth.sub", inTeam, whole},
		{"OfTheUsersTeamByADerivedTable", "select count(*) as n from (select title from notes) notes where title = $auth.sub", inTeam, whole},
		{"OfAllInASubquery", "select (select count(*) from notes) as n from notes where owner_id = $auth.sub limit 1", inTeam, whole},
		{"OfATeamBesideAUser", "select count(*) as n from notes where owner_id = $auth.sub and (select count(*) from notes where title = $new.title) < 9", inTeam, whole},
		{"OfAUserAsAMember", "select count(*) as n from notes where owner_id = $auth.sub and title in (select list_id from members)", inTeam, user},
		{"InAComment", "select count(*) as n from notes where qty > 1 -- and owner_id = $auth.sub", inTeam, whole},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			orders := planned(t, newPlanner(t, shop, quota(test.sql)), test.operation)
			keys := locks(t, orders[0], nil).Keys
			require.Len(t, keys, 1)
			require.Equal(t, "select case when shared then pg_advisory_xact_lock_shared(hashtextextended(key, 0)) else pg_advisory_xact_lock(hashtextextended(key, 0)) end"+
				" from unnest($1::text[], $2::boolean[]) as lock (key, shared)", keys[0].SQL)
			locked := args(keys[0])
			if test.part == whole {
				require.NotContains(t, locked[1], "true")
				return
			}
			require.Equal(t, `{"true","false"}`, locked[1])
			require.Contains(t, strings.NewReplacer(`\\\"`, "", `\"`, "", `\`, "").Replace(locked[0]), test.part)
		})
	}
	t.Run("LookupOfAnotherTable", func(t *testing.T) {
		t.Parallel()
		require.Empty(t, locks(t, planned(t, newPlanner(t, shop, quota("select 1 from small where a = $auth.sub")), inTeam)[0], nil).Keys)
	})
	t.Run("OneWithAndOneWithoutATeam", func(t *testing.T) {
		t.Parallel()
		orders := planned(t, newPlanner(t, shop, quota("select count(*) as n from notes where owner_id = $new.owner_id")), inTeam, put("notes", "n2", `{}`), inTeam)
		require.Equal(t, `{"false","false"}`, args(locks(t, orders[0], nil).Keys[0])[1], "the lookup and the team, each alone")
	})
}

// TestManyKeys has quotas with more keys than Postgres may have room for.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	const most = 2000
	quotas := newPlanner(t, shop, quota("select count(*) as n from notes where owner_id = $new.owner_id"))
	many := func(n int) (operations []upload.Operation) {
		for i := range n {
			operations = append(operations, put("notes", strconv.Itoa(i), fmt.Sprintf(`{"owner_id": "t%d"}`, i)))
		}
		return operations
	}
	require.Equal(t, most, strings.Count(args(locks(t, planned(t, quotas, many(most)...)[0], nil).Keys[0])[1], "false"))
	require.Equal(t, `{"false"}`, args(locks(t, planned(t, quotas, many(most+1)...)[0], nil).Keys[0])[1], "the quota as a whole")
}

// quota is a policy with a rule that looks something up.
func quota(sql string) string { return "tables: {notes: {allow: all, rules: [" + lookup(sql) + "]}}" }

// TestLocksOfContendedTables has operations without rules, in tables where requests wait
// for each other.
func TestLocksOfContendedTables(t *testing.T) {
	t.Parallel()
	type transaction = []upload.Operation
	const deleted = `select postern.lock_row($1, $2, array[k0::text]) from (select * from unnest(coalesce($3, array[(null::"public"."notes")."id"])) as key (k0) order by k0 offset 0) as key | 1 | {"id"} | `
	for _, test := range []struct {
		name, notes string // the policy of notes, which is contended
		transaction
		want []string
	}{
		{"Patches", "allow: all", transaction{patch("notes", "n2", `{"qty": 1}`), patch("notes", "n1", `{"qty": 1}`)}, []string{lockedNotes + `{"n2","n1"}`}},
		{"OnePatch", "allow: all", transaction{patch("notes", "n2", `{"qty": 1}`)}, nil},
		{"BesideAnotherTable", "allow: all", transaction{patch("notes", "n2", `{"qty": 1}`), put("secrets", "s1", `{}`)}, nil},
		{"PatchAndDelete", "allow: all", transaction{patch("notes", "n2", `{"qty": 1}`), remove("notes", "n1")}, []string{lockedNotes + `{"n2","n1"}`, deleted + `{"n1"}`}},
		{"Puts", "allow: all", transaction{put("notes", "n2", `{}`), put("notes", "n1", `{}`)}, []string{lockedNotes + `{"n2","n1"}`}},
		{"PutsThatOnlyInsert", "allow: all, put: insert", transaction{put("notes", "n2", `{}`), put("notes", "n1", `{}`)}, nil},
		{"PatchesThatChangeNothing", "allow: all", transaction{patch("notes", "n2", `{}`), patch("notes", "n1", `{}`)}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			orders := planned(t, newPlanner(t, shop, "tables: {notes: {"+test.notes+"}, secrets: {allow: all}}"), test.transaction...)
			var got []string
			for _, s := range locks(t, orders[0], map[uint32]bool{1: true}).Rows {
				got = append(got, statement(s))
			}
			require.Equal(t, test.want, got)
		})
	}
}
