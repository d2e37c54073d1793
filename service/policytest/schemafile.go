package policytest

import (
	_ "embed"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// Schema is the JSON Schema of test files. Editors complete the files by it.
//
//go:embed policy_test.schema.json
var Schema []byte

// SchemaFile is the name of the schema's file beside the tests.
const SchemaFile = "policy_test.schema.json"

// SchemaFor is Schema with the names that tests can use: tables with their columns, rules
// and codes. live is nil if there are no policies yet.
func SchemaFor(live *policies.Live, tables *catalog.Snapshot) ([]byte, error) {
	n := &names{set: &policies.Set{}, tables: tables}
	if live != nil {
		var err error
		if n, err = namesOf(live, tables); err != nil {
			return nil, err
		}
	}
	var schema map[string]any
	if err := json.Unmarshal(Schema, &schema); err != nil {
		return nil, err
	}
	rows := map[string]any{}
	everything := n.set.Everything()
	for _, name := range n.clients() {
		policy, _ := everything.Decide(upload.Operation{Op: upload.Put, Table: name})
		if policy == nil {
			continue
		}
		if table := tables.Table(policy.Schema, policy.Name); table != nil {
			row := map[string]any{"type": []string{"object", "null", "string"}, "properties": policies.ColumnsSchema(table, policy.ClientName), "additionalProperties": false}
			rows[name] = map[string]any{"type": "object", "additionalProperties": row}
		}
	}
	defs := schema["$defs"].(map[string]any)
	defs["rows"] = map[string]any{"type": "object", "properties": rows, "additionalProperties": false}
	suggest := func(list []string, path ...string) {
		at := defs
		for _, key := range path {
			at = at[key].(map[string]any)
		}
		delete(at, "type")
		at["anyOf"] = []any{map[string]any{"enum": append([]string{}, list...)}, map[string]any{"type": "string"}}
	}
	suggest(n.clients(), "operations", "items", "properties", "table")
	suggest(append([]string{accepted}, n.codes...), "expect", "properties", "outcome")
	suggest(n.rules, "expect", "properties", "rule")
	suggest(n.rules, "expect", "properties", "observed", "items")
	return json.Marshal(schema, json.Deterministic(true), jsontext.WithIndent("  "))
}
