package policies

import (
	"fmt"
	"slices"
	"strings"

	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// Table is the policy of one table. It is part of a Set and must not be changed.
type Table struct {
	Schema, Name  string            // of the table in Postgres
	Columns       map[string]string // client column: database column, for columns whose names differ
	Named         bool              // the policy names the table; "*" does not
	IgnoreUnknown bool              // columns that the table does not have are ignored, not rejected
	RejectMissing bool              // a PATCH of a row that does not exist is rejected, not ignored
	ID            []string          // the database columns that a client's id consists of; empty means the primary key
	Separator     string            // between the parts of such an id
	Put           PutMode
	SoftDelete    string                    // the database column that a DELETE sets; empty if a DELETE deletes the row
	Epoch         map[string]value.TimeUnit // database columns whose numbers are times since 1970
	Owner         string                    // the column that holds the user's sub; empty if there is none
	Assignments   []Assignment
	Immutable     []string // columns that keep their first value
	Writable      []string // the only columns that clients may send; nil means all
	Conflict      Conflict
	History       *History // nil if no history is kept
	Rules         []*Rule
	Rate          *Rate // nil if there is none
	Bare          bool  // it forbids and sets nothing; see WithoutRules

	data     bool            // expressions look at what the client sent
	new      map[string]bool // the columns of the new row that they look at
	newWhole bool            // they look at the new row itself, and so at any column
	allow    actions
	messages map[string]*upload.Words
	client   []upload.Code // codes of rejections that are left to the app
	required []string      // database columns that the policy needs
	place    place
	mistaken bool // there is a mistake besides those in rules and lets; see Set.leaveOut
}

// PutMode says what a PUT does if the row exists.
type PutMode string

// The three modes.
const (
	Merge   PutMode = "merge"   // sets the columns that were sent
	Replace PutMode = "replace" // sets the columns that were sent, and all others to their defaults
	Insert  PutMode = "insert"  // is rejected as a UNIQUE_VIOLATION
)

// Column returns the database's name of a client's column. ok is false if clients
// know the column by another name: rules over transactions look at the clients'
// names, so a second name would bypass them. ClientName returns the right one.
// Column does not check that the table has the column; see Find.
func (t *Table) Column(client string) (name string, ok bool) {
	if name, ok := t.Columns[client]; ok {
		return name, true
	}
	for _, column := range t.Columns {
		if column == client {
			return "", false
		}
	}
	return client, true
}

// Find returns a client's column; nil if the table does not have it, or if clients know
// it by another name.
func (t *Table) Find(table *catalog.Table, client string) *catalog.Column {
	name, ok := t.Column(client)
	if !ok {
		return nil
	}
	return table.Column(name)
}

// ClientName returns the name by which clients know a database column.
func (t *Table) ClientName(column string) string {
	for _, client := range sortedKeys(t.Columns) {
		if t.Columns[client] == column {
			return client
		}
	}
	return column
}

// CheckColumns checks that a table exists and has the columns that the policy names. It
// may have lost one since the policies were compiled, because a set stays in force if
// compiling it again fails.
func (t *Table) CheckColumns(table *catalog.Table) error {
	if table == nil {
		return &RuleError{Rule: t.place.position(), Err: fmt.Errorf("the database no longer has table %s.%s: restore it, or change the policy", t.Schema, t.Name), External: true}
	}
	for _, column := range t.required {
		if table.Column(column) == nil {
			return &RuleError{Rule: t.place.position(), Err: fmt.Errorf("%s no longer has column %q: restore it, or change the policy", table, column), External: true}
		}
	}
	return nil
}

// Key returns the columns that a client's id consists of.
func (t *Table) Key(table *catalog.Table) []string {
	if len(t.ID) > 0 {
		return t.ID
	}
	return table.PrimaryKey
}

// Plain reports whether an operation's statement depends only on its kind and the
// columns that were sent. It is false if the policy has an owner, immutable columns,
// a conflict strategy or a history.
func (t *Table) Plain() bool {
	return t.Owner == "" && len(t.Immutable) == 0 && t.Conflict.Strategy == NoStrategy && t.History == nil
}

// HasExpressions reports whether the policy has rules or assignments.
func (t *Table) HasExpressions() bool { return len(t.Rules)+len(t.Assignments) > 0 }

// SetsByRows reports whether what the policy sets may need the stored row or a lookup.
func (t *Table) SetsByRows() bool {
	return slices.ContainsFunc(t.Assignments, func(a Assignment) bool { return a.NeedsStored(func(string) bool { return false }) })
}

// LooksAtData reports whether an expression looks at what the client sent.
func (t *Table) LooksAtData() bool { return t.data }

// LooksAtNew reports whether an expression looks at a column of the new row.
func (t *Table) LooksAtNew(column string) bool { return t.newWhole || t.new[column] }

// findNeeds finds what the expressions look at.
func (t *Table) findNeeds() {
	var expressions []*expression
	for _, r := range t.Rules {
		expressions = append(expressions, r.expressions...)
	}
	for i := range t.Assignments {
		of := t.Assignments[i].expressions()
		expressions = append(expressions, of...)
		t.data = t.data || slices.ContainsFunc(of, func(e *expression) bool { return e.needs.new != nil }) // as it is sent
	}
	t.new = map[string]bool{}
	for _, e := range expressions {
		if e == nil { // it has a mistake
			continue
		}
		t.data, t.newWhole = t.data || e.needs.data, t.newWhole || e.needs.newWhole
		for _, column := range e.needs.new {
			t.new[column] = true
		}
	}
}

// ClientHandling reports whether rejections with this code are left to the app
// (requires_client_handling).
func (t *Table) ClientHandling(code upload.Code) bool { return slices.Contains(t.client, code) }

// Updates reports whether a PUT may only change a row that exists.
func (t *Table) Updates() bool { return t.allow&puts == putStored }

// named returns the policy for a table of schema public; t is the policy of "*".
func (t *Table) named(name string) *Table {
	table := *t
	table.Name = name
	return &table
}

// withoutRules returns where the table's rows and columns are, without what the
// policy forbids or sets.
func (t *Table) withoutRules() *Table {
	return &Table{
		Schema: t.Schema, Name: t.Name, Named: t.Named, Columns: t.Columns, ID: t.ID, Separator: t.Separator,
		Put: t.Put, SoftDelete: t.SoftDelete, Epoch: t.Epoch, IgnoreUnknown: t.IgnoreUnknown, Bare: true,
		allow: allActions, place: t.place,
	}
}

// allowed lists the operations that the policy allows: "PUT and PATCH".
func (t *Table) allowed() string {
	ops := t.allow.operations()
	words := make([]string, len(ops))
	for i, op := range ops {
		words[i] = string(op)
	}
	if last := len(words) - 1; last > 0 {
		return strings.Join(words[:last], ", ") + " and " + words[last]
	}
	return strings.Join(words, "")
}
