package policies_test

import (
	"fmt"
	"testing"
	"time"

	"cel.dev/cel-go/common/types"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/identity"
	"postern/service/upload"
)

// tableOf compiles the policy of table todos from the rest of its YAML.
func tableOf(t testing.TB, policy string) *policies.Table {
	t.Helper()
	set := compile(t, "tables: {todos: {allow: all, "+policy+"}}")
	table, rejection := set.Decide(upload.Operation{Op: upload.Put, Table: "todos"})
	require.Nil(t, rejection)
	return table
}

func inputOf(op upload.Op, data, old, new policies.Row) *policies.Input {
	who := identity.Identity{Subject: "ann", Claims: []byte(`{"job":"dispatcher"}`)}
	in := &policies.Input{Op: op, ID: "1", TransactionInput: &policies.TransactionInput{Who: who, Now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}}
	in.SetData(data)
	in.SetOld(old)
	in.SetNew(new)
	return in
}

// TestCheck has expressions over columns that are null or missing.
func TestCheck(t *testing.T) {
	t.Parallel()
	type row = policies.Row
	text, null := types.String("a text"), types.NullValue
	for _, test := range []struct {
		name, when, check string
		in                *policies.Input
		want              policies.RuleResult
	}{
		{"ValueHolds", "", "new.note.size() > 1", inputOf(upload.Put, nil, nil, row{"note": text}), policies.Passed},
		{"ValueDoesNotHold", "", "new.note.size() > 10", inputOf(upload.Put, nil, nil, row{"note": text}), policies.Rejected},
		{"NullRejects", "", "new.note.size() > 1", inputOf(upload.Put, nil, nil, row{"note": null}), policies.Rejected},
		{"NullIsCheckedFirst", "", "new.note == null || new.note.size() > 1", inputOf(upload.Put, nil, nil, row{"note": null}), policies.Passed},
		{"NullIsThere", "", "has(new.note)", inputOf(upload.Put, nil, nil, row{"note": null}), policies.Passed},
		{"MissingFails", "", "data.note == null", inputOf(upload.Put, row{}, nil, nil), policies.Errored},
		{"MissingIsCheckedFirst", "", "has(data.note)", inputOf(upload.Put, row{}, nil, nil), policies.Rejected},
		{"WhenSkips", "has(data.note)", "data.note == 'x'", inputOf(upload.Put, row{}, nil, nil), policies.Skipped},
		{"WhenFails", "data.note == 'x'", "true", inputOf(upload.Put, row{}, nil, nil), policies.Errored},
		{"NoOldRow", "", "old == null", inputOf(upload.Put, nil, nil, row{}), policies.Passed},
		{"ColumnOfNoOldRow", "", "old.qty == 1", inputOf(upload.Put, nil, nil, row{}), policies.Rejected},
		{"WhenOfANull", "new.note.size() > 1", "new.note == null", inputOf(upload.Put, nil, nil, row{"note": null}), policies.Passed},
		{"OldRow", "", "old == null || old.qty < new.qty", inputOf(upload.Patch, nil, row{"qty": types.Int(1)}, row{"qty": types.Int(2)}), policies.Passed},
		{"NoNewRow", "", "new == null", inputOf(upload.Delete, nil, row{}, nil), policies.Passed},
		{"BeyondCEL", "", "new.qty < 5", inputOf(upload.Put, nil, nil, row{"qty": types.NewErr("too large")}), policies.Errored},
		{"Claim", "", "auth.claims.job == 'dispatcher'", inputOf(upload.Put, nil, nil, nil), policies.Passed},
		{"MissingClaim", "", "auth.claims.team == 'a'", inputOf(upload.Put, nil, nil, nil), policies.Errored},
		{"MissingClaimIsCheckedFirst", "", "has(auth.claims.team) && auth.claims.team == 'a'", inputOf(upload.Put, nil, nil, nil), policies.Rejected},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			table := tableOf(t, fmt.Sprintf("rules: [{name: r, when: %q, check: %q, code: R, message: m}]", test.when, test.check))
			var entries []policies.TraceEntry
			test.in.TransactionInput = traced(t, test.in.TransactionInput, &entries)
			rejection, err := table.Rules[0].Check(t.Context(), test.in)
			require.Equal(t, test.want == policies.Rejected, rejection != nil)
			require.Equal(t, test.want == policies.Errored, err != nil)
			require.Len(t, entries, 1)
			require.Equal(t, test.want, entries[0].Result, entries[0].Detail)
			if err != nil {
				var failed *policies.RuleError
				require.ErrorAs(t, err, &failed)
			}
		})
	}
}

// traced makes an input trace: a set without rules does that as its first step.
func traced(t testing.TB, in *policies.TransactionInput, into *[]policies.TraceEntry) *policies.TransactionInput {
	t.Helper()
	ctx := policies.WithTrace(t.Context(), func(e policies.TraceEntry) { *into = append(*into, e) })
	_, err := compile(t, "tables: {}").Transaction(ctx, in)
	require.NoError(t, err)
	return in
}

// TestInputForgets is that an expression sees a row that was replaced.
func TestInputForgets(t *testing.T) {
	t.Parallel()
	table := tableOf(t, "rules: [{name: r, check: new.qty > 1, code: R, message: m}]")
	in := inputOf(upload.Put, nil, nil, policies.Row{"qty": types.Int(2)})
	rejection, err := table.Rules[0].Check(t.Context(), in)
	require.NoError(t, err)
	require.Nil(t, rejection)
	in.SetNew(policies.Row{"qty": types.Int(0)})
	rejection, err = table.Rules[0].Check(t.Context(), in)
	require.NoError(t, err)
	require.NotNil(t, rejection)
}

func TestDefaultOperations(t *testing.T) {
	t.Parallel()
	all, written := []string{"create", "update", "delete"}, []string{"create", "update"}
	for check, want := range map[string][]string{
		"auth.sub != ''":                     all,
		"new.qty > 0":                        written,
		"has(data.qty)":                      written,
		"old == null":                        all,
		"old == null || new.qty > old.qty":   all,
		"has(data.qty) && data.qty > 0":      written,
		"old != null || has(data.qty)":       all,
		"new == null":                        written,
		"tx.of('todos').size() > 0":          all,
		"lookup.l == null || lookup.l.x > 1": all,
	} {
		table := tableOf(t, fmt.Sprintf("rules: [{name: r, check: %q, code: R, message: m, lookup: {l: select 1 as x}}]", check))
		require.Equal(t, want, table.Rules[0].Words(), check)
	}
}

// TestNow is that each operation of a transaction has a later now than the one before,
// by what Postgres can store.
func TestNow(t *testing.T) {
	t.Parallel()
	const first, second = "timestamp('2026-11-24T12:00:00Z')", "timestamp('2026-11-24T12:00:00.000001Z')"
	for _, test := range []struct {
		name, now string
		operation int
	}{
		{"First", first, 0},
		{"Second", second, 1},
		{"WholeTransaction", first, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in := inputOf(upload.Put, nil, nil, nil)
			in.Operation = test.operation
			rejection, err := tableOf(t, fmt.Sprintf("rules: [{name: r, check: %q, code: R, message: m}]", "now == "+test.now)).Rules[0].Check(t.Context(), in)
			require.NoError(t, err)
			require.Nil(t, rejection)
		})
	}
}
