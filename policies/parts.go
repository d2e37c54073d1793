package policies

import (
	"strings"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Part is a part of an expression with the value that it had.
type Part struct {
	Text  string `json:"text"`           // as an author would write it
	Depth int    `json:"depth"`          // 0 for the whole expression
	Value string `json:"value"`          // as JSON, cut off after 200 characters, or what failed
	Error bool   `json:"error,omitzero"` // it failed
}

// parts evaluates the expression again and lists its parts with their values, each part
// before what it consists of. What && and ?: have skipped is not listed, nor what happens
// within a loop, nor the row of a column.
func (e *expression) parts(in *Input) (parts []Part) {
	program, err := e.observed()
	if err != nil {
		return nil // the expression itself has compiled, so it is only shown without its parts
	}
	_, details, _ := program.Eval(in)
	seen := map[string]bool{}
	var add func(part celast.NavigableExpr, depth int)
	add = func(part celast.NavigableExpr, depth int) {
		value, evaluated := details.State().Value(part.ID())
		if evaluated && e.hasValue(part) {
			text := written(part, e.ast)
			if depth == 0 {
				text = strings.Join(strings.Fields(e.text), " ")
			}
			if !seen[text] {
				seen[text] = true
				parts = append(parts, partOf(text, depth, value))
			}
			depth++
		}
		switch {
		case part.Kind() == celast.ComprehensionKind:
			add(part.Children()[0], depth) // what it goes through
		case part.Kind() == celast.SelectKind, functionName(part) == operators.Index: // of a row, or of tx
		default:
			for _, child := range part.Children() {
				add(child, depth)
			}
		}
	}
	add(celast.NavigateAST(e.ast), 0)
	return parts
}

// hasValue reports whether a reader wants to know the value of a part: not of a literal,
// nor of a whole row.
func (e *expression) hasValue(part celast.Expr) bool {
	switch part.Kind() {
	case celast.IdentKind:
		for _, l := range e.lets {
			if l.name == part.AsIdent() {
				return true
			}
		}
		return part.ID() == e.ast.Expr().ID()
	case celast.LiteralKind:
		return part.ID() == e.ast.Expr().ID()
	}
	return true
}

func partOf(text string, depth int, value ref.Val) Part {
	value = orNull(value)
	if failed, ok := value.(*types.Err); ok {
		return Part{Text: text, Depth: depth, Value: failed.Error(), Error: true}
	}
	return Part{Text: text, Depth: depth, Value: shortJSON(value)}
}
