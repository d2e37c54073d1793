package policies_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
)

// TestReason has rules that fail on a value. What is logged about them does not quote it.
func TestReason(t *testing.T) {
	t.Parallel()
	const secret = "nobody-may-read-this"
	for _, test := range []struct{ check, want string }{
		{`timestamp(tx[0].data.title) > now`, "invalid RFC 3339 timestamp"},
		{`int(tx[0].data.title) > 1`, "type conversion error"},
		{`{'a': 1}[tx[0].data.title] == 1`, "no such key"},
		{`tx[0].data[tx[0].data.title] == 1`, "no such key"},
		{`'a'.matches('[' + tx[0].data.title)`, "error parsing regexp"},
		{`tx[0].data.title.charAt(99) == ''`, "out of range"},
		{`now.getHours(tx[0].data.title) == 1`, "it cannot be evaluated"},
	} {
		t.Run(test.check, func(t *testing.T) {
			t.Parallel()
			set := compile(t, "tables: {todos: {allow: all}}\ntransaction:\n  rules:\n    - name: r\n      check: |-\n        "+test.check+"\n      code: 'NO'\n      message: No\n")
			_, err := set.Transaction(t.Context(), &policies.TransactionInput{Tx: []upload.Operation{sent("title", `"`+secret+`"`)}})
			var failed *policies.RuleError
			require.ErrorAs(t, err, &failed)
			require.Contains(t, failed.Reason(), test.check+": "+test.want)
			require.NotContains(t, failed.Reason(), secret)
		})
	}
}
