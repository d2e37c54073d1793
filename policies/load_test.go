package policies_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"postern/policies"
)

func compile(t testing.TB, yaml string) *policies.Set {
	t.Helper()
	source, err := policies.ReadFS(fstest.MapFS{"app.yaml": {Data: []byte(yaml)}}, "policies")
	require.NoError(t, err)
	set, err := source.Compile(tables(t))
	require.NoError(t, err)
	return set
}

// TestEverything loads a file with every key there is.
func TestEverything(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("testdata/everything.yaml")
	require.NoError(t, err)
	require.Equal(t, "3 tables, 5 rules", compile(t, string(content)).String())
}

// TestForms has files that are valid although they look unusual.
func TestForms(t *testing.T) {
	t.Parallel()
	for _, yaml := range []string{
		"\ufefftables:\n  lists: {allow: all}\n",
		"# about\n---\n# more\ntables:\n  lists: {allow: all}\n...\n# the end\n",
		"tables:\r\n  lists: {allow: all}\r\n",
		"tables:\n  todos: {allow: all, immutable: [title, owner_id], set: {title: \"'x'\"}, defaults: {owner_id: auth.sub}}\n",
		"tables:\n  todos: {allow: all, owner: title, set: {note: \"null\"}}\n",
	} {
		require.Equal(t, "1 table, 0 rules", compile(t, yaml).String(), yaml)
	}
	_, err := policies.ReadFS(fstest.MapFS{"app.yaml": {Data: []byte("\ufefftable:\n  lists: {allow: all}\n")}}, "policies")
	require.EqualError(t, err, "policies/app.yaml:1:1: unknown field \"table\": did you mean \"tables\"?\n    table:\n    ^")
}

// FuzzRead reads and compiles any bytes. They are valid, or an error with a message,
// and never cause a panic.
func FuzzRead(f *testing.F) {
	seeds, err := filepath.Glob("testdata/busted/*.yaml")
	require.NoError(f, err)
	for _, path := range append(seeds, "testdata/everything.yaml", "examples/lists/app.yaml", "examples/shop/app.yaml", "examples/fieldservice/app.yaml") {
		content, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(content)
	}
	snapshot := tables(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			files := fstest.MapFS{"app.yaml": {Data: content}}
			source, err := policies.ReadFS(files, "policies")
			if err == nil {
				var set *policies.Set
				if set, err = source.Compile(snapshot); err == nil {
					_, _ = set.String(), set.Warnings(snapshot, nil)
				}
			}
			if err != nil && err.Error() == "" {
				t.Error("an error without a message")
			}
			if problems := policies.Problems(files, "policies", snapshot); (problems == nil) != (err == nil) {
				t.Errorf("Problems finds %v, and compiling %v", problems, err)
			}
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("it does not end")
		}
	})
}

// TestFilesThatSayNothing has files without tables and rules. A folder of nothing else
// would close every table.
func TestFilesThatSayNothing(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"Empty": "", "Comment": "# tables:\n#   lists: {allow: all}\n", "NoTables": "tables:\n", "Nothing": "{}\n", "NoRules": "transaction:\n  rules:\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := policies.ReadFS(fstest.MapFS{"app.yaml": {Data: []byte(content)}, "other.yaml": {Data: []byte("tables: {lists: {allow: all}}")}}, "policies")
			require.ErrorContains(t, err, "policies/app.yaml: the file says nothing")
		})
	}
	for name, content := range map[string]string{"ClosedOnPurpose": "tables: {}\n", "Rate": "rate: {most: 10, per: 1s}\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := policies.ReadFS(fstest.MapFS{"app.yaml": {Data: []byte(content)}}, "policies")
			require.NotContains(t, fmt.Sprint(err), "says nothing")
		})
	}
}
