package conformance_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/tests/rig"
)

const jobs = `
	create table jobs (id text primary key, title text not null default 'none', done boolean not null default false, by uuid, times int, made_by text not null default 'nobody',
		place text, org text);
	create table places (id text primary key, org text);
	create table notes (id text primary key, job text);
	create table changes (row_id text, field text, previous jsonb, value jsonb);
	create function finish() returns trigger language plpgsql security definer as $$ begin update jobs set done = true, by = null where id = new.job; return new; end $$;
	create trigger finish after insert on notes for each row execute function finish();
	insert into places values ('here', 'acme');
	grant select, insert, update, delete on jobs, places, notes, changes to authenticated;`

const jobPolicies = `
let:
  place: {lookup: "select org from places where id = $new.place"}
tables:
  places: {allow: all}
  notes: {allow: all}
  jobs:
    allow: all
    set:
      by: {when: new.done != old.done, value: "new.done ? auth.sub : null"}
      times: "old == null ? 1 : old.times + 1"
    defaults: {org: place.org}
  ruled:
    table: jobs
    allow: all
    history: changes
    set: {by: {when: new.done != old.done, value: "new.done ? auth.sub : null"}}
    rules:
      - {name: by, check: "!new.done || new.by != null", code: BY, message: Nobody}
      - {name: sent, on: [create, update], check: "new.title != 'no'", code: NO, message: No}
  created: {table: jobs, allow: all, set: {made_by: {value: "place == null ? id : place.org", on: [create]}}}
  updated: {table: jobs, allow: all, set: {org: {value: old.title, on: [update]}}}
  replaced: {table: jobs, allow: all, put: replace, set: {org: {when: new.done, value: "new.title == null ? 'none' : new.title"}, times: "old == null ? 1 : old.times + 1"}}
  counted: {table: jobs, allow: all, conflict: {increment: [times]}, set: {org: string(new.times)}}
  merged: {table: jobs, allow: all, conflict: fields, set: {org: new.title + old.title}}
  inserted: {table: jobs, allow: [create], set: {org: place.org}}
  wrong: {table: jobs, allow: all, set: {times: dyn(data.title)}}
  required: {table: jobs, allow: all, set: {title: new.org}}`

// TestSets has what the policy sets depending on the stored row and on lookups, with a rule
// in Go beside it and without.
func TestSets(t *testing.T) {
	t.Parallel()
	watches := policies.CodeRule{Name: "watches", Tables: []string{"jobs"}, Decide: func(context.Context, *policies.Tx) error { return nil }}
	for name, code := range map[string][]policies.CodeRule{"Alone": nil, "BesideARuleInGo": {watches}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := rig.NewDatabase(t)
			database.Exec(t, jobs)
			testSets(t, &testBundle{Service: rig.NewServiceOn(t, database, rig.Policies(t, jobPolicies).WithCode(code...)), db: database})
		})
	}
}

