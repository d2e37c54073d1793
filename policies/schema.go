package policies

import (
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
)

type object = map[string]any // of JSON

// pointer escapes a name in a JSON pointer: RFC 6901.
var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// SchemaFor returns the JSON Schema of policy files for some tables: Schema, with the
// tables' names and columns.
func SchemaFor(tables []*catalog.Table) ([]byte, error) {
	var schema struct {
		Properties map[string]object `json:"properties"`
		Defs       object            `json:"$defs"`
		Rest       object            `json:",embed"`
	}
	if err := json.Unmarshal(Schema, &schema); err != nil {
		return nil, err
	}
	named, mapped := object{}, []any{}
	schema.Defs = object{"table": schema.Properties["tables"]["additionalProperties"], "mapped": object{"allOf": &mapped}}
	for _, t := range tables {
		columns := object{"$ref": "#/$defs/" + url.PathEscape(pointer.Replace(t.String()))}
		schema.Defs[t.String()] = columnsSchema(t)
		names := []string{t.String()}
		if t.Schema == "public" {
			names = append(names, t.Name)
			named[t.Name] = object{"allOf": []any{object{"$ref": "#/$defs/table"}, object{"$ref": "#/$defs/mapped"}}, "if": object{"required": []string{"table"}}, "else": columns}
		}
		mapped = append(mapped, object{"if": object{"required": []string{"table"}, "properties": object{"table": object{"enum": names}}}, "then": columns})
	}
	schema.Properties["tables"]["properties"] = named
	schema.Properties["tables"]["additionalProperties"] = object{"allOf": []any{object{"$ref": "#/$defs/table"}, object{"$ref": "#/$defs/mapped"}}}
	return json.Marshal(&schema, json.Deterministic(true), jsontext.WithIndent("  "))
}

// columnsSchema is what the keys of a table's policy say about its columns.
func columnsSchema(t *catalog.Table) object {
	names := columnNames(t)
	one := object{"enum": names}
	list, keys := object{"items": one}, object{"propertyNames": one, "properties": ColumnsSchema(t, func(name string) string { return name })}
	return object{"properties": object{
		"owner": one, "soft_delete": one, "id": list, "immutable": list, "writable": list,
		"set": keys, "defaults": keys, "epoch": keys, "columns": object{"additionalProperties": one},
		"conflict": object{"properties": object{"columns": object{"propertyNames": object{"enum": append(names, "*")}}}},
	}}
}

// ColumnsSchema describes the columns of a table, by the names that name returns.
func ColumnsSchema(t *catalog.Table, name func(column string) string) map[string]any {
	properties := object{}
	for i := range t.Columns {
		c := &t.Columns[i]
		text := c.TypeName
		if c.NotNull {
			text += ", not null"
		}
		properties[name(c.Name)] = object{"description": text}
	}
	return properties
}
