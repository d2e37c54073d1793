package policies

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"postern/service/catalog"
)

// The names of the object types in expressions. A row's type has its table's name.
const (
	authType      = "auth"
	operationType = "operation"
	sentSuffix    = " as sent" // of the type of data, in which any column may be null
)

// scope is the variables and types that an expression can use.
type scope struct {
	env      *cel.Env
	table    *catalog.Table // nil for rules over a whole transaction
	each     []EachColumn   // of such a rule
	hasEach  bool           // it has some, unless there is a mistake in them
	names    *names
	lets     map[string]*let // of the table, by name
	function bool            // it is for the expression of a function
}

// newScope declares the variables of an expression. Rows are typed by their
// table, so that a misspelt column is an error when the policies are loaded.
func newScope(table *catalog.Table, names *names) (scope, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return scope{}, err
	}
	options := []cel.EnvOption{
		cel.StdLib(), ext.Strings(), ext.Math(), functions(),
		cel.CrossTypeNumericComparisons(true), cel.EnableMacroCallTracking(),
		cel.CustomTypeProvider(&provider{Provider: registry, table: table}),
		cel.Variable("auth", cel.ObjectType(authType)),
		cel.Variable("now", cel.TimestampType),
		cel.Variable("tx", cel.ListType(cel.ObjectType(operationType))),
	}
	if table != nil {
		row := cel.ObjectType(table.String())
		options = append(options,
			cel.Variable("op", cel.StringType), cel.Variable("id", cel.StringType), cel.Variable("metadata", cel.StringType),
			cel.Variable("new", row), cel.Variable("old", row), cel.Variable("data", cel.ObjectType(table.String()+sentSuffix)),
			cel.Variable("changed", cel.ListType(cel.StringType)),
			cel.Variable("lookup", cel.MapType(cel.StringType, cel.DynType)))
	}
	env, err := cel.NewCustomEnv(append(options, names.options...)...)
	return scope{env: env, table: table, names: names}, err
}

// beforeDefaults is the scope of what the policy sets: any column of a new row may be null,
// because the database's defaults are not in it yet.
func (s scope) beforeDefaults() (scope, error) {
	rows := *s.env.CELTypeProvider().(*provider)
	rows.nullable = true
	env, err := s.env.Extend(cel.CustomTypeProvider(&rows))
	s.env = env
	return s, err
}

// provider adds the types of rows, of the user and of operations to CEL's own.
type provider struct {
	types.Provider
	table    *catalog.Table
	nullable bool // any column may be null
}

var authFields = map[string]*types.Type{
	"sub": types.StringType, "role": types.StringType, "issuer": types.StringType, "session_id": types.StringType,
	"claims": types.NewMapType(types.StringType, types.DynType),
}

var operationFields = map[string]*types.Type{
	"op": types.StringType, "table": types.StringType, "id": types.StringType, "metadata": types.StringType,
	"data": types.NewMapType(types.StringType, types.DynType),
}

func (p *provider) fields(name string) map[string]*types.Type {
	switch {
	case name == authType:
		return authFields
	case name == operationType:
		return operationFields
	case p.table != nil && (name == p.table.String() || name == p.table.String()+sentSuffix):
		fields := make(map[string]*types.Type, len(p.table.Columns))
		for i := range p.table.Columns {
			c := p.table.Columns[i]
			c.NotNull = c.NotNull && !p.nullable && name == p.table.String()
			fields[c.Name] = columnType(&c)
		}
		return fields
	}
	return nil
}

// FindStructType implements types.Provider.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if p.fields(name) != nil {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	if fields := p.fields(name); fields != nil {
		return sortedKeys(fields), true
	}
	return p.Provider.FindStructFieldNames(name)
}

// FindStructFieldType implements types.Provider. It returns no accessors, because
// rows are maps when an expression is evaluated.
func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if fields := p.fields(name); fields != nil {
		t, ok := fields[field]
		return &types.FieldType{Type: t}, ok
	}
	return p.Provider.FindStructFieldType(name, field)
}
