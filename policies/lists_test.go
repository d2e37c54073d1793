package policies_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
)

// TestLists evaluates what lists of values of one column can be asked: numbers come as whole
// ones and others.
func TestLists(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, list, check string
		fails             string // the rule's error
	}{
		{"Sort", "[3, 1.5, 2]", "LIST.sort() == [1.5, 2, 3]", ""},
		{"SortOfTexts", `["b", "a"]`, `LIST.sort() == ["a", "b"]`, ""},
		{"SortPutsNullsLast", "[null, 2, null, 1]", "LIST.sort() == [1, 2, null, null]", ""},
		{"SortOfNothing", "[]", "LIST.sort() == []", ""},
		{"SortOfWhatHasNoOrder", `[1, "a"]`, "LIST.sort() == []", "no such overload"},
		{"SortOfLists", "[[1], [2]]", "LIST.sort() == []", "a list has no order"},
		{"Distinct", `[2, 1, 2.0, "2", null, null, true]`, `LIST.distinct() == [2, 1, "2", null, true]`, ""},
		{"DistinctTimes", `["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"]`, "LIST.map(t, timestamp(t)).distinct().size() == 1", ""},
		{"DistinctObjects", `[{}]`, "LIST.distinct() == []", "distinct compares"},
		{"Min", "[3, null, 1.5, 2]", "min(LIST) == 1.5", ""},
		{"Max", "[1.5, 3, null, 2]", "max(LIST) == 3", ""},
		{"MaxOfTexts", `["a", "b"]`, `max(LIST) == "b"`, ""},
		{"MinOfNothing", "[null]", "min(LIST) == null && max([]) == null", ""},
		{"MinOfOneWithoutOrder", "[{}]", "min(LIST) == null", "has no order"},
		{"MaxOfWhatHasNoOrder", `[1, "a"]`, "max(LIST) == 1", "no such overload"},
		{"Of", "[5, 1]", "LIST.sort()[0] == 1 && LIST.map(n, n).distinct().sort().size() == 2", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			set := compile(t, "tables: {todos: {allow: all}}\nfunctions: {isAsked(LIST list): '"+test.check+"'}\ntransaction: {rules: [{name: r, check: 'isAsked(tx[0].data.meta)', code: NO, message: No}]}")
			rejection, err := set.Transaction(t.Context(), &policies.TransactionInput{Tx: []upload.Operation{sent("meta", test.list)}})
			if test.fails != "" {
				require.ErrorContains(t, err, test.fails)
				return
			}
			require.NoError(t, err)
			require.Nil(t, rejection)
		})
	}
}
