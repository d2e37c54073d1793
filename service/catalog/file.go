package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
)

// The form of a snapshot in a file, which is kept beside policies so that they
// can be checked and tested without a database. It has no OIDs and no time: two
// databases with the same tables give the same file.
type (
	fileSnapshot struct {
		Deferred           bool                         `json:"deferred,omitzero"`
		TransactionTimeout bool                         `json:"transaction_timeout,omitzero"`
		PreRequest         string                       `json:"pre_request,omitzero"`
		Settings           map[string]map[string]string `json:"settings,omitzero"` // by role
		Tables             []fileTable                  `json:"tables"`
	}
	fileTable struct {
		Name        string              `json:"name"` // schema.name
		Schema      string              `json:"schema"`
		RowSecurity bool                `json:"row_security,omitzero"`
		PrimaryKey  []string            `json:"primary_key,omitzero"`
		Uniques     [][]string          `json:"uniques,omitzero"` // left out where there is the primary key's alone
		Columns     []fileColumn        `json:"columns"`
		ForeignKeys []fileForeignKey    `json:"foreign_keys,omitzero"`
		Grants      map[string][]string `json:"grants,omitzero"`
		Triggers    []string            `json:"triggers,omitzero"`
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
type fileType Type

type fileTypeObject struct {
	Name   string      `json:"name"`
	Kind   string      `json:"kind"`
	Of     *fileType   `json:"of,omitzero"`
	Labels []string    `json:"labels,omitzero"`
	Fields []fileField `json:"fields,omitzero"`
}

func (t *fileType) MarshalJSONTo(e *jsontext.Encoder) error {
	if t.Kind == Base && t.Of == nil {
		return e.WriteToken(jsontext.String(t.Name))
	}
	object := fileTypeObject{Name: t.Name, Kind: string(t.Kind), Of: (*fileType)(t.Of), Labels: t.Labels}
	for _, f := range t.Fields {
		object.Fields = append(object.Fields, fileField{f.Name, (*fileType)(f.Type)})
	}
	return json.MarshalEncode(e, object)
}

func (t *fileType) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == '"' {
		t.Kind = Base
		return json.UnmarshalDecode(d, &t.Name)
	}
	var object fileTypeObject
	if err := json.UnmarshalDecode(d, &object); err != nil {
		return err
	}
	if len(object.Kind) != 1 || !strings.Contains("beacrm", object.Kind) {
		return fmt.Errorf("kind %q is not one of b, e, a, c, r, m", object.Kind)
	}
	*t = fileType{Name: object.Name, Kind: Kind(object.Kind[0]), Of: (*Type)(object.Of), Labels: object.Labels}
	for _, f := range object.Fields {
		t.Fields = append(t.Fields, Field{f.Name, (*Type)(f.Type)})
	}
	return nil
}

// MarshalJSON spells the snapshot for a file, without what is the database's own
// and not its tables': the OIDs, and when it was read.
func (s *Snapshot) MarshalJSON() ([]byte, error) {
	f := fileSnapshot{Deferred: s.Deferred, TransactionTimeout: s.TransactionTimeout, PreRequest: s.PreRequest}
	for role, settings := range s.settings {
		if f.Settings == nil {
			f.Settings = map[string]map[string]string{}
		}
		f.Settings[role] = map[string]string{}
		for _, setting := range settings { // the last of a name counts
			f.Settings[role][setting.Name] = setting.Value
		}
	}
	for _, t := range s.Tables() {
		f.Tables = append(f.Tables, s.fileTable(t))
	}
	return json.Marshal(f, json.Deterministic(true), jsontext.WithIndent("  "))
}

func (s *Snapshot) fileTable(t *Table) fileTable {
	out := fileTable{Name: t.Name, Schema: t.Schema, RowSecurity: t.RowSecurity, PrimaryKey: t.PrimaryKey, Grants: t.Grants, Triggers: t.Triggers}
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
		if to := s.byOID[k.References]; to != nil {
			out.ForeignKeys = append(out.ForeignKeys, fileForeignKey{k.Name, to.Schema, to.Name, k.Columns, k.Targets, k.Deferrable, k.Restricts})
		}
	}
	slices.SortFunc(out.ForeignKeys, func(a, b fileForeignKey) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Load reads a snapshot from a file. Its OIDs are made up, so it serves for
// compiling and planning and not for running SQL.
func Load(content []byte) (*Snapshot, error) {
	var f fileSnapshot
	if err := json.Unmarshal(content, &f, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("the catalogue file: %w", err)
	}
	sum := sha256.Sum256(content)
	s := &Snapshot{
		Schema: hex.EncodeToString(sum[:]), Deferred: f.Deferred, TransactionTimeout: f.TransactionTimeout, PreRequest: f.PreRequest,
		tables: map[[2]string]*Table{}, byOID: map[uint32]*Table{}, settings: map[string][]Setting{},
	}
	for role, settings := range f.Settings {
		for name, value := range settings {
			s.settings[role] = append(s.settings[role], Setting{name, value})
		}
		slices.SortFunc(s.settings[role], func(a, b Setting) int { return cmp.Compare(a.Name, b.Name) })
	}
	for i, t := range f.Tables {
		table, err := t.table(uint32(i + 1))
		if err != nil {
			return nil, fmt.Errorf("the catalogue file: table %s.%s: %w", t.Schema, t.Name, err)
		}
		s.tables[[2]string{t.Schema, t.Name}], s.byOID[table.OID] = table, table
	}
	for i, t := range f.Tables {
		table := s.byOID[uint32(i+1)]
		for _, k := range t.ForeignKeys {
			to := s.Table(k.Schema, k.References)
			if to == nil || len(k.Columns) == 0 || len(k.Columns) != len(k.Targets) {
				return nil, fmt.Errorf("the catalogue file: table %s: foreign key %s refers to nothing", table, k.Name)
			}
			table.ForeignKeys = append(table.ForeignKeys, ForeignKey{k.Name, to.OID, k.Columns, k.Targets, k.Deferrable, k.Restricts})
		}
	}
	return s, nil
}

func (f fileTable) table(oid uint32) (*Table, error) {
	t := &Table{
		OID: oid, Schema: f.Schema, Name: f.Name, PrimaryKey: f.PrimaryKey, RowSecurity: f.RowSecurity, Grants: f.Grants, Triggers: f.Triggers,
		Columns: make([]Column, 0, len(f.Columns)), byName: make(map[string]*Column, len(f.Columns)), sql: pgx.Identifier{f.Schema, f.Name}.Sanitize(),
	}
	if t.Uniques = f.Uniques; t.Uniques == nil && len(t.PrimaryKey) > 0 {
		t.Uniques = [][]string{t.PrimaryKey}
	}
	for _, c := range f.Columns {
		if c.Name == "" || !whole((*Type)(c.Type)) {
			return nil, fmt.Errorf("column %q has no type", c.Name)
		}
		column := Column{
			Name: c.Name, TypeName: c.TypeName, Type: (*Type)(c.Type), Modifier: -1, NotNull: c.NotNull, HasDefault: c.HasDefault,
			Generated: c.Generated, Identity: c.Identity, sql: pgx.Identifier{c.Name}.Sanitize(),
		}
		if c.Modifier != nil {
			column.Modifier = *c.Modifier
		}
		t.Columns = append(t.Columns, column)
	}
	for i := range t.Columns {
		t.byName[t.Columns[i].Name] = &t.Columns[i]
	}
	for _, key := range t.PrimaryKey {
		if t.byName[key] == nil {
			return nil, fmt.Errorf("its key's column %q is missing", key)
		}
	}
	return t, nil
}

// whole reports whether a type has all its parts.
func whole(t *Type) bool {
	if t == nil || t.Name == "" {
		return false
	}
	switch t.Kind {
	case Array, Range, Multirange:
		return whole(t.Of)
	case Composite:
		return !slices.ContainsFunc(t.Fields, func(f Field) bool { return !whole(f.Type) })
	}
	return true
}

// Tables are all tables, by schema and name.
func (s *Snapshot) Tables() []*Table {
	tables := make([]*Table, 0, len(s.tables))
	for _, t := range s.tables {
		tables = append(tables, t)
	}
	slices.SortFunc(tables, func(a, b *Table) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	return tables
}

// ForFile is what a file beside policies needs of the snapshot: the tables of
// schema public and those that somebody has been granted, without Postern's own,
// and no settings, which concern running SQL. References to other tables are left
// out.
func (s *Snapshot) ForFile() *Snapshot {
	less := *s
	less.settings, less.PreRequest, less.Deferred, less.TransactionTimeout = nil, "", false, false
	less.tables, less.byOID = map[[2]string]*Table{}, map[uint32]*Table{}
	for name, t := range s.tables {
		granted := false
		for _, privileges := range t.Grants {
			granted = granted || len(privileges) > 0
		}
		if t.Schema != "postern" && (granted || t.Schema == "public") {
			less.tables[name], less.byOID[t.OID] = t, t
		}
	}
	return &less
}
