package policies

import (
	"slices"

	"postern/service/catalog"
	"postern/service/upload"
)

// The keys of messages that are not names of constraints.
const (
	OwnerMessage     = "owner"
	ImmutableMessage = "immutable"
)

// Words are the policy's own for a rejection by a constraint of the table, by owner or by
// immutable; nil if it has none.
func (t *Table) Words(key string) *upload.Words { return t.messages[key] }

// messages compiles the policy's own words for what rejects writes.
func (c *compiler) messages(t *Table, list map[string]messageRule, table *catalog.Table, at place) {
	known := constraintNames(table)
	if t.Owner != "" {
		known = append(known, OwnerMessage)
	}
	if len(t.Immutable) > 0 {
		known = append(known, ImmutableMessage)
	}
	for _, key := range sortedKeys(list) {
		at, m := at.in(key), list[key]
		switch {
		case slices.Contains(known, key):
		case key == OwnerMessage, key == ImmutableMessage:
			c.add(at.problem("the table has no %s: add it, or remove this message", key))
		default:
			c.add(at.problem("%s has no constraint or unique index %q%s", table, key, didYouMean(key, known)))
		}
		if m.Code != "" && !codeForm.MatchString(m.Code) {
			c.add(at.in("code").problem("%q is not an error code: write one like TITLE_TAKEN", m.Code))
		}
		if m.Message == "" {
			c.add(at.problem("message is missing: write the sentence that the app's user reads"))
		}
		if t.messages == nil {
			t.messages = map[string]*upload.Words{}
		}
		t.messages[key] = &upload.Words{Code: upload.Code(m.Code), Message: m.Message, ClientHandling: m.Client}
	}
}

func constraintNames(table *catalog.Table) []string {
	names := sortedKeys(table.Constrained)
	for _, key := range table.ForeignKeys {
		names = append(names, key.Name)
	}
	return names
}
