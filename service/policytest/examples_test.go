package policytest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/apply"
	"postern/service/policytest"
	"postern/supabase"
	"postern/tests/rig"
)

const examples = "../../policies/examples"

func TestMain(m *testing.M) {
	rig.KeepPostgres()
	os.Exit(m.Run())
}

// start starts a throwaway Postgres with the schema of an example app.
func start(t *testing.T, app string) *policytest.Database {
	t.Helper()
	files, err := policytest.SchemaFiles(nil, filepath.Join(examples, app))
	require.NoError(t, err)
	db, err := policytest.Start(t.Context(), policytest.Throwaway{ProjectSQL: supabase.Project.SQL, Roles: supabase.Roles, Schema: files})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db
}

// runTests runs a test file beside the policies of an example app.
func runTests(t *testing.T, db *policytest.Database, app, tests string) *policytest.Report {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(examples, app))))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "app_test.yaml"), []byte(tests), 0o600))
	live, err := policies.Load(dir)
	require.NoError(t, err)
	report, err := policytest.Run(t.Context(), db, live, dir)
	require.NoError(t, err)
	return report
}

// TestExamples runs the tests of the example apps, which cover all of their rules and
// have no warnings. It finds nothing left of them in the database.
func TestExamples(t *testing.T) {
	t.Parallel()
	for app, table := range map[string]string{"lists": "tasks", "fieldservice": "work_orders", "shop": "products", "clinic": "appointments"} {
		t.Run(app, func(t *testing.T) {
			t.Parallel()
			db := start(t, app)
			live, err := policies.Load(filepath.Join(examples, app))
			require.NoError(t, err)
			coverage := live.WithCoverage()
			set, err := live.For(db.Snapshot())
			require.NoError(t, err)
			columns, problems, err := apply.PrepareLookups(t.Context(), db.Pool, "authenticated", db.Snapshot().Settings("authenticated"), set)
			require.NoError(t, err)
			require.NoError(t, problems)
			require.Empty(t, set.Warnings(db.Snapshot(), columns))
			report, err := policytest.Run(t.Context(), db, live, filepath.Join(examples, app))
			require.NoError(t, err)
			require.Greater(t, report.Count(), 7)
			for _, f := range report.Files {
				for _, result := range f.Results {
					require.Empty(t, result.Failures, result.Name)
				}
			}
			var uncovered strings.Builder
			policytest.CoverageText(&uncovered, coverage)
			require.NoError(t, policytest.CheckCoverage(coverage, 100), uncovered.String())
			var left int
			require.NoError(t, db.Pool.QueryRow(t.Context(), "select (select count(*) from "+table+") + (select count(*) from postern.receipts) + (select count(*) from postern.rejected_writes)").Scan(&left))
			require.Zero(t, left)
		})
	}
}

// TestOutcomesOfPostgres has outcomes that Postgres alone decides.
func TestOutcomesOfPostgres(t *testing.T) {
	t.Parallel()
	db := start(t, "lists")
	const list, task = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000001"
	head := "now: 2026-11-24T12:00:00Z\nusers: {ann: {sub: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001}, ben: {sub: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0002}}\n" +
		"rows: {lists: {" + list + ": {name: Groceries, owner_id: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001}}}\ntests:\n"
	put := "{op: PUT, table: tasks, id: " + task + ", op_data: {list_id: " + list + ", title: Milk, updated_at: 2026-11-24T11:00:00Z}}"
	for _, test := range []struct{ name, as, operations, outcome string }{
		{"RowLevelSecurity", "ben", put, "UNAUTHORIZED"},
		{"Default", "ann", put, "accepted, rows: {tasks: {" + task + ": {done: false, created_by: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001}}}"},
		{"ForeignKey", "ann", "{op: PUT, table: list_members, id: \"" + task + ":9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0002\"}", "UNAUTHORIZED"},
		{"NotNull", "ann", "{op: PATCH, table: lists, id: " + list + ", op_data: {archived: null}}", "NOT_NULL_VIOLATION"},
		{"InvalidData", "ann", "{op: PATCH, table: lists, id: " + list + ", op_data: {archived: perhaps}}", "INVALID_DATA"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			report := runTests(t, db, "lists", head+"  - {name: a, as: "+test.as+", operations: ["+test.operations+"], expect: {outcome: "+test.outcome+"}}\n")
			require.Equal(t, 1, report.Count())
			require.Empty(t, report.Files[0].Results[0].Failures)
		})
	}
}

