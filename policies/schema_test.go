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
)

// TestSchema checks that the schema accepts valid files and rejects invalid ones.
func TestSchema(t *testing.T) {
	t.Parallel()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(policies.Schema))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("policies", document))
	schema, err := compiler.Compile("policies")
	require.NoError(t, err)
	validate := func(path string) error {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		asJSON, err := yaml.YAMLToJSON(content)
		require.NoError(t, err)
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
		require.NoError(t, err)
		return schema.Validate(value)
	}
	good, err := filepath.Glob("examples/*/app.yaml")
	require.NoError(t, err)
	require.Len(t, good, 3)
	for _, path := range append(good, "demo/lists-and-todos.yaml", "testdata/everything.yaml") {
		require.NoError(t, validate(path), path)
	}
	for _, name := range []string{"unknown_key", "unknown_key_of_a_rule", "allow_missing", "allow_word", "allow_operation", "on_operation", "type_of_a_key", "put_mode", "on_missing",
		"unknown_columns", "epoch_unit", "conflict_word", "conflict_strategy", "conflict_two", "rule_code", "rule_message", "rule_check", "rate_most",
		"rate_most_fraction", "rate_most_exponent", "rate_most_text", "allow_empty", "conflict_columns", "conflict_column_of_no_text", "conflict_no_columns", "client_code"} {
		require.Error(t, validate("testdata/busted/busted_"+name+".yaml"), name)
	}
}
