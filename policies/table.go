package policies

import (
	"fmt"
	"slices"

	"postern/service/catalog"
	"postern/service/upload"
)

// Table is the policy of one table.
type Table struct {
	Schema, Name  string            // where it lives in Postgres
	Columns       map[string]string // client column: database column, where they differ
	IgnoreUnknown bool              // columns that the table does not have are left out
	RejectMissing bool              // a PATCH of a row that does not exist is rejected, not ignored
	ID            []string          // the database columns that a client's id is made of; empty is the primary key
	Separator     string            // between the parts of such an id
	Put           PutMode
	SoftDelete    string                      // the database column that a DELETE sets; empty deletes the row
	Epoch         map[string]catalog.TimeUnit // database columns whose numbers are times since 1970
	Owner         string                      // the column that holds the user's sub; empty where there is none
	Assignments   []Assignment
	Immutable     []string // columns that keep their first value
	Writable      []string // the only columns that clients may send; nil is all
	Conflict      Conflict
	History       *History // nil where none is kept
	Rules         []*Rule
	Rate          *Rate

	allow  []upload.Op
	client []upload.Code // codes that are the client's to decide
	named  []string      // the columns that must be there
	place  place
}

// PutMode says what a PUT does to a row that exists.
type PutMode string

// The three modes.
const (
	Merge   PutMode = "merge"   // sets the columns that were sent
	Replace PutMode = "replace" // sets those, and all others to their defaults
	Insert  PutMode = "insert"  // is rejected as a UNIQUE_VIOLATION
)

// Column is the database's name of a client's column. One that has another name
// to clients has no second one: rules over transactions look at the client's
// names, and would not see it. What is returned then is no column.
func (t *Table) Column(client string) string {
	if name, ok := t.Columns[client]; ok {
		return name
	}
	for name, column := range t.Columns {
		if column == client {
			return client + " (" + name + " to clients)"
		}
	}
	return client
}

// Fits checks that a table still has the columns that the policy names: it may
// have changed since the policy was compiled, in a way that keeps the policies
// from being compiled again.
func (t *Table) Fits(table *catalog.Table) error {
	for _, column := range t.named {
		if table.Column(column) == nil {
			return &Failed{t.place.position(), fmt.Errorf("%s has no column %q any more", table, column)}
		}
	}
	return nil
}

// Key are the columns that a client's id is made of.
func (t *Table) Key(table *catalog.Table) []string {
	if len(t.ID) > 0 {
		return t.ID
	}
	return table.PrimaryKey
}

// Plain reports whether all operations alike on the table are made alike: nothing
// depends on who makes them or on previous values, and nothing is kept of them.
func (t *Table) Plain() bool {
	return t.Owner == "" && len(t.Immutable) == 0 && t.Conflict.Strategy == NoStrategy && t.History == nil
}

// Evaluates reports whether any expression looks at the table's operations.
func (t *Table) Evaluates() bool { return len(t.Rules)+len(t.Assignments) > 0 }

// Directed reports whether a rejection with this code is the client's to decide
// about.
func (t *Table) Directed(code upload.Code) bool { return slices.Contains(t.client, code) }
