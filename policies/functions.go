package policies

import (
	"net/mail"
	"net/url"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/rivo/uniseg"
)

// function is a function for expressions that CEL does not have.
type function struct {
	form, doc string
	option    cel.EnvOption
}

var ownFunctions = []function{
	{"length(text)", "The number of characters as people count them: a flag emoji is one. `size(text)` counts code points.",
		unary("length", cel.IntType, func(s string) ref.Val { return types.Int(uniseg.GraphemeClusterCount(s)) })},
	{"isUuid(text)", "True if the text is a UUID with hyphens.",
		unary("isUuid", cel.BoolType, func(s string) ref.Val { return types.Bool(len(s) == 36 && uuid.Validate(s) == nil) })},
	{"isEmail(text)", "True if the text has the form of an email address.",
		unary("isEmail", cel.BoolType, func(s string) ref.Val {
			if len(s) > maxEmail {
				return types.False
			}
			a, err := mail.ParseAddress(s)
			return types.Bool(err == nil && a.Address == s)
		})},
	{"isUrl(text)", "True if the text is an http or https URL.",
		unary("isUrl", cel.BoolType, func(s string) ref.Val {
			u, err := url.Parse(s)
			return types.Bool(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "")
		})},
	{"tx.of(table)`, `tx.of(table, column, value)", "The transaction's operations on a table, by the clients' name; those whose column was sent with a value. Column `id` is the row's id. A rule of a table finds what belongs to its row without a loop: `tx.of('sale_lines', 'sale_id', id).size() > 0`.", of()},
	{"sum(list)", "The sum of numbers, or of texts with numbers. It is exact: `sum([0.1, 0.2]) == 0.3`. Nulls count as nothing.", sum()},
	{"min(list)`, `max(list)", "The smallest and the largest element. Nulls do not count, and of an empty list it is null.", ordered()},
	{"list.distinct()`, `list.sort()`, `list.hasOnly(list)", "And what else [CEL's lists](https://github.com/google/cel-go/tree/master/ext#lists) can do.", ext.Lists()},
	{"parseJson(text)", "The value of JSON in a text column or in metadata. It fails on a text that is not JSON.",
		unary("parseJson", cel.DynType, parseJSON)},
}

// maxEmail is the length of the longest address in bytes, by RFC 5321 section 4.5.3.1.
const maxEmail = 64 + 1 + 255

// unary declares a function of a text. Its cost is the length of the text.
func unary(name string, result *cel.Type, of func(string) ref.Val) cel.EnvOption {
	const suffix = "_string"
	declared := cel.Function(name, cel.Overload(name+suffix, []*cel.Type{cel.StringType}, result,
		cel.UnaryBinding(func(v ref.Val) ref.Val { return of(string(v.(types.String))) })))
	costs := cel.CostModel(cost.Overload(name+suffix, cost.EvalCost(cost.Sum(cost.Const(cost.CallCost), cost.StringScan(cost.Length(cost.Arg(0)))))))
	return func(env *cel.Env) (*cel.Env, error) {
		env, err := declared(env)
		if err != nil {
			return nil, err
		}
		return costs(env)
	}
}

func parseJSON(text string) ref.Val {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return types.NewErr("parseJson: the text is not JSON")
	}
	return types.DefaultTypeAdapter.NativeToValue(value)
}

func functions() cel.EnvOption {
	return func(env *cel.Env) (*cel.Env, error) {
		for _, f := range ownFunctions {
			var err error
			if env, err = f.option(env); err != nil {
				return nil, err
			}
		}
		return env, nil
	}
}

// variable is a variable of expressions.
type variable struct{ name, doc string }

// variables are those of a table's rules. Rules over whole transactions have only
// auth, now, tx, lookup and each.
var variables = []variable{
	{"op", "The client's verb: `put`, `patch` or `delete`. What happens to the row is in a rule's `on`."},
	{"id", "The row's id, as the client sent it."},
	{"new", "The row as it will be, by the database's columns; null on DELETE. If a rule looks at a column that was neither sent nor set, it is evaluated after the operation, with the effects of defaults, triggers and the conflict strategy."},
	{"old", "The row before the operation, as the user may see it; null if there is none, as on a PUT that inserts."},
	{"data", "The columns that were sent. `has(data.title)` is true if title is among them. Each may be null."},
	{"changed", "The columns that this write changes, a list of names: those that were sent and that the row has another value in, or all of them if the row is new. `changed.hasOnly(['title', 'note'])` closes all others, also those that a later migration adds. It does not count what the policy sets, whatever was sent for it."},
	{"lookup", "The first row of each of the rule's lookups, by name; null if there is none. A lookup of rows is a list of them."},
	{"each", "The value for which a rule with `each` is evaluated."},
	{"metadata", "The text that the app attached to the write; empty if it attached none."},
	{"auth", "The user: `auth.sub`, `auth.role`, `auth.issuer`, `auth.session_id`, and `auth.claims` with the token's claims."},
	{"now", "The time at which the server received the request. It is a microsecond later for each operation than for the one before, over all transactions of the request."},
	{"tx", "The list of the transaction's operations. Each has `op`, `table`, `id`, `metadata`, and `data` with the columns by the clients' names."},
}