// TestRowsOfAClosedTable gives a row of a table that no policy names and whose key has two
// columns, as a lookup's often has, and finds it again.
func TestRowsOfAClosedTable(t *testing.T) {
	t.Parallel()
	const ann, list = "9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001", "11111111-0000-4000-8000-000000000001"
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "app.yaml"), []byte("tables: {tasks: {allow: all}}\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "app_test.yaml"), []byte(`now: 2026-11-24T12:00:00Z
users: {ann: {sub: `+ann+`}}
rows:
  task_lists: {`+list+`: {name: Groceries, owner_id: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0002}}
  task_list_members: {"`+list+":"+ann+`": {}}
tests:
  - name: a member
    as: ann
    operations: [{op: PUT, table: tasks, id: 22222222-0000-4000-8000-000000000001, op_data: {list_id: `+list+`, title: Milk}}]
    expect: {outcome: accepted, rows: {task_list_members: {"`+list+":"+ann+`": {user_id: `+ann+`}, "`+list+":"+list+`": null}}}
`), 0o600))
	live, err := policies.Load(dir)
	require.NoError(t, err)
	report, err := policytest.Run(t.Context(), start(t, "lists"), live, dir)
	require.NoError(t, err)
	require.Equal(t, 1, report.Count())
	require.Empty(t, report.Files[0].Results[0].Failures)
}

// TestFailures has what the author of a test reads if it does not pass.
func TestFailures(t *testing.T) {
	t.Parallel()
	db := start(t, "shop")
	const tea = "55555555-0000-4000-8000-000000000001"
	head := "now: 2026-11-24T12:00:00Z\nusers: {carla: {sub: 8d000000-0000-4000-8000-000000000001}}\nrows: {products: {" + tea + ": {name: Tea, price: 2.50, stock: 10}}}\ntests:\n"
	sale := "operations: [{op: PATCH, table: products, id: " + tea + ", op_data: {stock: 5}, previous_values: {stock: 8}}]"
	for _, test := range []struct{ name, more, want string }{
		{"AnotherOutcome", sale + ", expect: {outcome: OUT_OF_STOCK}", "expected OUT_OF_STOCK, but it is accepted"},
		{"AnotherRow", sale + ", expect: {outcome: accepted, rows: {products: {" + tea + ": {stock: 5, name: Tea}}}}", "row \"" + tea + "\" of products is not as expected\n  name: \"Tea\"\n- stock: 5\n+ stock: 7"},
		{"NoRow", sale + ", expect: {outcome: accepted, rows: {products: {" + tea + ": null}}}", `expected no row "` + tea + "\" of products, but it is there\n+ id: \"" + tea + "\"\n+ name: \"Tea\"\n"},
		{"RowThatIsNotThere", sale + ", expect: {outcome: accepted, rows: {products: {55555555-0000-4000-8000-000000000002: {stock: 5}}}}", "of products, but it is not there\n- stock: 5"},
		{"Details", strings.Replace(sale, "stock: 5}", "stock: -9}", 1) + ", expect: {outcome: OUT_OF_STOCK, details: {left: 9}}", "the details are not as expected\n- {\"left\":9}\n+ {\"left\":10}"},
		{"ARowThatCannotBeGiven", "rows: {products: {" + tea + ": {name: Tea}}}, " + sale + ", expect: {outcome: accepted}", `row "` + tea + `" of products: products.price must have a value`},
		{"AStep", "steps: [{" + sale + ", expect: {outcome: accepted}}, {" + sale + ", expect: {outcome: OUT_OF_STOCK}}, {" + sale + ", expect: {outcome: accepted}}]", "step 2: expected OUT_OF_STOCK, but it is accepted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			report := runTests(t, db, "shop", head+"  - {name: a, as: carla, "+test.more+"}\n")
			require.Equal(t, 1, report.Failed())
			require.Contains(t, strings.Join(report.Files[0].Results[0].Failures, "\n"), test.want)
		})
	}
}

