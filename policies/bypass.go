package policies

import (
	"slices"

	"postern/service/catalog"
	"postern/service/upload"
)

// Bypasses lists what a policy says of one operation and a client can get around with
// another one, with file, line, column and what to write instead. A PUT of a row that
// exists changes it, as a PATCH does; a DELETE with a PUT after it changes it, too.
// Rules over whole transactions and in Go are not looked at.
func (s *Set) Bypasses(snapshot *catalog.Snapshot) (warnings []error) {
	for _, name := range sortedKeys(s.tables) {
		policy := s.tables[name]
		table := snapshot.Table(policy.Schema, policy.Name)
		if table == nil || !policy.Named {
			continue
		}
		b := &bypasses{Table: policy, table: table}
		b.permission()
		for _, rule := range policy.Rules {
			b.rule(rule)
		}
		for i := range policy.Assignments {
			b.assignment(&policy.Assignments[i])
		}
		warnings = append(warnings, b.warnings...)
	}
	return inOrder(warnings)
}

// bypasses are those of one table.
type bypasses struct {
	*Table
	table    *catalog.Table
	warnings []error
}

func (b *bypasses) warn(at place, format string, args ...any) {
	b.warnings = append(b.warnings, at.problem(format, args...))
}

func (b *bypasses) allows(op upload.Op) bool { return slices.Contains(b.allow, op) }

// putChanges reports whether a PUT may change a row that exists.
func (b *bypasses) putChanges() bool {
	return b.allows(upload.Put) && b.Put != Insert && slices.ContainsFunc(columnNames(b.table), b.sendable(upload.Put))
}

// sendable returns whether the client decides what an operation sets a column to.
func (b *bypasses) sendable(op upload.Op) func(column string) bool {
	return func(name string) bool {
		c := b.table.Column(name)
		return c != nil && !c.Generated && !c.Identity && name != b.Owner && name != b.SoftDelete &&
			!slices.Contains(b.Key(b.table), name) && !slices.Contains(b.Immutable, name) && (b.Writable == nil || slices.Contains(b.Writable, name)) &&
			!slices.ContainsFunc(b.Assignments, func(a Assignment) bool { return a.Column == name && !a.isDefault && slices.Contains(a.on, op) })
	}
}

// permission warns of a table that may be inserted into and not updated.
func (b *bypasses) permission() {
	if !b.allows(upload.Patch) && b.putChanges() {
		b.warn(b.place.in("allow"), "patch is not allowed, but a PUT of a row that exists changes it, too: write put: insert, or allow patch")
	}
}

func (b *bypasses) rule(r *Rule) {
	at := r.place.in("on")
	if r.AppliesTo(upload.Patch) && !r.AppliesTo(upload.Put) && b.putChanges() {
		b.warn(at, "a PUT of a row that exists changes it without this rule: write on: [put, patch] and begin the check with old == null ||, or write put: insert")
	}
	if r.AppliesTo(upload.Put) && !r.AppliesTo(upload.Patch) && b.allows(upload.Patch) {
		if column := b.sentIn(r); column != "" {
			b.warn(at, "a PATCH can set %s without this rule: write on: [put, patch], or add %s to immutable", column, column)
		}
	}
	if r.LooksAtOld() && !r.AppliesTo(upload.Delete) && r.AppliesTo(upload.Patch) && b.allows(upload.Delete) && b.allows(upload.Put) {
		b.warn(at, "a DELETE with a PUT of the same id after it changes the row without this rule: add delete to on, or remove it from allow")
	}
}

// sentIn returns a column that the rule looks at and a PATCH can set; empty if there is
// none.
func (b *bypasses) sentIn(r *Rule) string {
	_, columns := r.Columns(b.table)
	for _, e := range r.expressions {
		columns = append(columns, e.needs.sent...)
	}
	for _, l := range r.Lookups {
		for _, p := range l.parameters {
			if p.From == "new" {
				columns = append(columns, p.Column)
			}
		}
	}
	if at := slices.IndexFunc(columns, b.sendable(upload.Patch)); at >= 0 {
		return columns[at]
	}
	return ""
}

func (b *bypasses) assignment(a *Assignment) {
	put, patch := slices.Contains(a.on, upload.Put), slices.Contains(a.on, upload.Patch)
	switch {
	case a.isDefault:
	case put && !patch && b.allows(upload.Patch) && b.sendable(upload.Patch)(a.Column):
		b.warn(a.place, "a PATCH can set %s to another value: write on: [put, patch], or add %s to immutable", a.Column, a.Column)
	case patch && !put && b.allows(upload.Put) && b.sendable(upload.Put)(a.Column):
		b.warn(a.place, "a PUT can set %s to another value: write on: [put, patch]", a.Column)
	}
}
