package policies

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

// TestGenerated checks that the JSON Schema and the reference in README.md match the
// code. go generate updates them.
func TestGenerated(t *testing.T) {
	t.Parallel()
	docs := comments(t, "file.go", "conflict.go")
	schema, err := json.Marshal(schemaOf(reflect.TypeFor[file](), docs, true), json.Deterministic(true), jsontext.WithIndent("  "))
	require.NoError(t, err)
	same(t, "policy.schema.json", string(schema)+"\n")

	const begin, end = "<!-- generated: go generate ./policies -->\n", "<!-- end -->"
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(readme), begin)
	require.True(t, found, "README.md has no marker")
	_, after, found := strings.Cut(rest, end)
	require.True(t, found)
	same(t, "README.md", before+begin+reference(docs)+end+after)
}

func same(t *testing.T, path, want string) {
	t.Helper()
	if flag.Lookup("update").Value.String() == "true" {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
	}
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want, string(got), "to update it: go generate ./policies")
}

// TestVariables checks that every variable of expressions is described.
func TestVariables(t *testing.T) {
	t.Parallel()
	s, err := newScope(nil, &names{})
	require.NoError(t, err)
	described := map[string]bool{}
	for _, v := range variables {
		require.NotEmpty(t, v.doc)
		described[v.name] = true
	}
	for _, v := range s.env.Variables() {
		require.True(t, described[v.Name()] || v.Name() == v.Type().TypeName() || strings.HasPrefix(v.Type().String(), "type"), v.Name())
	}
}

// comments returns the comments of fields, by struct.Field, and of constants.
func comments(t *testing.T, files ...string) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, path := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSpec:
				if s, ok := n.Type.(*ast.StructType); ok {
					for _, f := range s.Fields.List {
						for _, name := range f.Names {
							docs[n.Name.Name+"."+name.Name] = strings.TrimSpace(f.Doc.Text())
						}
					}
				}
			case *ast.ValueSpec:
				if n.Comment != nil {
					docs[n.Names[0].Name] = strings.TrimSpace(n.Comment.Text())
				}
			}
			return true
		})
	}
	return docs
}

var (
	operations = map[string]any{"type": "array", "anyOf": []any{
		map[string]any{"items": map[string]any{"enum": []string{"create", "update", "delete"}}},
		map[string]any{"items": map[string]any{"enum": []string{"put", "patch", "delete"}}},
	}}
	text       = map[string]any{"type": "string"}
	code       = map[string]any{"type": "string", "pattern": codeForm.String()}
	newestForm = closedObject(map[string]any{"newest": map[string]any{"oneOf": []any{text, needing(closedObject(map[string]any{"column": text, "ahead": text}), "column")}}})
	// What the Go types do not express.
	scalar  = map[string]any{"type": []string{"string", "number", "boolean"}}
	special = map[string]map[string]any{
		"file.Params":              {"type": "object", "additionalProperties": map[string]any{"oneOf": []any{scalar, map[string]any{"type": "array", "items": scalar}}}},
		"tableRule.Allow":          {"oneOf": []any{map[string]any{"const": "all"}, some(operations)}},
		"messageRule.Code":         code,
		"tableRule.UnknownColumns": {"enum": []string{"reject", "ignore"}},
		"tableRule.OnMissing":      {"enum": []string{"ignore", "reject"}},
		"tableRule.Mode":           {"enum": []string{"enforce", "observe"}},
		"ruleRule.Mode":            {"enum": []string{"enforce", "observe"}},
		"tableRule.Put":            {"enum": []string{"merge", "replace", "insert"}},
		"tableRule.Epoch":          {"type": "object", "additionalProperties": map[string]any{"enum": []string{"s", "ms"}}},
		"tableRule.Client":         {"type": "array", "items": code},
		"ruleRule.Code":            code,
		"ruleRule.On":              operations,
		"assignment.On":            operations,
		"tableRule.Conflict": {"oneOf": []any{
			map[string]any{"enum": []string{"fields", "server", "reject"}},
			newestForm, closedObject(map[string]any{"version": text}),
			closedObject(map[string]any{"increment": some(map[string]any{"type": "array", "items": text})}),
			closedObject(map[string]any{"columns": map[string]any{"type": "object", "minProperties": 1, "additionalProperties": map[string]any{"oneOf": []any{
				map[string]any{"enum": []string{"fields", "increment", "reject"}}, newestForm,
			}}}}),
		}},
	}
	required = map[string][]string{"ruleRule": {"name", "check", "code", "message"}, "rateRule": {"most", "per"}, "messageRule": {"message"}, "assignment": {"value"}, "letRule": {"lookup"}, "lookupRule": {"rows"}, "tableRule": {"allow"}}
)

