// Package catalogtest keeps a catalogue in a file, so that tests of policies and plans
// run without a database.
package catalogtest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
)

// The form of a file. It has no OIDs and no time: two databases with the same tables
// give the same file.
type (
	fileSnapshot struct {
		Tables []fileTable `json:"tables"`
	}
	fileTable struct {
		Name        string              `json:"name"` // schema.name
		Schema      string              `json:"schema"`
		RowSecurity bool                `json:"row_security,omitzero"`
		PrimaryKey  []string            `json:"primary_key,omitzero"`
		Uniques     [][]string          `json:"uniques,omitzero"` // left out where there is the primary key's alone
		Columns     []fileColumn        `json:"columns"`
		Constrained map[string][]string `json:"constrained,omitzero"`
		ForeignKeys []fileForeignKey    `json:"foreign_keys,omitzero"`
		Grants      map[string][]string `json:"grants,omitzero"`
		Triggers    []string            `json:"triggers,omitzero"`
		Others      bool                `json:"other_triggers,omitzero"`
	}
	fileColumn struct {
		Name       string    `json:"name"`
		TypeName   string    `json:"type"`
		Type       *fileType `json:"is"`
		Modifier   *int32    `json:"modifier,omitzero"`
		NotNull    bool      `json:"not_null,omitzero"`
		HasDefault bool      `json:"has_default,omitzero"`
		Generated  bool      `json:"generated,omitzero"`
		Identity   bool      `json:"identity,omitzero"`
	}
	fileForeignKey struct {
		Name       string   `json:"name"`
		Schema     string   `json:"schema"` // of the table referred to
		References string   `json:"references"`
		Columns    []string `json:"columns"`
		Targets    []string `json:"targets"`
		Deferrable bool     `json:"deferrable,omitzero"`
		Restricts  bool     `json:"restricts,omitzero"`
	}
	fileField struct {
		Name string    `json:"name"`
		Type *fileType `json:"is"`
	}
)

// fileType is a type's name where it is a base type, else an object.
type fileType catalog.Type

type fileTypeObject struct {
	Name   string      `json:"name"`
	Kind   string      `json:"kind"`
	Of     *fileType   `json:"of,omitzero"`
	Known  bool        `json:"known,omitzero"`
	Labels []string    `json:"labels,omitzero"`
	Fields []fileField `json:"fields,omitzero"`
}

func (t *fileType) MarshalJSONTo(e *jsontext.Encoder) error {
	if t.Kind == catalog.Base && t.Of == nil && t.Known {
		return e.WriteToken(jsontext.String(t.Name))
	}
	object := fileTypeObject{Name: t.Name, Kind: string(t.Kind), Of: (*fileType)(t.Of), Known: t.Known, Labels: t.Labels}
	for _, f := range t.Fields {
		object.Fields = append(object.Fields, fileField{f.Name, (*fileType)(f.Type)})
	}
	return json.MarshalEncode(e, object)
}

func (t *fileType) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == '"' {
		t.Kind, t.Known = catalog.Base, true
		return json.UnmarshalDecode(d, &t.Name)
	}
	var object fileTypeObject
	if err := json.UnmarshalDecode(d, &object); err != nil {
		return err
	}
	if len(object.Kind) != 1 || !strings.Contains("beacrm", object.Kind) {
		return fmt.Errorf("kind %q is not one of b, e, a, c, r, m", object.Kind)
	}
	*t = fileType{Name: object.Name, Kind: catalog.Kind(object.Kind[0]), Of: (*catalog.Type)(object.Of), Known: object.Known, Labels: object.Labels}
	for _, f := range object.Fields {
		t.Fields = append(t.Fields, catalog.Field{Name: f.Name, Type: (*catalog.Type)(f.Type)})
	}
	return nil
}

