package policies_test

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
)

// TestDetails has a detail that fails to evaluate in a rule that rejects.
func TestDetails(t *testing.T) {
	t.Parallel()
	set := compile(t, `
tables: {todos: {allow: all}}
transaction:
  rules:
    - {name: r, check: tx.size() > 1, code: TOO_FEW, message: No, details: {size: tx.size(), note: "tx[0].data.note"}}
`)
	var entries []policies.TraceEntry
	ctx := policies.WithTrace(t.Context(), func(s policies.TraceEntry) { entries = append(entries, s) })
	rejection, err := set.Transaction(ctx, &policies.TransactionInput{Tx: []upload.Operation{sent("title", `"t"`)}})
	require.NoError(t, err)
	require.Equal(t, upload.Code("TOO_FEW"), rejection.Code)
	require.Equal(t, map[string]jsontext.Value{"size": jsontext.Value("1"), "note": jsontext.Value("null")}, rejection.Details)
	require.Len(t, entries, 2)
	require.Equal(t, policies.Errored, entries[0].Result)
	require.Contains(t, entries[0].Detail, "details.note: tx[0].data.note: no such key: note")
	require.Equal(t, policies.Rejected, entries[1].Result)
}
