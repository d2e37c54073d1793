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

// Snapshot is what Postgres had when it was read. It does not change afterwards,
// so goroutines may share it.
type Snapshot struct {
	ReadAt time.Time
	// Schema is a hash of what policies are compiled against: the tables with their names,
	// columns, enums' labels, keys and constraints, and the views and functions with what
	// these name. It is equal for two snapshots if these are equal.
	Schema string
	// Deferred reports whether the database has a deferrable constraint or
	// constraint trigger. Its error may come as late as the commit.
	Deferred bool
	// TransactionTimeout reports whether Postgres has the setting
	// transaction_timeout, which came with version 17.
	TransactionTimeout bool
	// PreRequest is the quoted name of PostgREST's db-pre-request function. It is
	// empty if the database configures none.
	PreRequest string

	tables           map[[2]string]*Table
	byOID            map[uint32]*Table
	settings         map[string][]Setting // by role
	triggerFunctions []string             // their names without a schema
	sources          map[string]string    // what a view or function names, see Named
	sum              hash.Hash            // becomes Schema
	fingerprint      string               // of the system catalogues, see readFingerprint
}

// Setting is a setting that a role has by ALTER ROLE … SET. SET ROLE does not
// apply it.
type Setting struct{ Name, Value string }

// Table is an ordinary or partitioned table. It is not a partition.
type Table struct {
	OID         uint32
	Schema      string
	Name        string
	Partitioned bool
	Columns     []Column   // in the table's order
	PrimaryKey  []string   // column names in the key's order; empty if there is no key
	Uniques     [][]string // the columns of each unique index that ON CONFLICT can infer
	ForeignKeys []ForeignKey
	Constrained map[string][]string // the columns of each check and exclusion constraint and unique index, by its name; those of expressions are left out
	RowSecurity bool                // row-level security is on
	Grants      map[string][]string // by role: which of select, insert, update and delete it has, on the table or on some columns
	Triggers    []string            // the events with a BEFORE … FOR EACH ROW trigger: INSERT, UPDATE, DELETE

	OtherTriggers bool // there are triggers of other kinds

	version int64
	byName  map[string]*Column
	sql     string
}

// Column is one column of a table.
type Column struct {
	Name       string
	TypeName   string // as format_type prints it, like character varying(40)
	Type       *Type  // if the column's type is a domain, the type that the domain is over
	Modifier   int32  // pg_attribute.atttypmod, or the domain's pg_type.typtypmod; -1 if there is none
	NotNull    bool
	HasDefault bool // a default, an identity or a generated expression
	Generated  bool // GENERATED ALWAYS AS (expression): statements cannot write it
	Identity   bool // GENERATED ALWAYS AS IDENTITY: only OVERRIDING SYSTEM VALUE writes it

	sql string
}

// ForeignKey is a foreign key of a table. It may refer to the table itself.
type ForeignKey struct {
	Name       string
	References uint32   // the OID of the referenced table
	Columns    []string // the referencing columns
	Targets    []string // the referenced columns, in the same order
	Deferrable bool
	Restricts  bool // ON DELETE NO ACTION or RESTRICT: a referenced row cannot be deleted
}

// IsTriggerFunction reports whether a trigger calls a function of this name.
func (s *Snapshot) IsTriggerFunction(name string) bool {
	return slices.Contains(s.triggerFunctions, name)
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

// constrain adds a constraint or unique index.
func (t *Table) constrain(name string, columns []string) {
	if t.Constrained == nil {
		t.Constrained = map[string][]string{}
	}
	t.Constrained[name] = append([]string(nil), columns...)
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

// Table finds a table by schema and name. It returns nil if there is none.
func (s *Snapshot) Table(schema, name string) *Table { return s.tables[[2]string{schema, name}] }

// TableByOID finds a table by ForeignKey.References. It returns nil if there is none.
func (s *Snapshot) TableByOID(oid uint32) *Table { return s.byOID[oid] }

// Settings returns the settings that a role has in this database. If a name comes
// twice, the later one applies.
func (s *Snapshot) Settings(role string) []Setting { return s.settings[role] }

// HasTimeoutWithin reports whether a role has a timeout of this name, such as
// statement_timeout, of at most some duration. A timeout of 0 is off, which is not
// within any.
func (s *Snapshot) HasTimeoutWithin(role, timeout string, most time.Duration) bool {
	for _, setting := range slices.Backward(s.settings[role]) {
		if setting.Name == timeout {
			own := duration(setting.Value)
			return own > 0 && own <= most
		}
	}
	return false
}

// duration reads a time setting of a role: a number of milliseconds, or a number
// with a unit. It returns 0 for other text.
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

// HasUniqueIndex reports whether ON CONFLICT can use these columns, in any order.
func (t *Table) HasUniqueIndex(columns []string) bool {
	for _, unique := range t.Uniques {
		if len(unique) == len(columns) && !slices.ContainsFunc(unique, func(c string) bool { return !slices.Contains(columns, c) }) {
			return true
		}
	}
	return false
}

// HasBeforeTrigger reports whether a BEFORE … FOR EACH ROW trigger runs for an
// event: INSERT, UPDATE or DELETE. Such a trigger may change or cancel the write.
func (t *Table) HasBeforeTrigger(event string) bool { return slices.Contains(t.Triggers, event) }

// Column finds a column by name. It returns nil if there is none.
func (t *Table) Column(name string) *Column { return t.byName[name] }

// Version is what postern.expect_tables compares: another one if the table, its columns,
// triggers or constraints were changed.
func (t *Table) Version() int64 { return t.version }

// String is the table's schema and name for messages. Use SQL in statements.
func (t *Table) String() string { return t.Schema + "." + t.Name }

// SQL is the table's quoted, qualified name.
func (t *Table) SQL() string { return t.sql }

// Null is an SQL expression for a null of a column's type. It does not use the
// type's name, which may mean another type on the role's search path.
func (t *Table) Null(c *Column) string { return "(null::" + t.sql + ")." + c.sql }

// SQL is the column's quoted name.
func (c *Column) SQL() string { return c.sql }

// Equals is the operator that compares the column. That of an extension's type, such as
// citext, is named with its schema: the user's search_path may not find it, and then
// Postgres would compare as text, or fail.
func (c *Column) Equals() string {
	if c.Type.EqualityIn == "" {
		return "="
	}
	return "operator(" + pgx.Identifier{c.Type.EqualityIn}.Sanitize() + ".=)"
}
