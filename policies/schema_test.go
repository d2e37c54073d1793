package policies_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog"
)

func jsonSchema(t *testing.T, content []byte) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("policies", document))
	schema, err := compiler.Compile("policies")
	require.NoError(t, err)
	return schema
}

// validates returns why a YAML file does not match a schema.
func validates(t *testing.T, schema *jsonschema.Schema, content []byte) error {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON(content)
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	require.NoError(t, err)
	return schema.Validate(value)
}

// TestSchemaFor has policies for tables that the schema knows, and those that name a
// column which the table does not have.
func TestSchemaFor(t *testing.T) {
	t.Parallel()
	content, err := policies.SchemaFor(append(tables(t).Tables(), &catalog.Table{Schema: "public", Name: "odd ~/name"}))
	require.NoError(t, err)
	schema := jsonSchema(t, content)
	everything, err := os.ReadFile("testdata/everything.yaml")
	require.NoError(t, err)
	require.NoError(t, validates(t, schema, everything))
	for _, test := range []struct {
		name, policy string
		valid        bool
	}{
		{"Owner", "todos: {allow: all, owner: owner_id}", true},
		{"NoSuchOwner", "todos: {allow: all, owner: ownr}", false},
		{"Set", "todos: {allow: all, set: {title: auth.sub}, defaults: {note: auth.sub}}", true},
		{"NoSuchSet", "todos: {allow: all, set: {titel: auth.sub}}", false},
		{"NoSuchDefault", "todos: {allow: all, defaults: {titel: auth.sub}}", false},
		{"NoSuchImmutable", "todos: {allow: all, immutable: [titel]}", false},
		{"NoSuchKey", "todos: {allow: all, immutble: [title]}", false},
		{"AnotherTable", "todos: {allow: all, table: lists, owner: owner_id, immutable: [name]}", true},
		{"NoSuchColumnOfAnotherTable", "todos: {allow: all, table: public.lists, immutable: [title]}", false},
		{"AnotherName", "things: {allow: all, table: lists, immutable: [name]}", true},
		{"NoSuchColumnOfAnotherName", "things: {allow: all, table: lists, immutable: [title]}", false},
		{"Columns", "todos: {allow: all, columns: {heading: title}}", true},
		{"NoSuchColumns", "todos: {allow: all, columns: {heading: titel}}", false},
		{"Conflict", "todos: {allow: all, conflict: {columns: {title: {newest: {column: updated_at, ahead: 5m}}, qty: increment, '*': fields}}}", true},
		{"NoSuchColumnOfAConflict", "todos: {allow: all, conflict: {columns: {titel: fields}}}", false},
		{"NoSuchStrategyOfAColumn", "todos: {allow: all, conflict: {columns: {title: server}}}", false},
		{"UnknownTable", "nowhere: {allow: all, owner: anything}", true}, // check says that it does not exist
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := validates(t, schema, []byte("tables: {"+test.policy+"}"))
			require.Equal(t, test.valid, err == nil, err)
		})
	}
}

// TestSchema checks that the schema accepts valid files and rejects invalid ones.
func TestSchema(t *testing.T) {
	t.Parallel()
	schema := jsonSchema(t, policies.Schema)
	validate := func(path string) error {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		return validates(t, schema, content)
	}
	good, err := filepath.Glob("examples/*/app.yaml")
	require.NoError(t, err)
	require.Len(t, good, 4)
	for _, path := range append(good, "demo/lists-and-todos.yaml", "testdata/everything.yaml") {
		require.NoError(t, validate(path), path)
	}
	for _, name := range []string{"unknown_key", "unknown_key_of_a_rule", "allow_missing", "allow_word", "allow_operation", "allow_mixed", "on_operation", "on_mixed", "type_of_a_key", "put_mode", "on_missing",
		"unknown_columns", "epoch_unit", "conflict_word", "conflict_strategy", "conflict_two", "rule_code", "rule_message", "rule_check", "rate_most",
		"rate_most_fraction", "rate_most_exponent", "rate_most_text", "allow_empty", "conflict_columns", "conflict_column_of_no_text", "conflict_no_columns", "client_code"} {
		require.Error(t, validate("testdata/busted/busted_"+name+".yaml"), name)
	}
}
