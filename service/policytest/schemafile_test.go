package policytest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/policytest"
)

// TestSchema checks that the schema of tests, with the tables of an app and without,
// accepts the examples and rejects mistakes.
func TestSchema(t *testing.T) {
	t.Parallel()
	db := start(t, "lists")
	live, err := policies.Load(filepath.Join(examples, "lists"))
	require.NoError(t, err)
	plain := compile(t, policytest.Schema)
	known, err := policytest.SchemaFor(live, db.Snapshot())
	require.NoError(t, err)
	withoutPolicies, err := policytest.SchemaFor(nil, db.Snapshot())
	require.NoError(t, err)
	for _, app := range []string{"lists", "fieldservice", "shop"} {
		content, err := os.ReadFile(filepath.Join(examples, app, "app_test.yaml"))
		require.NoError(t, err)
		require.NoError(t, validates(t, plain, string(content)), app)
		if app == "lists" {
			require.NoError(t, validates(t, compile(t, known), string(content)))
		}
	}
	const good = "tests: [{name: a, as: ann, operations: [{op: PUT, table: tasks, id: x}], rows: {tasks: {x: {title: Milk}}}, expect: {outcome: accepted}}]"
	require.NoError(t, validates(t, compile(t, known), good))
	require.NoError(t, validates(t, compile(t, withoutPolicies), good))
	for _, test := range []struct {
		name, from, to string
		plain          bool // whether the schema that knows no tables accepts it
	}{
		{"Key", "as: ann", "ass: ann", false},
		{"Operation", "op: PUT", "op: put", false},
		{"NoOutcome", "outcome: accepted", "client: true", false},
		{"NoUser", "as: ann, ", "", false},
		{"StepsAndOperations", "as: ann", "as: ann, steps: []", false},
		{"Table", "rows: {tasks", "rows: {task", true},
		{"Column", "title: Milk", "titel: Milk", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			content := strings.Replace(good, test.from, test.to, 1)
			require.Equal(t, test.plain, validates(t, plain, content) == nil)
			require.Error(t, validates(t, compile(t, known), content))
		})
	}
}

func compile(t *testing.T, content []byte) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("tests", document))
	schema, err := compiler.Compile("tests")
	require.NoError(t, err)
	return schema
}

func validates(t *testing.T, schema *jsonschema.Schema, content string) error {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON([]byte(content))
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	require.NoError(t, err)
	return schema.Validate(value)
}
