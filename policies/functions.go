package policies

import (
	"net/mail"
	"net/url"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/rivo/uniseg"
)

// function is one that expressions have beyond CEL's own.
type function struct {
	form, doc string
	option    cel.EnvOption
}

var ownFunctions = []function{
	{"length(text)", "The characters of a text as people count them: a flag or a family is one. `size(text)` counts code points.",
		unary("length", cel.IntType, func(s string) ref.Val { return types.Int(uniseg.GraphemeClusterCount(s)) })},
	{"isUuid(text)", "Whether a text is a UUID, with hyphens.",
		unary("isUuid", cel.BoolType, func(s string) ref.Val { return types.Bool(len(s) == 36 && uuid.Validate(s) == nil) })},
	{"isEmail(text)", "Whether a text has the form of an email address.",
		unary("isEmail", cel.BoolType, func(s string) ref.Val {
			if len(s) > maxEmail {
				return types.False
			}
			a, err := mail.ParseAddress(s)
			return types.Bool(err == nil && a.Address == s)
		})},
	{"isUrl(text)", "Whether a text is an http or https URL.",
		unary("isUrl", cel.BoolType, func(s string) ref.Val {
			u, err := url.Parse(s)
			return types.Bool(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "")
		})},
	{"parseJson(text)", "The value of JSON that is kept in a text column, or sent as metadata. It fails on what is not JSON.",
		unary("parseJson", cel.DynType, parseJSON)},
}

// maxEmail is the bytes of the longest address, by RFC 5321 section 4.5.3.1.
const maxEmail = 64 + 1 + 255

// unary is a function that goes through a text, which costs as much as it is long.
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

// variable is one that expressions see.
type variable struct{ name, doc string }

// variables are those of a table's rules; rules over whole transactions have auth,
// now and tx alone.
var variables = []variable{
	{"op", "`put`, `patch` or `delete`."},
	{"id", "The row's id, as the client sent it."},
	{"new", "The row as it will be, by the database's columns; null on DELETE. Columns that were sent or set are known at once; looking at any other has the rule asked after the operation was made, with defaults, triggers and the conflict strategy accounted for."},
	{"old", "The row as it is, as the user may see it; null where there is none, as on a PUT that inserts."},
	{"data", "The columns that were sent: `has(data.title)` asks whether title is among them. Any of them may be null."},
	{"lookup", "The first row of each of the rule's lookups, by name; null where it found none."},
	{"metadata", "What the app attached to the write, a text; empty where it attached nothing."},
	{"auth", "The user: `auth.sub`, `auth.role`, `auth.issuer`, `auth.session_id`, and `auth.claims`, the token's claims."},
	{"now", "The time."},
	{"tx", "All operations of the transaction, a list: `op`, `table`, `id`, `metadata`, and `data`, the columns by the client's names."},
}
