package policies_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/upload"
)

// TestWarnings has one file for each warning, with what its author reads.
func TestWarnings(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/busted/warned_*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			set := compile(t, string(content))
			columns, err := set.CheckLookups(columnsOf)
			require.NoError(t, err)
			warnings := errors.Join(set.Warnings(tables(t), columns)...)
			require.Error(t, warnings)
			golden := strings.TrimSuffix(path, ".yaml") + ".golden"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(warnings.Error()+"\n"), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), warnings.Error()+"\n", "to update it: go test ./policies -run TestWarnings -update")
		})
	}
}

// TestUnguarded has expressions over note, which may be null, and over rows, and which of
// them the warnings name, whether they are a rule's when or its check.
func TestUnguarded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, on, when, check, want string }{
		{"NotNull", "", "", "new.qty > 1", ""},
		{"Compared", "", "", "new.note == 'x' && new.note != data.note && new.note in ['x', 'y']", ""},
		{"Or", "", "", "new.note == null || new.note.size() < 3", ""},
		{"OrTheOtherWayRound", "", "", "new.note.size() < 3 || new.note == null", ""},
		{"And", "", "", "new.note != null && new.note.size() < 3", ""},
		{"Not", "", "", "!(new.note == null) && new.note.size() < 3", ""},
		{"Choice", "", "", "new.note == null ? true : new.note.size() < 3", ""},
		{"ChoiceTheOtherWayRound", "", "", "new.note == null ? new.note.size() < 3 : true", "new.note"},
		{"When", "", "new.note != null", "new.note.size() < 3", ""},
		{"WhenAnotherRow", "[put, patch]", "old == null || old.note != null", "new.note.size() < 3", "new.note"},
		{"WhenOneOfTwo", "", "new.note != null || new.mood != null", "new.note.size() < 3", "new.note"},
		{"WhenEqual", "", "new.note == 'xyz'", "new.note.size() == 3", ""},
		{"WhenOneOf", "", "new.note in ['x', 'y']", "new.note.size() < 3", ""},
		{"WhenOneOfWithNull", "", "new.note in ['x', null]", "new.note.size() < 3", "new.note"},
		{"Argument", "", "", "length(new.note) < 3", "new.note"},
		{"Less", "", "", "new.weight < 3.0", "new.weight"},
		{"Data", "", "has(data.note)", "data.note.size() < 3", "data.note"},
		{"Member", "", "", "new.meta.key == 'x'", "new.meta"},
		{"List", "", "", "'x' in new.tags", "new.tags"},
		{"Loop", "", "", "new.tags.all(x, x != '')", "new.tags"},
		{"WithinALoop", "", "", "['a'].all(x, new.note.startsWith(x))", "new.note"},
		{"Old", "", "", "old.qty > 1", "old"},
		{"OldOfAPatch", "[patch]", "", "old.qty > 1", ""},
		{"OldOfADelete", "[patch, delete]", "", "old.qty > 1", ""},
		{"OldGuarded", "", "", "old == null || old.qty > 1", ""},
		{"OldByOp", "", "op == 'patch'", "old.qty > new.qty", ""},
		{"OldByNoPut", "[put, patch]", "op != 'put'", "old.qty > new.qty", ""},
		{"OldByOps", "", "op in ['patch', 'delete']", "old.qty > 1", ""},
		{"NewOfADelete", "", "old != null", "new.qty > old.qty", "new"},
		{"NewByOp", "", "old != null && op != 'delete'", "new.qty > old.qty", ""},
		{"HasOfARow", "", "has(old.qty)", "old.qty > 1", "old"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on := ""
			if test.on != "" {
				on = "on: " + test.on + ", "
			}
			condition := test.check
			if test.when != "" {
				condition = "(" + test.when + ") && (" + test.check + ")"
			}
			for _, keys := range []string{"when: %q, check: 'true'", "check: %q", "when: %[2]q, check: %[2]q"} {
				set := compile(t, fmt.Sprintf("tables: {todos: {allow: all, put: replace, rules: [{name: r, %s"+keys+", code: R, message: m}]}}", on, condition))
				table, _ := set.Decide(upload.Operation{Op: upload.Put, Table: "todos"})
				require.NotNil(t, table)
				var found []string
				for _, warning := range set.Warnings(tables(t), nil) {
					if before, _, ok := strings.Cut(warning.Error(), ", and then the rule "); ok && !slices.Contains(found, strings.Fields(before)[2]) {
						found = append(found, strings.Fields(before)[2])
					}
				}
				require.Equal(t, test.want, strings.Join(found, " "), keys)
			}
		})
	}
}
