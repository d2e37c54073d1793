package command_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// policy runs postern policy and returns what it prints and its exit code.
func policy(t *testing.T, databaseURL string, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), rig.Command(t), append([]string{"policy"}, args...)...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+databaseURL)
	content, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(content), exit.ExitCode()
	}
	require.NoError(t, err, "%s", content)
	return string(content), 0
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

const startersTables = `
create table open_notes (id uuid primary key, owner_id uuid, text text, created_at timestamptz default now(), updated_at timestamptz);
create table shared_notes (id uuid primary key, owner_id uuid, added timestamptz default current_timestamp, rev int not null default 1, is_deleted boolean not null default false);
create table unguarded (id int primary key);
create table ungranted (id int primary key);
create table unpolicied (id int primary key);
create table keyless (n int);
create table log (id uuid primary key);
create table "odd name" (a int, "b c" int, primary key (a, "b c"));
create schema app;
create table app.notes (id uuid primary key);
grant usage on schema app to authenticated;
grant select, insert, update, delete on open_notes, unguarded, unpolicied, keyless, "odd name", app.notes, shared_notes to authenticated;
revoke all on ungranted from authenticated;
revoke all on log from authenticated;
grant insert on log to authenticated;
alter table open_notes enable row level security;
alter table shared_notes enable row level security;
create policy everybody on shared_notes to authenticated using (owner_id = auth.uid() or is_deleted = false);
alter table unpolicied enable row level security;
alter table log enable row level security;
alter table keyless enable row level security;
alter table "odd name" enable row level security;
alter table app.notes enable row level security;
create policy own on open_notes to authenticated using (owner_id = auth.uid());
create policy "log it" on log for insert to authenticated with check (true);
create policy all_of_it on keyless using (true);
create policy all_of_it on "odd name" using (true);
create policy all_of_it on app.notes for select using (true);
create policy mine on app.notes for insert with check (true);`

func TestPolicyInitAndCheck(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, startersTables)
	dir := filepath.Join(t.TempDir(), "policies")

	output, code := policy(t, "", "init", dir)
	require.Equal(t, 2, code, output)
	require.Contains(t, output, "DATABASE_URL is not set")

	output, code = policy(t, database.LoginURL, "init", dir)
	require.Zero(t, code, output)
	require.Contains(t, output, "app.yaml written")
	content, err := os.ReadFile(filepath.Join(dir, "app.yaml"))
	require.NoError(t, err)
	for _, wanted := range []string{
		"  # row-level security \"own\", all: using (owner_id = auth.uid())\n  open_notes:\n    allow: [create, update, delete]\n    owner: owner_id # set",
		"    # set: {created_at: now} # later for each row",
		"    # immutable: [created_at] # so it is set in new rows only\n",
		"    # conflict: {newest: updated_at}",
		"  shared_notes:\n    allow: [create, update, delete]\n    # set: {added: now} #",
		"    # conflict: {version: rev} # an edit of an older version is rejected",
		"    # soft_delete: is_deleted # a DELETE sets it",
		"  # public.unguarded is closed: row-level security is off",
		"\n  # unguarded:\n  #   allow: [create, update, delete]\n",
		"  # public.ungranted is closed: authenticated has no grants to write to it.\n  #     grant select, insert, update, delete on \"public\".\"ungranted\" to authenticated;\n",
		"  # public.unpolicied is closed: row-level security is on and no policy",
		"  # public.keyless is closed: it has no primary key",
		"\n  log:\n    allow: [create]\n",
		"\n  \"odd name\":\n    allow: [create, update, delete]\n    id: [a, \"b c\"]",
		"\n  notes:\n    table: \"app.notes\"\n    allow: [create]\n",
	} {
		require.Contains(t, string(content), wanted)
	}

	output, code = policy(t, database.LoginURL, "check", dir)
	require.Zero(t, code, output)
	require.Contains(t, output, "for the tables of the database")
	output, code = policy(t, database.LoginURL, "init", dir)
	require.Equal(t, 2, code, output)
	require.Contains(t, output, "has policies already, and stays as it is")

	database.Exec(t, `alter table open_notes add column pinned boolean`)
	output, code = policy(t, database.LoginURL, "schema", dir)
	require.Zero(t, code, output)
	for _, name := range []string{"policy.schema.json", "policy_test.schema.json"} {
		require.Contains(t, output, name+" written")
		content, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Contains(t, string(content), `"pinned"`)
		require.NotContains(t, string(content), `"receipts"`)
	}
}

