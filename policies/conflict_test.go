package policies_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog/catalogtest"
	"postern/service/upload"
)

// TestConflictByColumn has the strategy of each column, and what cannot be written.
func TestConflictByColumn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, more, conflict, strategies, problem string }{
		{"Mixed", "", "{columns: {title: {newest: updated_at}, qty: increment, note: fields, list_id: reject}}",
			"list_id: reject, note: fields, qty: increment, title: newest updated_at, updated_at: latest", ""},
		{"Ahead", "", "{columns: {title: {newest: {column: updated_at, ahead: 5m}}}}", "title: newest updated_at, updated_at: latest 5m0s", ""},
		{"NewestByANumber", "", "{columns: {title: {newest: rev}}}", "rev: latest, title: newest rev", ""},
		{"AllOthers", "", "{columns: {qty: increment, title: {newest: updated_at}, '*': fields}}",
			"deleted: fields, done: fields, due: fields, list_id: fields, meta: fields, mood: fields, note: fields, owner_id: fields, price: fields, qty: increment, rev: fields, tags: fields, title: newest updated_at, updated_at: latest, weight: fields", ""},
		{"AllOthersAreTheNewest", "", "{columns: {qty: increment, '*': {newest: updated_at}}}",
			"deleted: newest updated_at, done: newest updated_at, due: newest updated_at, list_id: newest updated_at, meta: newest updated_at, mood: newest updated_at, note: newest updated_at, owner_id: newest updated_at, price: newest updated_at, qty: increment, rev: newest updated_at, tags: newest updated_at, title: newest updated_at, updated_at: latest, weight: newest updated_at", ""},
		{"AllOthersThatClientsChange", "owner: owner_id, soft_delete: deleted, immutable: [list_id], set: {mood: \"'calm'\"}, defaults: {note: \"'none'\"}, writable: [title]", "{columns: {'*': fields}}",
			"done: fields, due: fields, meta: fields, note: fields, price: fields, qty: fields, rev: fields, tags: fields, title: fields, updated_at: fields, weight: fields", ""},
		{"TheTimeIsThePolicys", "set: {updated_at: now}", "{columns: {title: {newest: updated_at}}}", "title: newest updated_at, updated_at: latest", ""},

		{"NoColumns", "", "{columns: {}}", "", "name columns with their strategies"},
		{"List", "", "{columns: [title]}", "", "name columns with their strategies"},
		{"WithVersion", "", "{version: rev, columns: {qty: increment}}", "", "write reject for each column that must not have changed"},
		{"WithNewest", "", "{newest: updated_at, columns: {qty: increment}}", "", `write "*": {newest: column} among the columns`},
		{"WithIncrement", "", "{increment: [qty], columns: {title: fields}}", "", "write increment for each of them among the columns"},
		{"WithAColumn", "", "{title: fields, columns: {qty: increment}}", "", "columns stands alone, and title is not one of its parts: remove it"},
		{"WithoutColumns", "", "{title: {newest: updated_at}, qty: increment}", "", "qty is a column, and this is the place of a strategy: write strategies by column as {columns: {qty: …}}"},
		{"OneWithoutColumns", "", "{qty: increment}", "", "write strategies by column as {columns: {qty: …}}"},
		{"Replace", "put: replace", "{columns: {qty: increment}}", "", "write put: merge, or one strategy for the whole row"},
		{"Server", "", "{columns: {title: server}}", "", "server is for the whole row: write fields"},
		{"Version", "", "{columns: {rev: {version: rev}}}", "", "version is for the whole row: write reject"},
		{"IncrementWithColumns", "", "{columns: {qty: {increment: [qty]}}}", "", "this is not the conflict strategy of a column: write one of fields, increment, reject, {newest: column}"},
		{"NewestWithoutATime", "", "{columns: {title: newest}}", "", "this is not the conflict strategy of a column"},
		{"Word", "", "{columns: {title: latest}}", "", "this is not the conflict strategy of a column"},
		{"Number", "", "{columns: {title: 5}}", "", "this is not the conflict strategy of a column"},
		{"IncrementOfAllOthers", "", "{columns: {'*': increment}}", "", "name each column that it adds up"},
		{"IncrementOfAText", "", "{columns: {title: increment}}", "", "public.todos.title is text: increment needs numbers"},
		{"Missing", "", "{columns: {titel: fields}}", "", `public.todos has no column "titel": did you mean "title"?`},
		{"MissingTime", "", "{columns: {title: {newest: updatedat}}}", "", `public.todos has no column "updatedat"`},
		{"TimeOfAText", "", "{columns: {title: {newest: note}}}", "", "public.todos.note is text: newest needs a timestamp or a number"},
		{"TimeWithAStrategy", "", "{columns: {title: {newest: updated_at}, updated_at: fields}}", "", "updated_at decides which title is the newest, and keeps the latest time by itself: leave out its own strategy"},
		{"TimeOfItself", "", "{columns: {updated_at: {newest: updated_at}}}", "", "leave out its own strategy"},
		{"ImmutableTime", "immutable: [updated_at]", "{columns: {title: {newest: updated_at}}}", "", "keeps its first value: name a column that changes with each write"},
		{"TwoBounds", "", "{columns: {title: {newest: {column: updated_at, ahead: 5m}}, note: {newest: updated_at}}}", "", "write the same ahead for all columns that it decides"},
		{"Generated", "", "{columns: {doubled: fields}}", "", "public.todos.doubled is generated by the database, so it has no conflicts: leave it out"},
		{"Key", "", "{columns: {id: fields}}", "", "is part of the row's id"},
		{"Owner", "owner: owner_id", "{columns: {owner_id: fields}}", "", "is set from the token"},
		{"SoftDelete", "soft_delete: deleted", "{columns: {deleted: fields}}", "", "is set by a DELETE alone"},
		{"Immutable", "immutable: [title]", "{columns: {title: fields}}", "", "keeps its first value"},
		{"SetByThePolicy", "set: {title: \"'a'\"}", "{columns: {title: fields}}", "", "is set by the policy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			yaml := "tables: {todos: {allow: all, conflict: " + test.conflict
			if test.more != "" {
				yaml += ", " + test.more
			}
			yaml += "}}"
			if test.problem != "" {
				require.ErrorContains(t, policies.Problems(fstest.MapFS{"app.yaml": {Data: []byte(yaml)}}, "policies", tables(t)), test.problem)
				return
			}
			table, _ := compile(t, yaml).Decide(upload.Operation{Op: upload.Put, Table: "todos"})
			require.Equal(t, test.strategies, strategies(table.Conflict))
			require.False(t, table.Plain())
		})
	}
}