// TestCasesAndSteps has a test of several cases, and one of several transactions of two
// users, of which one is rejected.
func TestCasesAndSteps(t *testing.T) {
	t.Parallel()
	report := runTests(t, start(t, "lists"), "lists", `now: 2026-11-24T12:00:00Z
users: {ann: {sub: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001}, ben: {sub: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0002}}
tests:
  - name: names
    cases:
      - {name: empty, text: "", outcome: NAME_LENGTH, rule: name-length, archived: 0}
      - {name: number, text: 7, outcome: accepted, rule: null, archived: 1}
    as: ann
    operations: [{op: PUT, table: lists, id: 11111111-0000-4000-8000-000000000001, op_data: {name: "${text}", archived: "${archived}"}}]
    expect: {outcome: "${outcome}", rule: "${rule}"}
  - name: first one, then another
    as: ann
    steps:
      - operations: [{op: PUT, table: lists, id: 11111111-0000-4000-8000-000000000001, op_data: {name: Work}}]
        expect: {outcome: accepted, rows: {lists: {11111111-0000-4000-8000-000000000001: {name: Work}}}}
      - as: ben
        operations: [{op: PATCH, table: lists, id: 11111111-0000-4000-8000-000000000001, op_data: {name: Mine}}]
        expect: {outcome: UNAUTHORIZED}
      - now: 2026-11-25T12:00:00Z
        operations: [{op: PATCH, table: lists, id: 11111111-0000-4000-8000-000000000001, op_data: {archived: true}}]
        expect: {outcome: accepted, rows: {lists: {11111111-0000-4000-8000-000000000001: {name: Work, archived: true}}}}
`)
	var names []string
	for _, result := range report.Files[0].Results {
		names = append(names, fmt.Sprint(result.Name, " ", result.Line, " ", len(result.Steps)))
		require.Empty(t, result.Failures, result.Name)
	}
	require.Equal(t, []string{"names/empty 6 1", "names/number 7 1", "first one, then another 11 3"}, names)
}

// TestText is what a report looks like, with colours and without.
func TestText(t *testing.T) {
	t.Parallel()
	report := &policytest.Report{Files: []policytest.File{{Path: "a_test.yaml", Results: []policytest.Result{{Name: "a", Line: 3,
		Failures: []string{"row \"1\" of products is not as expected\n  name: \"Tea\"\n- stock: 5\n+ stock: 7"}}}}}}
	var plain, coloured strings.Builder
	report.Text(&plain, false, false)
	require.Equal(t, "--- FAIL: a (0s)\n    a_test.yaml:3: row \"1\" of products is not as expected\n          name: \"Tea\"\n        - stock: 5\n        + stock: 7\nFAIL\ta_test.yaml\t1 tests\t0s\n", plain.String())
	report.Text(&coloured, false, true)
	require.Contains(t, coloured.String(), "          name: \"Tea\"\n        \x1b[31m- stock: 5\x1b[0m\n        \x1b[32m+ stock: 7\x1b[0m\n")
}

func TestSchemaFiles(t *testing.T) {
	t.Parallel()
	write := func(dir string, names ...string) string {
		for _, name := range names {
			path := filepath.Join(dir, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte("select 1;"), 0o600))
		}
		return dir
	}
	for _, test := range []struct {
		name  string
		files []string
		given []string
		want  []string
	}{
		{"SupabaseBeside", []string{"supabase/migrations/2.sql", "supabase/migrations/1.sql", "schema.sql"}, nil, []string{"supabase/migrations/1.sql", "supabase/migrations/2.sql"}},
		{"MigrationsWithoutTheirDown", []string{"migrations/1.up.sql", "migrations/1.down.sql"}, nil, []string{"migrations/1.up.sql"}},
		{"SchemaInside", []string{"policies/schema.sql"}, nil, []string{"policies/schema.sql"}},
		{"Given", []string{"a.sql", "b/1.sql", "schema.sql"}, []string{"a.sql", "b"}, []string{"a.sql", "b/1.sql"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := write(t.TempDir(), test.files...)
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "policies"), 0o755))
			var given []string
			for _, name := range test.given {
				given = append(given, filepath.Join(dir, name))
			}
			found, err := policytest.SchemaFiles(given, filepath.Join(dir, "policies"))
			require.NoError(t, err)
			for i := range found {
				found[i], err = filepath.Rel(dir, found[i])
				require.NoError(t, err)
			}
			require.Equal(t, test.want, found)
		})
	}
	t.Run("None", func(t *testing.T) {
		t.Parallel()
		_, err := policytest.SchemaFiles(nil, filepath.Join(t.TempDir(), "policies"))
		require.ErrorContains(t, err, "--schema")
	})
}

// TestSchemaErrors has a mistake in the app's schema, which is named by file and line.
func TestSchemaErrors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "schema.sql")
	require.NoError(t, os.WriteFile(path, []byte("create table a (id int);\n\ncreate table b (id nothing);\n-- migrate:down\ndrop table a;"), 0o600))
	_, err := policytest.Start(t.Context(), policytest.Throwaway{ProjectSQL: supabase.Project.SQL, Roles: supabase.Roles, Schema: []string{path}})
	require.ErrorContains(t, err, path+`:3: type "nothing" does not exist`)
}
