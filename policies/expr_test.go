package policies_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
)

// over is a context that has ended when it is checked for the second time.
type over struct {
	context.Context
	checked int
}

func (o *over) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

func (o *over) Err() error {
	if o.checked++; o.checked == 1 {
		return nil
	}
	return context.DeadlineExceeded
}

// TestTimeIsUp has requests that end while a rule is evaluated. The rule neither
// passes nor rejects, and has not failed.
func TestTimeIsUp(t *testing.T) {
	t.Parallel()
	for check, times := range map[string][]int{
		"!tx.exists(o, o.id == 'x') || true": {0, 1}, "tx.all(o, o.id != 'x')": {0, 1},
		"true": {1}, // without a loop, the clock is looked at before
	} {
		set := compile(t, "tables: {todos: {allow: all}}\ntransaction:\n  rules:\n    - {name: r, check: \""+check+"\", code: NO, message: No}\n")
		for _, checked := range times {
			operations := slices.Repeat([]upload.Operation{sent("title", `"t"`)}, 100)
			rejection, err := set.Transaction(&over{t.Context(), checked}, &policies.TransactionInput{Tx: operations})
			require.Nil(t, rejection, check)
			require.ErrorIs(t, err, context.DeadlineExceeded, check)
			var failed *policies.RuleError
			require.NotErrorAs(t, err, &failed, check)
		}
	}
}

// TestSteps has expressions that take more steps than the compiler assumed.
func TestSteps(t *testing.T) {
	t.Parallel()
	long := func(operations int) []upload.Operation {
		return append([]upload.Operation{sent("title", `"`+strings.Repeat("a", 1<<20)+`"`)}, slices.Repeat([]upload.Operation{sent("note", `"n"`)}, operations)...)
	}
	var failed *policies.RuleError
	for _, check := range []string{"tx.all(o, !tx[0].data.title.contains('bbbbbbbbbb'))", "tx.all(o, isUrl(tx[0].data.title) || true)", "tx.exists(o, tx[0].data.title.contains('bbbbbbbbbb')) || true"} {
		_, err := passes(t, check, long(100)...)
		require.ErrorAs(t, err, &failed, check)
		require.ErrorContains(t, err, "it takes more than 5000000 steps", check)
	}
	set := compile(t, "tables: {todos: {allow: all}}\ntransaction:\n  rules:\n    - {name: r, check: \"tx.all(o, !tx[0].data.title.contains('bbbbbbbbbb'))\", code: NO, message: No}\n")
	shared := &policies.TransactionInput{Now: time.Now(), Tx: long(40)}
	var err error
	for range 100 {
		if _, err = set.Transaction(t.Context(), shared); err != nil {
			break
		}
	}
	require.ErrorAs(t, err, &failed)
	require.ErrorContains(t, err, "the rules take more than 20082000 steps for this transaction of 41 operations")
}