func testSets(t *testing.T, b *testBundle) {
	names := strings.NewReplacer("alice", rig.UserID("alice"), "bob", rig.UserID("bob"))
	for _, test := range []struct {
		name, stored string // the values of the row's columns; empty if there is none
		operations   []string
		outcome      string
		want         string
	}{
		{"CreateDone", "", []string{"PUT jobs done:true"}, "success", "none,true,alice,1,nobody,"},
		{"CreateNotDone", "", []string{"PUT jobs by:bob"}, "success", "none,false,,1,nobody,"},
		{"PatchDone", "a,false,,1,x,o", []string{"PATCH jobs done:true"}, "success", "a,true,alice,2,x,o"},
		{"PatchDoneAgain", "a,true,bob,1,x,o", []string{"PATCH jobs done:true by:alice"}, "success", "a,true,bob,2,x,o"},
		{"PatchNotDone", "a,true,bob,1,x,o", []string{"PATCH jobs done:false by:alice"}, "success", "a,false,,2,x,o"},
		{"PatchOfAnother", "a,true,bob,1,x,o", []string{"PATCH jobs title:b"}, "success", "b,true,bob,2,x,o"},
		{"PatchOfWhatIsSetAlone", "a,true,bob,1,x,o", []string{"PATCH jobs by:alice"}, "success", "a,true,bob,2,x,o"},
		{"PatchOfNothing", "a,true,bob,1,x,o", []string{"PATCH jobs"}, "success", "a,true,bob,1,x,o"},
		{"PatchOfNoRow", "", []string{"PATCH jobs done:true"}, "success", "<null>"},
		{"PutMerges", "a,false,,1,x,o", []string{"PUT jobs done:true"}, "success", "a,true,alice,2,x,o"},
		{"PutOfAllColumns", "a,false,,1,x,o", []string{"PUT jobs title:b done:true by:bob times:9 org:p"}, "success", "b,true,alice,2,x,p"},
		{"Delete", "a,false,,1,x,o", []string{"DELETE jobs"}, "success", "<null>"},

		{"EarlierOperationOfTheRow", "a,false,,1,x,o", []string{"PATCH jobs done:true", "PATCH jobs done:false", "PATCH jobs done:true"}, "success", "a,true,alice,4,x,o"},
		{"EarlierOperationInserts", "", []string{"PUT jobs done:true", "PATCH jobs title:b", "PATCH jobs done:false"}, "success", "b,false,,3,nobody,"},
		{"EarlierOperationDeletes", "a,true,bob,5,x,o", []string{"DELETE jobs", "PUT jobs done:true"}, "success", "none,true,alice,1,nobody,"},
		{"EarlierOperationHasATrigger", "a,false,bob,1,x,o", []string{"PATCH other/jobs done:true", "PUT notes job:EarlierOperationHasATrigger", "PATCH jobs done:true"}, "success", "a,true,,2,x,o"},

		{"DefaultByALookup", "", []string{"PUT jobs place:here"}, "success", "none,false,,1,nobody,acme"},
		{"DefaultThatIsSent", "", []string{"PUT jobs place:here org:mine"}, "success", "none,false,,1,nobody,mine"},
		{"DefaultOfAStoredRow", "a,false,,1,x,o", []string{"PUT jobs place:here"}, "success", "a,false,,2,x,o"},
		{"EarlierOperationIsLookedUp", "", []string{"PATCH other/jobs done:true", "PUT place/places org:new", "PUT jobs place:place"}, "success", "none,false,,1,nobody,new"},
		{"InsertByALookup", "", []string{"PUT inserted place:here"}, "success", "none,false,,,nobody,acme"},

		{"RuleSeesWhatIsSet", "a,false,,1,x,o", []string{"PATCH ruled done:true"}, "success", "a,true,alice,1,x,o"},
		{"RuleSeesWhatIsKept", "a,true,,1,x,o", []string{"PATCH ruled done:true by:alice"}, "BY", "a,true,,1,x,o"},
		{"RuleOverWhatWasSent", "a,true,bob,1,x,o", []string{"PATCH jobs done:false", "PATCH ruled title:no"}, "NO", "a,true,bob,1,x,o"},

		{"OnCreate", "", []string{"PUT created place:here"}, "success", "none,false,,,acme,"},
		{"OnCreateOfAStoredRow", "a,false,,1,x,o", []string{"PUT created place:here title:b"}, "success", "b,false,,1,x,o"},
		{"OnCreateIsSentForAStoredRow", "a,false,,1,x,o", []string{"PUT created place:here made_by:me"}, "success", "a,false,,1,me,o"},
		{"OnUpdate", "a,false,,1,x,o", []string{"PUT updated title:b"}, "success", "b,false,,1,x,a"},
		{"OnUpdateOfANewRow", "", []string{"PUT updated title:b org:mine"}, "success", "b,false,,,nobody,mine"},
		{"Replaced", "a,true,bob,4,x,o", []string{"PUT replaced done:true"}, "success", "none,true,,5,nobody,none"},
		{"ReplacedAndKept", "a,true,bob,4,x,o", []string{"PUT replaced title:b done:false"}, "success", "b,false,,5,nobody,o"},
		{"Increment", "a,true,bob,4,x,o", []string{"PATCH counted times:7<5"}, "success", "a,true,bob,6,x,7"},
		{"Fields", "a,true,bob,4,x,o", []string{"PATCH merged title:c<b"}, "success", "a,true,bob,4,x,ca"},

		{"FieldsWithAPreviousValueOfWhatIsSet", "a,true,bob,4,x,o", []string{"PATCH merged title:c<b org:x<y"}, "success", "a,true,bob,4,x,ca"},
		{"NullForItsColumn", "a,true,bob,4,x,o", []string{"PATCH required org:null"}, "retryable_error", "a,true,bob,4,x,o"},
		{"WrongForItsColumn", "a,true,bob,4,x,o", []string{"PATCH wrong title:many"}, "retryable_error", "a,true,bob,4,x,o"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.stored != "" {
				b.db.Exec(t, `insert into jobs (id, title, done, by, times, made_by, org) select $1, v[1], v[2]::boolean, nullif(v[3], '')::uuid, v[4]::int, v[5], v[6] from string_to_array($2, ',') as v`, test.name, names.Replace(test.stored))
			}
			var crud []string
			for _, words := range test.operations {
				crud = append(crud, names.Replace(crudOf(test.name, words)))
			}
			require.Equal(t, test.outcome, b.outcome(t, "alice", strings.Join(crud, ",")))
			require.Equal(t, names.Replace(test.want), b.db.Text(t, `select (select concat_ws(',', title, done::text, coalesce(by::text, ''), coalesce(times::text, ''), made_by, coalesce(org, '')) from jobs where id = $1)`, test.name))
		})
	}
}

