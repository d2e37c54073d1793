package policytest

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog"
)

// FuzzReadSuite reads any bytes as a test file. They are valid, or an error with a message,
// and never cause a panic.
func FuzzReadSuite(f *testing.F) {
	for _, app := range []string{"lists", "fieldservice", "shop"} {
		content, err := os.ReadFile("../../policies/examples/" + app + "/app_test.yaml")
		require.NoError(f, err)
		f.Add(content)
	}
	f.Add([]byte("tests: [{name: a, cases: [{name: b, c: d}], as: \"${c}\", \"${c}\": ${c}}]"))
	f.Add([]byte("rows: &x [{name: a}]\ntests: *x"))
	names := &names{set: &policies.Set{}, tables: &catalog.Snapshot{}}
	f.Fuzz(func(t *testing.T, content []byte) {
		_, problems := parseSuite("app_test.yaml", content, names)
		if len(problems) > 0 && errors.Join(problems...).Error() == "" {
			t.Error("an error without a message")
		}
	})
}
