package policies_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
)

// A trace has the values of an expression's parts, as far as they were evaluated.
func TestParts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, rule string
		want       []string
	}{
		{
			"comparisons", `check: tx.size() > 1 || tx[0].op == 'put' && tx[0].data.title == 'x'`,
			[]string{
				"tx.size() > 1 || tx[0].op == 'put' && tx[0].data.title == 'x' = false",
				"  tx.size() > 1 = false", "    tx.size() = 1",
				"  tx[0].op == 'put' && tx[0].data.title == 'x' = false",
				"    tx[0].op == 'put' = true", "      tx[0].op = \"put\"",
				"    tx[0].data.title == 'x' = false", "      tx[0].data.title = \"t\"",
			},
		},
		{"what && skips", `check: tx.size() > 1 && tx[0].op == 'put'`, []string{"tx.size() > 1 && tx[0].op == 'put' = false", "  tx.size() > 1 = false", "    tx.size() = 1"}},
		{"a when that is false", "when: tx.size() > 1\n      check: 'true'", []string{"tx.size() > 1 = false", "  tx.size() = 1"}},
		{"a loop", `check: "!tx.all(o, o.data.title == 't')"`, []string{"!tx.all(o, o.data.title == 't') = false", "  tx.all(o, o.data.title == 't') = true"}},
		{"a function", `check: "!short(tx[0].data.title)"`, []string{"!short(tx[0].data.title) = false", "  size(tx[0].data.title) < 3 = true", "    size(tx[0].data.title) = 1", "      tx[0].data.title = \"t\""}},
		{"what failed", `check: tx[5].op == 'put'`, []string{"tx[5].op == 'put' = failed: index out of bounds: 5", "  tx[5].op = failed: index out of bounds: 5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			set := compile(t, `
tables: {todos: {allow: all}}
functions: {short(s string): size(s) < 3}
transaction:
  rules:
    - name: r
      code: C
      message: "No"
      `+c.rule+`
`)
			var parts []string
			ctx := policies.WithTrace(t.Context(), func(e policies.TraceEntry) {
				for _, p := range e.Parts {
					failed := ""
					if p.Error {
						failed = "failed: "
					}
					parts = append(parts, fmt.Sprintf("%s%s = %s%s", strings.Repeat("  ", p.Depth), p.Text, failed, p.Value))
				}
			})
			_, _ = set.Transaction(ctx, &policies.TransactionInput{Tx: []upload.Operation{sent("title", `"t"`)}})
			require.Equal(t, c.want, parts)
		})
	}
}
