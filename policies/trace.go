package policies

import (
	"context"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types/ref"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/upload"
)

// Trace receives an entry for each rule that is evaluated or skipped, and for each
// column that the policy sets.
type Trace func(TraceEntry)

// TraceEntry is the result of one rule for one operation, or a column that was set.
type TraceEntry struct {
	Operation int        // index within the transaction; -1 for a rule over all of it
	Each      string     // the value for which such a rule was evaluated; empty if there is none
	Rule      string     // the rule's name; if Assigned or Kept, the column
	Position  string     // file:line:column
	Result    RuleResult // what came out
	Detail    string     // the values that the rule looked at, or why it failed; if Assigned, the value
	Parts     []Part     // of the rule's when, and then of its check, if they were evaluated
	Observed  bool       // the rule only observes, so it rejects nothing
}

// RuleResult is the result of a rule.
type RuleResult string

// The results.
const (
	Passed   RuleResult = "passed"   // check is true
	Rejected RuleResult = "rejected" // check is false
	Skipped  RuleResult = "skipped"  // when is false
	Errored  RuleResult = "error"    // an expression failed to evaluate
	Assigned RuleResult = "assigned" // not a rule: the policy set a column
	Kept     RuleResult = "kept"     // not a rule: the policy would set a column, but when is false
)

type traceKey struct{}

// WithTrace returns a context under which decisions are traced.
func WithTrace(ctx context.Context, trace Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, trace)
}

func traceOf(ctx context.Context) Trace {
	trace, _ := ctx.Value(traceKey{}).(Trace)
	return trace
}

// traceResult traces what came out of the rule.
func (r *Rule) traceResult(in *Input, applies bool, rejection *upload.Rejection, err error) {
	if in.trace == nil {
		return
	}
	entry := TraceEntry{Operation: in.Operation, Rule: r.Name, Position: r.Position(), Observed: r.Observes}
	if r.when != nil {
		entry.Parts = r.when.parts(in)
	}
	if applies {
		entry.Parts = append(entry.Parts, r.check.parts(in)...)
	}
	if in.Each != nil {
		entry.Each = shortJSON(in.Each)
	}
	switch {
	case err != nil:
		entry.Result, entry.Detail = Errored, err.Error()
	case !applies:
		entry.Result, entry.Detail = Skipped, r.values(in, r.when)
	case rejection != nil:
		entry.Result, entry.Detail = Rejected, r.values(in, r.expressions...)
	default:
		entry.Result, entry.Detail = Passed, r.values(in, r.expressions...)
	}
	in.trace(entry)
}

// traceDetail traces that a detail of a rejection failed to evaluate.
func (r *Rule) traceDetail(in *Input, name string, err error) {
	if in.trace != nil {
		in.trace(TraceEntry{Operation: in.Operation, Rule: r.Name, Position: r.place.in("details", name).position(), Result: Errored, Detail: "details." + name + ": " + err.Error()})
	}
}

// values lists what expressions of the rule look at, with the values.
func (r *Rule) values(in *Input, expressions ...*expression) string {
	var list []string
	show := func(name string, row Row, columns nameSet) {
		if columns != nil && row == nil {
			list = append(list, name+" = null")
			return
		}
		for _, column := range columns {
			if value, ok := row[column]; ok {
				list = append(list, name+"."+column+" = "+shortJSON(value))
			}
		}
	}
	var all needs
	for _, e := range expressions {
		all.addColumns(e.needs)
	}
	show("old", in.Old(), all.old)
	show("new", in.New(), all.new)
	show("data", in.Data(), all.sent)
	if in.Each != nil {
		list = append(list, "each = "+shortJSON(in.Each))
	}
	if all.lookup {
		for _, l := range r.Lookups {
			if l.Shared {
				list = append(list, l.Name+" = "+shortJSON(in.Shared[l.Name].value()))
				continue
			}
			value := in.Lookups[l.Name].value()
			if l.Rows {
				value = in.Lists[l.Name]
			}
			list = append(list, "lookup."+l.Name+" = "+shortJSON(value))
		}
	}
	for _, e := range expressions {
		for _, l := range e.lets {
			value, evaluated := in.lets[l.name]
			if !evaluated {
				continue
			}
			if shown := l.name + " = " + shortJSON(value); !slices.Contains(list, shown) {
				list = append(list, shown)
			}
		}
	}
	return strings.Join(list, ", ")
}

// shortJSON returns the JSON of a value, cut off after 200 characters. A value that
// has no JSON is named by its type.
func shortJSON(value ref.Val) string {
	const most = 200
	text, err := toJSON(orNull(value))
	if err != nil {
		text = jsontext.Value("(" + value.Type().TypeName() + ")")
	}
	if runes := []rune(string(text)); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return string(text)
}