func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "app.yaml"), `
tables:
  lists:
    allow: all
    rules:
      - name: r
        lookup: {other: select nothing from lists where id = $new.id}
        check: lookup.other == null
        code: R
        message: R
`)
	output, code := policy(t, "", "check", dir)
	require.Equal(t, 2, code, output)
	require.Contains(t, output, "the app's schema is not known")
	output, code = policy(t, database.LoginURL, "check", dir)
	require.Equal(t, 1, code, output)
	require.Contains(t, output, `app.yaml:7:18: tables.lists.rules[0].lookup.other: column "nothing" does not exist`)

	schema := write(t, filepath.Join(dir, "schema.sql"), "create table lists (id uuid primary key, owner_id uuid);")
	output, code = policy(t, "", "check", dir)
	require.Equal(t, 1, code, output)
	require.Contains(t, output, `column "nothing" does not exist`)
	output, code = policy(t, "", "check", dir, "--schema", schema, "--provider", "neon")
	require.Equal(t, 1, code, output)

	database.Exec(t, `create table secret (v text); revoke all on secret from authenticated;
		create table limits (least int not null, most int); grant select on limits to authenticated`)
	write(t, filepath.Join(dir, "app.yaml"), `
params: {unused: 1}
tables:
  lists:
    allow: all
    rules:
      - name: secret
        lookup: {secret: select v from secret}
        check: lookup.secret.w == null
        code: R
        message: R
      - name: limits
        lookup: {limit: "select least, most as highest, most + 1 as more from limits"}
        check: lookup.limit.least > 1 && lookup.limit.highest > 1 && lookup.limit.more > 1
        code: R
        message: R
      - name: zone
        on: [put]
        check: now.getHours('Europe/Berln') < 20
        code: R
        message: R
`)
	output, code = policy(t, database.LoginURL, "check", dir)
	require.Equal(t, 1, code, output)
	for _, wanted := range []string{
		`app.yaml:8:18: tables.lists.rules[0].lookup.secret: permission denied for table secret`,
		`app.yaml:19:29: tables.lists.rules[2].check: there is no time zone "Europe/Berln"`,
		`warning: ` + filepath.Join(dir, "app.yaml") + `:2:10: params.unused: no expression uses unused`,
		`app.yaml:14:42: tables.lists.rules[1].check: lookup.limit.highest may be null`,
	} {
		require.Contains(t, output, wanted, "a mistake hides no other one")
	}
	require.NotContains(t, output, "ok:")
	require.Equal(t, 1, strings.Count(output, "may be null"), output)

	write(t, filepath.Join(dir, "app.yaml"), "tables: {lists: {allow: all, owner: owner}}\n")
	output, code = policy(t, "", "check", dir)
	require.Equal(t, 1, code)
	require.Equal(t, filepath.Join(dir, "app.yaml")+`:1:30: tables.lists.owner: public.lists has no column "owner": did you mean "owner_id"?`+"\n", output)

	write(t, filepath.Join(dir, "app.yaml"), "tables: {lists: {allow: [put]}}\n")
	output, code = policy(t, "", "check", dir)
	require.Zero(t, code)
	require.Contains(t, output, "warning: "+filepath.Join(dir, "app.yaml")+":1:18: tables.lists.allow: patch is not allowed, but a PUT")
	require.Contains(t, output, "ok: 1 table, 0 rules")
	output, code = policy(t, "", "check", dir, "--strict")
	require.Equal(t, 1, code, output)
	require.Contains(t, output, "--strict: the policies have warnings (2)")

	write(t, filepath.Join(dir, "app.yaml"), "tables: {}\n")
	output, code = policy(t, "", "check", dir)
	require.Zero(t, code)
	require.Contains(t, output, "warning: the policies open no table, so every write is rejected")

	write(t, filepath.Join(dir, "other.yaml"), "table: {}\n")
	write(t, filepath.Join(dir, "app.yaml"), "tables: {lists: {allow: [putt], owner: owner}}\n")
	output, code = policy(t, "", "check", dir)
	require.Equal(t, 1, code)
	for _, wanted := range []string{`other.yaml:1:1: unknown field "table"`, `"putt" is not an operation`, `has no column "owner"`} {
		require.Contains(t, output, wanted, "the mistakes of all files at once")
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "other.yaml")))
	write(t, filepath.Join(dir, "app.yaml"), "tables: {lists: {allow: [put]}}\n")
	for _, args := range [][]string{{"check", filepath.Join(dir, "nowhere")}, {"check", "--colour"}, {"check", dir, dir}} {
		output, code = policy(t, "", args...)
		require.Equal(t, 2, code, output)
	}
	output, code = policy(t, "postgres://nobody@127.0.0.1:1/none?connect_timeout=1", "check", dir)
	require.Equal(t, 2, code, output)
}

