package policytest

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

// TestSchemaKeys checks that the schema has the keys of the forms, each with a
// description.
func TestSchemaKeys(t *testing.T) {
	t.Parallel()
	var schema map[string]any
	require.NoError(t, json.Unmarshal(Schema, &schema))
	for path, form := range map[string]reflect.Type{
		"properties": reflect.TypeFor[suite](),
		"properties.users.additionalProperties.properties": reflect.TypeFor[user](),
		"$defs.test.properties":                            reflect.TypeFor[test](),
		"$defs.test.properties.steps.items.properties":     reflect.TypeFor[step](),
		"$defs.operations.items.properties":                reflect.TypeFor[operation](),
		"$defs.expect.properties":                          reflect.TypeFor[expectation](),
	} {
		at := schema
		for key := range strings.SplitSeq(path, ".") {
			at = at[key].(map[string]any)
		}
		var keys []string
		for i := range form.NumField() {
			key := form.Field(i).Tag.Get("yaml")
			if key != "" && key != "defaults" && key != "lookups" { // of the first edition
				keys = append(keys, key)
				require.NotEmpty(t, at[key].(map[string]any)["description"], path+"."+key)
			}
		}
		slices.Sort(keys)
		require.Equal(t, keys, sortedKeys(at), path)
	}
}
