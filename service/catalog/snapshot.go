package catalog

import (
	"cmp"
	"hash"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Snapshot is what Postgres had at one moment. It is not changed after it was
// read, so it may be shared.
type Snapshot struct {
	ReadAt time.Time
	Schema string // the same for two snapshots whose tables, views, columns and functions are the same
	// Deferred says that some constraint or constraint trigger of the database is
	// deferrable, so that an error may wait for the commit.
	Deferred bool
	// TransactionTimeout says that the setting of this name exists (Postgres 17).
	TransactionTimeout bool
	// PreRequest is the quoted name of PostgREST's db-pre-request function; empty
	// where none is configured in the database.
	PreRequest string

	tables   map[[2]string]*Table
	byOID    map[uint32]*Table
	settings map[string][]Setting // by role
	sum      hash.Hash            // of what Schema is made of
}

// Setting is one that a role carries (ALTER ROLE … SET), which SET ROLE does not
// load.
type Setting struct{ Name, Value string }

// Table is an ordinary or partitioned table, and no partition of another.
type Table struct {
	OID         uint32
	Schema      string
	Name        string
	Columns     []Column   // in the table's order
	PrimaryKey  []string   // column names in the key's order; empty when there is none
	Uniques     [][]string // the columns of each unique index that ON CONFLICT can use
	ForeignKeys []ForeignKey
	RowSecurity bool                // row-level security is on
	Grants      map[string][]string // by role: those of select, insert, update and delete it has, on the table or on some of its columns
	Triggers    []string            // the events that have a BEFORE trigger for each row, which may cancel them: INSERT, UPDATE, DELETE

	byName map[string]*Column
	sql    string
}

// Column is one column of a table.
type Column struct {
	Name       string
	TypeName   string // as format_type prints it, like character varying(40)
	Type       *Type  // below any domain
	Modifier   int32  // pg_attribute.atttypmod, or that of the domain; -1 where there is none
	NotNull    bool
	HasDefault bool // a default, an identity or a generated expression
	Generated  bool // generated always as an expression: nobody may write it
	Identity   bool // generated always as identity: written only with overriding system value

	sql string
}

// ForeignKey is a reference from a table to another, or to itself.
type ForeignKey struct {
	Name       string
	References uint32   // the OID of the table referred to
	Columns    []string // the referring columns
	Targets    []string // the columns referred to, in the same order
	Deferrable bool
	Restricts  bool // a row that is referred to cannot be deleted
}

// NewSnapshot is a snapshot of tables that were not read from a database.
func NewSnapshot(schema string, tables []*Table) *Snapshot {
	s := &Snapshot{ReadAt: time.Now(), Schema: schema, tables: map[[2]string]*Table{}, byOID: map[uint32]*Table{}, settings: map[string][]Setting{}}
	for _, t := range tables {
		s.add(t)
		t.indexColumns()
	}
	return s
}

// add adds a table.
func (s *Snapshot) add(t *Table) {
	t.sql = pgx.Identifier{t.Schema, t.Name}.Sanitize()
	s.byOID[t.OID], s.tables[[2]string{t.Schema, t.Name}] = t, t
}

// indexColumns makes the columns findable, once they are all there.
func (t *Table) indexColumns() {
	t.byName = make(map[string]*Column, len(t.Columns))
	for i := range t.Columns {
		c := &t.Columns[i]
		c.sql = pgx.Identifier{c.Name}.Sanitize()
		t.byName[c.Name] = c
	}
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

// Table finds a table by schema and name; nil when there is none.
func (s *Snapshot) Table(schema, name string) *Table { return s.tables[[2]string{schema, name}] }

// TableByOID finds the table a foreign key refers to; nil when there is none.
func (s *Snapshot) TableByOID(oid uint32) *Table { return s.byOID[oid] }

// Settings are those that a role carries in this database.
func (s *Snapshot) Settings(role string) []Setting { return s.settings[role] }

// Bounds reports whether a role carries a timeout of this name that is no longer
// than most.
func (s *Snapshot) Bounds(role, timeout string, most time.Duration) bool {
	for _, setting := range s.settings[role] {
		if setting.Name == timeout {
			own := duration(setting.Value)
			return own > 0 && own <= most
		}
	}
	return false
}

// duration reads a time setting as Postgres prints it in a role's settings: a
// number of milliseconds, or one with a unit. What cannot be read is 0.
func duration(value string) time.Duration {
	digits := strings.TrimRight(value, "abcdefghijklmnopqrstuvwxyz ")
	n, err := strconv.ParseFloat(digits, 64)
	unit, ok := map[string]time.Duration{
		"us": time.Microsecond, "": time.Millisecond, "ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	}[strings.TrimSpace(value[len(digits):])]
	if err != nil || !ok {
		return 0
	}
	return time.Duration(n * float64(unit))
}

// Arbiter reports whether ON CONFLICT can tell by these columns that a row exists.
func (t *Table) Arbiter(columns []string) bool {
	return slices.ContainsFunc(t.Uniques, func(unique []string) bool {
		return len(unique) == len(columns) && !slices.ContainsFunc(unique, func(c string) bool { return !slices.Contains(columns, c) })
	})
}

// Intercepts reports whether a trigger may cancel an UPDATE or a DELETE.
func (t *Table) Intercepts(event string) bool { return slices.Contains(t.Triggers, event) }

// Column finds a column by name; nil when there is none.
func (t *Table) Column(name string) *Column { return t.byName[name] }

// String is the table's schema and name, for messages; SQL says SQL.
func (t *Table) String() string { return t.Schema + "." + t.Name }

// SQL is the table's quoted, qualified name.
func (t *Table) SQL() string { return t.sql }

// Null is null of a column's type. It does without the type's name, which may stand
// for another type, or none, on a role's search path.
func (t *Table) Null(c *Column) string { return "(null::" + t.sql + ")." + c.sql }

// SQL is the column's quoted name.
func (c *Column) SQL() string { return c.sql }
