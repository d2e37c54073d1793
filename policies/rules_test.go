package policies_test

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
)

// TestDetails has a detail that fails where the rule says no.
func TestDetails(t *testing.T) {
	t.Parallel()
	set := compile(t, `
tables: {todos: {allow: all}}
transaction:
  rules:
    - {name: r, check: tx.size() > 1, code: TOO_FEW, message: No, details: {size: tx.size(), note: "tx[0].data.note"}}
`)
	var said []policies.TraceEntry
	ctx := policies.WithTrace(t.Context(), func(s policies.TraceEntry) { said = append(said, s) })
	rejection, err := set.Transaction(ctx, &policies.TransactionInput{Tx: []upload.Operation{sent("title", `"t"`)}})
	require.NoError(t, err)
	require.Equal(t, upload.Code("TOO_FEW"), rejection.Code)
	require.Equal(t, map[string]jsontext.Value{"size": jsontext.Value("1"), "note": jsontext.Value("null")}, rejection.Details)
	require.Len(t, said, 2)
	require.Equal(t, policies.Errored, said[0].Result)
	require.Contains(t, said[0].Detail, "details.note: tx[0].data.note: no such key: note")
	require.Equal(t, policies.Rejected, said[1].Result)
}
