package policies

import (
	"slices"

	"postern/service/catalog"
	"postern/service/upload"
)

// Bypasses lists what a policy says of one verb and a client can get around with
// another one, with file, line, column and what to write instead. A PUT of a row that
// exists changes it, as a PATCH does; a DELETE with a PUT after it changes it, too.
// Rules on create and update need no warning: they hold for both verbs.
// Rules over whole transactions and in Go are not looked at.
func (s *Set) Bypasses(snapshot *catalog.Snapshot) (warnings []error) {
	for _, name := range sortedKeys(s.tables) {
		policy := s.tables[name]
		table := snapshot.Table(policy.Schema, policy.Name)
		if table == nil || !policy.Named || policy.mistaken {
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

func (b *bypasses) allows(op upload.Op) bool { return b.allow.appliesTo(op) }

// putChanges reports whether a PUT may change a row that exists.
func (b *bypasses) putChanges() bool {
	return b.allow&putStored != 0 && slices.ContainsFunc(columnNames(b.table), b.sendable(putStored))
}

// sendable returns whether the client decides what a PUT or PATCH sets a column of an
// existing row to.
func (b *bypasses) sendable(by actions) func(column string) bool {
	return func(name string) bool {
		c := b.table.Column(name)
		return c != nil && !c.Generated && !c.Identity && name != b.Owner && name != b.SoftDelete &&
			!slices.Contains(b.Key(b.table), name) && !slices.Contains(b.Immutable, name) && (b.Writable == nil || slices.Contains(b.Writable, name)) &&
			!slices.ContainsFunc(b.Assignments, func(a Assignment) bool { return a.Column == name && !a.isDefault && a.on&by != 0 })
	}
}

// permission warns of a table that a PUT may update, and a PATCH may not.
func (b *bypasses) permission() {
	if !b.allows(upload.Patch) && b.putChanges() {
		b.warn(b.place.in("allow"), "patch is not allowed, but a PUT of a row that exists changes it, too: write create in the place of put, or allow: [create, update]")
	}
}

func (b *bypasses) rule(r *Rule) {
	at := r.place.in("on")
	if r.on&updates == patchStored && b.putChanges() {
		b.warn(at, "a PUT of a row that exists changes it without this rule: write update in the place of patch")
	}
	if r.on&updates == putStored && b.allows(upload.Patch) {
		if column := b.sentIn(r); column != "" {
			b.warn(at, "a PATCH can set %s without this rule: write on: [create, update], or on: [create] if it is for new rows alone", column)
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
	if at := slices.IndexFunc(columns, b.sendable(patchStored)); at >= 0 {
		return columns[at]
	}
	return ""
}

func (b *bypasses) assignment(a *Assignment) {
	switch by := a.on & updates; {
	case a.isDefault:
	case by == putStored && b.allows(upload.Patch) && b.sendable(patchStored)(a.Column):
		b.warn(a.place, "a PATCH can set %s to another value: write on: [create, update], or on: [create] if it is for new rows alone", a.Column)
	case by == patchStored && b.allows(upload.Put) && b.sendable(putStored)(a.Column):
		b.warn(a.place, "a PUT can set %s to another value: write update in the place of patch", a.Column)
	}
}