// Marshal spells tables of a snapshot for a file: those of schema public.
func Marshal(s *catalog.Snapshot) ([]byte, error) {
	var f fileSnapshot
	for _, t := range s.Tables() {
		if t.Schema == "public" {
			f.Tables = append(f.Tables, newFileTable(s, t))
		}
	}
	return json.Marshal(f, json.Deterministic(true), jsontext.WithIndent("  "))
}

func newFileTable(s *catalog.Snapshot, t *catalog.Table) fileTable {
	out := fileTable{Name: t.Name, Schema: t.Schema, RowSecurity: t.RowSecurity, PrimaryKey: t.PrimaryKey, Constrained: t.Constrained, Grants: t.Grants, Triggers: t.Triggers, Others: t.OtherTriggers}
	if len(t.Uniques) != 1 || !slices.Equal(t.Uniques[0], t.PrimaryKey) {
		out.Uniques = slices.SortedFunc(slices.Values(t.Uniques), slices.Compare[[]string])
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		column := fileColumn{Name: c.Name, TypeName: c.TypeName, Type: (*fileType)(c.Type), NotNull: c.NotNull, HasDefault: c.HasDefault, Generated: c.Generated, Identity: c.Identity}
		if c.Modifier != -1 {
			column.Modifier = &c.Modifier
		}
		out.Columns = append(out.Columns, column)
	}
	for _, k := range t.ForeignKeys {
		if to := s.TableByOID(k.References); to != nil && to.Schema == "public" {
			out.ForeignKeys = append(out.ForeignKeys, fileForeignKey{k.Name, to.Schema, to.Name, k.Columns, k.Targets, k.Deferrable, k.Restricts})
		}
	}
	slices.SortFunc(out.ForeignKeys, func(a, b fileForeignKey) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Load reads a snapshot from a file. Its OIDs are made up.
func Load(t testing.TB, path string) *catalog.Snapshot {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(t, content)
}

// Parse reads a snapshot from a file's content.
func Parse(t testing.TB, content []byte) *catalog.Snapshot {
	t.Helper()
	var f fileSnapshot
	if err := json.Unmarshal(content, &f, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("the catalogue file: %v", err)
	}
	tables := make([]*catalog.Table, len(f.Tables))
	oids := map[[2]string]uint32{}
	for i, file := range f.Tables {
		tables[i] = file.table(uint32(i + 1))
		oids[[2]string{file.Schema, file.Name}] = tables[i].OID
	}
	for i, file := range f.Tables {
		for _, k := range file.ForeignKeys {
			tables[i].ForeignKeys = append(tables[i].ForeignKeys, catalog.ForeignKey{
				Name: k.Name, References: oids[[2]string{k.Schema, k.References}], Columns: k.Columns, Targets: k.Targets, Deferrable: k.Deferrable, Restricts: k.Restricts,
			})
		}
	}
	sum := sha256.Sum256(content)
	return catalog.NewSnapshot(hex.EncodeToString(sum[:]), tables)
}

func (f fileTable) table(oid uint32) *catalog.Table {
	t := &catalog.Table{
		OID: oid, Schema: f.Schema, Name: f.Name, PrimaryKey: f.PrimaryKey, Uniques: f.Uniques, RowSecurity: f.RowSecurity, Constrained: f.Constrained, Grants: f.Grants, Triggers: f.Triggers, OtherTriggers: f.Others,
	}
	if t.Uniques == nil && len(t.PrimaryKey) > 0 {
		t.Uniques = [][]string{t.PrimaryKey}
	}
	for _, c := range f.Columns {
		column := catalog.Column{
			Name: c.Name, TypeName: c.TypeName, Type: (*catalog.Type)(c.Type), Modifier: -1, NotNull: c.NotNull, HasDefault: c.HasDefault,
			Generated: c.Generated, Identity: c.Identity,
		}
		if c.Modifier != nil {
			column.Modifier = *c.Modifier
		}
		t.Columns = append(t.Columns, column)
	}
	return t
}