// crudOf is an operation written as "PATCH other/jobs done:true times:7<5": its verb, the
// row if it is another one, its table, and the columns with their previous values.
func crudOf(row, words string) string {
	list := strings.Fields(words)
	table, id := list[1], row
	if other, name, ok := strings.Cut(table, "/"); ok {
		table, id = name, row+other
		if other == "place" {
			id = other
		}
	}
	var data, previous []string
	for _, word := range list[2:] {
		name, value, _ := strings.Cut(word, ":")
		value, was, tracked := strings.Cut(value, "<")
		data = append(data, strings.ReplaceAll(fmt.Sprintf("%q:%q", name, value), `"null"`, "null"))
		if tracked {
			previous = append(previous, fmt.Sprintf("%q:%q", name, was))
		}
	}
	if previous != nil {
		return patch(table, id, strings.Join(data, ","), strings.Join(previous, ","))
	}
	return op(list[0], table, id, strings.Join(data, ","))
}

// TestSetsOfTheGuide runs the policy that the guide shows values with.
func TestSetsOfTheGuide(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../policies/README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(guide), "## Values that the policy sets")
	require.True(t, found)
	_, section, found = strings.Cut(section, "```yaml\n")
	require.True(t, found)
	yaml, _, _ := strings.Cut(section, "```")
	b := setupSchema(t, `
		create table projects (id text primary key, org_id text);
		create table tasks (id text primary key, project_id text, org_id text, done boolean not null default false, completed_by uuid, starts date, due date, updated_at timestamptz);
		grant select, insert, update, delete on projects, tasks to authenticated`, yaml)
	for _, test := range []struct{ user, crud, want string }{
		{"alice", op("PUT", "projects", "p", `"org_id":"acme"`) + "," + op("PUT", "tasks", "1", `"project_id":"p","org_id":"mine","starts":"2026-11-24"`), "acme f . 2026-12-01"},
		{"bob", op("PATCH", "tasks", "1", `"done":1`), "acme t bob 2026-12-01"},
		{"alice", op("PATCH", "tasks", "1", `"done":1,"completed_by":null,"due":"2026-12-24"`), "acme t bob 2026-12-24"},
		{"alice", op("PUT", "tasks", "1", `"done":0`), "acme f . 2026-12-24"},
	} {
		require.Equal(t, "success", b.outcome(t, test.user, test.crud))
		got := b.db.Text(t, `select concat_ws(' ', org_id, done, coalesce(completed_by::text, '.'), due) from tasks`)
		require.Equal(t, test.want, strings.ReplaceAll(got, rig.UserID("bob"), "bob"), test.crud)
	}
}

