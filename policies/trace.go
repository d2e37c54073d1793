package policies

import (
	"context"
	"strings"

	"cel.dev/cel-go/common/types/ref"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/upload"
)

// Trace is told what each rule says, as it is asked, and what is set.
type Trace func(Said)

// Said is what one rule has said about one operation.
type Said struct {
	Operation int    // index within the transaction; -1 where the rule is over all of it
	Rule      string // its name; with Sets, the column
	Position  string // file:line:column
	Verdict   Verdict
	Because   string // what it has looked at, or why it failed; with Sets, the value
}

// Verdict is the answer of a rule.
type Verdict string

// The verdicts.
const (
	Yes      Verdict = "yes"
	No       Verdict = "no"
	NotAsked Verdict = "not asked" // its when is false
	Broken   Verdict = "failed"    // nobody's no, and nobody's yes
	Sets     Verdict = "sets"      // no rule: a column that the policy sets
)

type traceKey struct{}

// WithTrace has what is decided under ctx told to trace. It costs nothing where it
// is not used.
func WithTrace(ctx context.Context, trace Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, trace)
}

func traceOf(ctx context.Context) Trace {
	trace, _ := ctx.Value(traceKey{}).(Trace)
	return trace
}

// traced decides, and tells of it.
func (r *Rule) traced(ctx context.Context, in *Input) (*upload.Rejection, error) {
	applies, no, err := r.decide(ctx, in)
	said := Said{Operation: in.Operation, Rule: r.Name, Position: r.place.position(), Verdict: Yes, Because: r.seen(in, r.expressions())}
	switch {
	case err != nil:
		said.Verdict, said.Because = Broken, err.Error()
	case no != nil:
		said.Verdict = No
	case !applies:
		said.Verdict, said.Because = NotAsked, r.seen(in, []*expression{r.when})
	}
	in.trace(said)
	return no, err
}

// traceDetail tells of a detail that could not be found out.
func (r *Rule) traceDetail(in *Input, name string, err error) {
	if in.trace != nil {
		in.trace(Said{Operation: in.Operation, Rule: r.Name, Position: r.place.in("details", name).position(), Verdict: Broken, Because: "details." + name + ": " + err.Error()})
	}
}

// Position is file:line:column of the rule.
func (r *Rule) Position() string { return r.place.position() }

// Ops lists the operations that the rule is for.
func (r *Rule) Ops() []upload.Op { return r.on }

// seen lists the values of rows and lookups that expressions of the rule look at.
func (r *Rule) seen(in *Input, expressions []*expression) string {
	var list []string
	show := func(name string, row Row, columns map[string]bool) {
		if columns != nil && row == nil {
			list = append(list, name+" = null")
			return
		}
		for _, column := range sortedKeys(columns) {
			if value, ok := row[column]; ok {
				list = append(list, name+"."+column+" = "+spelled(value))
			}
		}
	}
	var all needs
	for _, e := range expressions {
		all.lookup = all.lookup || e.needs.lookup
		for column := range e.needs.new {
			all.new = touched(all.new, column)
		}
		for column := range e.needs.old {
			all.old = touched(all.old, column)
		}
		for column := range e.needs.sent {
			all.sent = touched(all.sent, column)
		}
	}
	show("old", in.Old, all.old)
	show("new", in.New, all.new)
	show("data", in.Data, all.sent)
	for _, l := range r.Lookups {
		if !all.lookup {
			break
		}
		list = append(list, "lookup."+l.Name+" = "+spelled(in.Lookups[l.Name].value()))
	}
	return strings.Join(list, ", ")
}

// spelled is a value as JSON; what has none is named by its type.
func spelled(value ref.Val) string {
	const most = 200
	text, err := toJSON(value)
	if err != nil {
		text = jsontext.Value("(" + value.Type().TypeName() + ")")
	}
	if runes := []rune(string(text)); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return string(text)
}