func strategies(conflict policies.Conflict) string {
	var list []string
	for name := range conflict.ByColumn {
		of := conflict.Of(name)
		words := append([]string{string(of.Strategy)}, of.Columns...)
		if ahead := conflict.Ahead(name); ahead > 0 {
			words = append(words, ahead.String())
		}
		list = append(list, fmt.Sprintf("%s: %s", name, strings.Join(words, " ")))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// TestAhead has the bound of a device's clock for the whole row.
func TestAhead(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, conflict, ahead, problem string }{
		{"None", "{newest: updated_at}", "0s", ""},
		{"NoneInTheLongForm", "{newest: {column: updated_at}}", "0s", ""},
		{"FiveMinutes", "{newest: {column: updated_at, ahead: 5m}}", "5m0s", ""},
		{"Zero", "{newest: {column: updated_at, ahead: 0s}}", "", "0s is not a duration above zero: write one like 30s, 5m or 1h"},
		{"NoDuration", "{newest: {column: updated_at, ahead: 5}}", "", "5 is not a duration above zero"},
		{"OfANumber", "{newest: {column: rev, ahead: 5m}}", "", "public.todos.rev is integer: ahead needs a timestamp"},
		{"AnotherKey", "{newest: {column: updated_at, behind: 5m}}", "", `"behind" is not allowed here: write {column: updated_at, ahead: 5m}`},
		{"NoColumn", "{newest: {ahead: 5m}}", "", "this is not a conflict strategy"},
		{"OfAVersion", "{version: {column: rev}}", "", "this is not a conflict strategy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			yaml := "tables: {todos: {allow: all, conflict: " + test.conflict + "}}"
			if test.problem != "" {
				require.ErrorContains(t, policies.Problems(fstest.MapFS{"app.yaml": {Data: []byte(yaml)}}, "policies", tables(t)), test.problem)
				return
			}
			table, _ := compile(t, yaml).Decide(upload.Operation{Op: upload.Put, Table: "todos"})
			want, err := time.ParseDuration(test.ahead)
			require.NoError(t, err)
			require.Equal(t, want, table.Conflict.Ahead("updated_at"))
			require.Zero(t, table.Conflict.Ahead("title"))
		})
	}
}

// TestConflictInTheGuide compiles the guide's example.
func TestConflictInTheGuide(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(guide), "\n### Two devices change the same row\n")
	require.True(t, found)
	_, example, found := strings.Cut(section, "```yaml\n")
	require.True(t, found)
	example, _, _ = strings.Cut(example, "```")
	items := catalogtest.Parse(t, []byte(`{"tables": [{"schema": "public", "name": "items", "primary_key": ["id"], "columns": [
		{"name": "id", "type": "uuid", "is": "uuid"}, {"name": "title", "type": "text", "is": "text"}, {"name": "qty", "type": "integer", "is": "int4"},
		{"name": "price", "type": "numeric", "is": "numeric"}, {"name": "notes", "type": "text", "is": "text"}, {"name": "updated_at", "type": "timestamp with time zone", "is": "timestamptz"}]}]}`))
	source, err := policies.ReadFS(fstest.MapFS{"app.yaml": {Data: []byte(example)}}, "policies")
	require.NoError(t, err)
	set, err := source.Compile(items)
	require.NoError(t, err)
	table, _ := set.Decide(upload.Operation{Op: upload.Put, Table: "items"})
	require.Equal(t, "notes: fields, price: reject, qty: increment, title: newest updated_at, updated_at: latest 5m0s", strategies(table.Conflict))
}