// TestSetsOfDeletedRows has rows that a soft delete has deleted.
func TestSetsOfDeletedRows(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table files (id text primary key, title text, n int, gone boolean not null default false);
		grant select, insert, update, delete on files to authenticated`,
		`tables: {files: {allow: all, soft_delete: gone, set: {n: "old == null ? 1 : old.n + 1"}}}`)
	for _, test := range []struct{ crud, outcome, want string }{
		{op("PUT", "files", "1", `"title":"a"`), "success", "a 1 f"},
		{op("PATCH", "files", "1", `"title":"b"`), "success", "b 2 f"},
		{op("DELETE", "files", "1", ""), "success", "b 2 t"},
		{op("PATCH", "files", "1", `"title":"c"`), "success", "b 2 t"},
		{op("PUT", "files", "1", `"title":"c"`), "ROW_DELETED", "b 2 t"},
	} {
		require.Equal(t, test.outcome, b.outcome(t, "alice", test.crud), test.crud)
		require.Equal(t, test.want, b.db.Text(t, `select concat_ws(' ', title, n, gone) from files`), test.crud)
	}
}

// TestSetsAtOnce has devices write to one row at the same time. Each is counted.
func TestSetsAtOnce(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, jobs, jobPolicies)
	const devices = 8
	for _, verb := range []string{"PUT", "PATCH"} {
		t.Run(verb, func(t *testing.T) {
			if verb == "PATCH" {
				b.db.Exec(t, `insert into jobs (id, times) values ($1, 0)`, verb)
			}
			outcomes := atOnce(t, b, devices, func(i int) string { return op(verb, "jobs", verb, fmt.Sprintf(`"title":"%d"`, i)) })
			require.Equal(t, map[string]int{"success": devices}, outcomes)
			require.Equal(t, strconv.Itoa(devices), b.db.Text(t, `select times::text from jobs where id = $1`, verb))
		})
	}
}

// TestManySets has a request of transactions that wait for rows. Each changes a row of its
// own, then each changes that of all.
func TestManySets(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, jobs, jobPolicies)
	const n = 50
	for at, test := range []struct {
		name string
		row  func(i int) string
		want string // how often each row was written
	}{
		{"OwnRows", func(i int) string { return fmt.Sprint("own", i) }, "1"},
		{"OneRow", func(int) string { return "one" }, strconv.Itoa(n)},
		{"TwoRowsInTurns", func(i int) string { return fmt.Sprint("two", i%2) }, strconv.Itoa(n / 2)},
	} {
		var transactions []string
		for i := range n {
			transactions = append(transactions, fmt.Sprintf(`{"transaction_id":%d,"crud":[%s]}`, at*n+i+1, op("PUT", "jobs", test.row(i), fmt.Sprintf(`"title":"%d"`, i))))
		}
		for _, result := range b.Upload(t, "alice", `{"transactions":[`+strings.Join(transactions, ",")+`]}`).Results(t) {
			require.Equal(t, "success", result.Status, test.name)
		}
		require.Equal(t, test.want, b.db.Text(t, `select string_agg(distinct times::text, ',') from jobs where id like $1`, test.row(0)[:3]+"%"), test.name)
	}
}
