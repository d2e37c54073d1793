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
	var said []policies.Said
	ctx := policies.WithTrace(t.Context(), func(s policies.Said) { said = append(said, s) })
	rejection, err := set.Transaction(ctx, &policies.Shared{Tx: []upload.Operation{sent("title", `"t"`)}})
	require.NoError(t, err)
	require.Equal(t, upload.Code("TOO_FEW"), rejection.Code)
	require.Equal(t, map[string]jsontext.Value{"size": jsontext.Value("1"), "note": jsontext.Value("null")}, rejection.Details)
	require.Len(t, said, 2)
	require.Equal(t, policies.Broken, said[0].Verdict)
	require.Contains(t, said[0].Because, "details.note: tx[0].data.note: no such key: note")
	require.Equal(t, policies.No, said[1].Verdict)
}