// some returns a list that must not be empty.
func some(list map[string]any) map[string]any {
	list = maps.Clone(list)
	list["minItems"] = 1
	return list
}

func needing(object map[string]any, keys ...string) map[string]any {
	object["required"] = keys
	return object
}

func closedObject(properties map[string]any) map[string]any {
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
}

func schemaOf(t reflect.Type, docs map[string]string, top bool) map[string]any {
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), docs, false)
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer", "minimum": 1, "maximum": math.MaxInt32}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), docs, false)}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem(), docs, false)}
	case reflect.Struct:
		properties := map[string]any{}
		for i := range t.NumField() {
			f := t.Field(i)
			key := f.Tag.Get("yaml")
			if key == "" {
				continue
			}
			name := t.Name() + "." + f.Name
			of, ok := special[name]
			if !ok {
				of = schemaOf(f.Type, docs, false)
			}
			described := map[string]any{"description": docs[name]}
			for k, v := range of {
				described[k] = v
			}
			properties[key] = described
		}
		out := closedObject(properties)
		if names := required[t.Name()]; names != nil {
			out["required"] = names
		}
		if top {
			out["$schema"], out["title"] = "https://json-schema.org/draft/2020-12/schema", "Postern policies"
		}
		if t == reflect.TypeFor[assignment]() || t == reflect.TypeFor[letRule]() || t == reflect.TypeFor[lookupRule]() {
			return map[string]any{"oneOf": []any{text, out}}
		}
		return out
	}
	return text
}

// reference returns the generated part of README.md.
func reference(docs map[string]string) string {
	var out strings.Builder
	table := func(title, head string, rows [][2]string) {
		fmt.Fprintf(&out, "\n### %s\n\n| %s | |\n|---|---|\n", title, head)
		for _, row := range rows {
			fmt.Fprintf(&out, "| `%s` | %s |\n", row[0], row[1])
		}
	}
	keys := func(t reflect.Type) (rows [][2]string) {
		for i := range t.NumField() {
			rows = append(rows, [2]string{t.Field(i).Tag.Get("yaml"), docs[t.Name()+"."+t.Field(i).Name]})
		}
		return rows
	}
	table("A file", "key", keys(reflect.TypeFor[file]()))
	table("A table", "key", keys(reflect.TypeFor[tableRule]()))
	table("A rule", "key", keys(reflect.TypeFor[ruleRule]()))
	table("A message", "key", keys(reflect.TypeFor[messageRule]()))
	table("A rate", "key", keys(reflect.TypeFor[rateRule]()))
	var rows [][2]string
	for _, s := range []struct {
		strategy Strategy
		form     string
		name     string
	}{
		{Newest, "{newest: column}", "Newest"}, {Version, "{version: column}", "Version"}, {Fields, "fields", "Fields"},
		{Increment, "{increment: [columns]}", "Increment"}, {Server, "server", "Server"}, {Reject, "reject", "Reject"},
		{ByColumn, "{columns: {column: strategy}}", "ByColumn"},
	} {
		rows = append(rows, [2]string{s.form, docs[s.name]})
	}
	table("Conflict strategies", "`conflict:`", rows)
	rows = nil
	for _, v := range variables {
		rows = append(rows, [2]string{v.name, v.doc})
	}
	table("Variables", "name", rows)
	rows = nil
	for _, f := range ownFunctions {
		rows = append(rows, [2]string{f.form, f.doc})
	}
	table("Functions beyond CEL's own", "function", rows)
	out.WriteString("\n")
	return out.String()
}