func TestPolicyTest(t *testing.T) {
	t.Parallel()
	output, code := policy(t, "", "test", "../../policies/examples/shop")
	require.Zero(t, code, output)
	require.Regexp(t, `^ok  \t\S+shop/app_test.yaml\t12 tests\t`, output)

	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("../../policies/examples/shop")))
	path := filepath.Join(dir, "app_test.yaml")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	broken := strings.Replace(string(content), "{stock: 7}", "{stock: 5}", 1)
	write(t, path, strings.Replace(broken, "outcome: OUT_OF_STOCK, client: true", "outcome: OUT_OF_STOCK, client: false", 1))
	junit := filepath.Join(dir, "junit.xml")
	output, code = policy(t, "", "test", dir, "--junit", junit)
	require.Equal(t, 1, code, output)
	require.Contains(t, output, "--- FAIL: a sale takes stock by how much was sold")
	require.Contains(t, output, path+":9: row \"55555555-0000-4000-8000-000000000001\" of products is not as expected\n        - stock: 5\n        + stock: 7\n")
	require.Contains(t, output, "expected client: false, but it is true")
	require.Contains(t, output, "operation 2: rule enough passed: old.stock = 10, new.stock = 7")
	require.Contains(t, output, "operation 2: updated: stock 10 -> 7")
	require.Contains(t, output, "2 of 12 tests failed")
	report, err := os.ReadFile(junit)
	require.NoError(t, err)
	require.Contains(t, string(report), `<testsuites tests="12" failures="2">`)
	require.Contains(t, string(report), `<failure message="expected client: false, but it is true">`)

	write(t, path, "tests: [{name: x, as: nobody, operations: [], nonsense: 1}]")
	output, code = policy(t, "", "test", dir)
	require.Equal(t, 1, code)
	require.Contains(t, output, path+`:1:47: unknown field "nonsense"`)
	require.NoError(t, os.Remove(path))
	output, code = policy(t, "", "test", dir)
	require.Equal(t, 2, code, output)
	require.Contains(t, output, "has no *_test.yaml")
}

// TestPolicyTestOnADatabase runs tests in a database of the app's own, in which they
// leave nothing behind.
func TestPolicyTestOnADatabase(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	schema, err := os.ReadFile("../../policies/examples/shop/schema.sql")
	require.NoError(t, err)
	database.Exec(t, string(schema))
	output, code := policy(t, "", "test", "../../policies/examples/shop", "--database", database.OwnerURL+"&statements=named") // of a copied DATABASE_URL
	require.Zero(t, code, output)
	require.Equal(t, "0", database.Text(t, `select (select count(*) from products) + (select count(*) from sales) + (select count(*) from postern.rejected_writes)`))
}

func TestPolicyExplain(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	schema, err := os.ReadFile("../../policies/examples/shop/schema.sql")
	require.NoError(t, err)
	database.Exec(t, string(schema))
	const tea, till = "55555555-0000-4000-8000-000000000001", "8d000000-0000-4000-8000-000000000001"
	database.Exec(t, `insert into products values ($1, 'Tea', 2.50, 3)`, tea)
	dir := t.TempDir()
	patch := func(to string) string {
		return write(t, filepath.Join(dir, to), `{"transactions":[{"crud":[{"op":"PATCH","table":"products","id":"`+tea+`","op_data":{"stock":`+to+`},"previous_values":{"stock":8}}]}]}`)
	}
	args := func(path string, more ...string) []string {
		return append([]string{"explain", path, "--policies", "../../policies/examples/shop", "--sub", till}, more...)
	}

	output, code := policy(t, database.LoginURL, args(patch("6"))...)
	require.Zero(t, code, output)
	require.Contains(t, output, "rule enough passed: old.stock = 3, new.stock = 1")
	require.Contains(t, output, "would be accepted")
	require.Equal(t, "3", database.Text(t, `select stock from products`), "nothing is written")
	require.Equal(t, "0", database.Text(t, `select count(*) from postern.receipts`))

	output, code = policy(t, database.LoginURL, args(patch("2"))...)
	require.Zero(t, code, output)
	require.Contains(t, output, "rule enough REJECTED: old.stock = 3, new.stock = -3")
	require.Contains(t, output, "would be rejected: OUT_OF_STOCK: There are not that many left (operation 0, rule enough); the client keeps it until the app decides")
	require.Equal(t, "0", database.Text(t, `select count(*) from postern.rejected_writes`))

	output, code = policy(t, "", args(patch("2"))...)
	require.Zero(t, code, output)
	require.Contains(t, output, "operation 0: ignored: the row does not exist", "in a throwaway database")
	given := write(t, filepath.Join(dir, "given.yaml"), `rows: {products: {`+tea+`: {name: Tea, price: 2.5, stock: 9}}}`)
	output, code = policy(t, "", args(patch("2"), "--rows", given)...)
	require.Zero(t, code, output)
	require.Contains(t, output, "rule enough passed: old.stock = 9, new.stock = 3")
	require.Contains(t, output, "operation 0: updated: stock 9 -> 3; stock is not what was sent, merged by increment: it is 3")

	for _, wrong := range [][]string{{"explain", patch("2")}, {"explain"}, {"explain", dir}, args(given), {"explain", patch("2"), "--claims", `{"sub":"x","role":"service_role"}`}} {
		output, code = policy(t, database.LoginURL, wrong...)
		require.Equal(t, 2, code, output)
	}
}
