package policies

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"postern/service/catalog"
)

// ColumnDefault is a column's default, as pg_get_expr prints it.
type ColumnDefault struct{ Schema, Table, Column, Expression string }

// suggestions are keys for what the columns, their defaults and row-level security seem
// to mean. The owner is in force, because row-level security says the same. The others
// are comments, because they change what a write does.
func (s *starter) suggestions() (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf("    "+format, args...)) }
	if owner := s.owner(); owner != "" {
		add("owner: %s # set from the token; row-level security lets only this user change or delete the row", key(owner))
	}
	if c := s.column(s.isCreation); c != nil {
		add("# set: {%s: now} # later for each row than for the one before, which the default now() is not", key(c.Name))
		add("# immutable: [%s] # so it is set in new rows only", key(c.Name))
	}
	if c := s.column(named(holdsTime, "updatedat", "updatedon", "modifiedat", "lastmodified", "lastmodifiedat", "editedat")); c != nil {
		add("# conflict: {newest: %s} # the later of two edits wins; the device sends %s", key(c.Name), c.Name)
	}
	if c := s.column(named(isWhole, "version", "rev", "revision", "rowversion", "lockversion")); c != nil {
		add("# conflict: {version: %s} # an edit of an older version is rejected; the device sends %s", key(c.Name), c.Name)
	}
	isFlag := func(c *catalog.Column) bool { return c.Type.Name == "bool" }
	c := s.column(named(holdsTime, "deletedat", "deletedon", "removedat", "trashedat"))
	if c == nil {
		c = s.column(named(isFlag, "deleted", "isdeleted", "removed", "isremoved", "trashed"))
	}
	if c != nil {
		add("# soft_delete: %s # a DELETE sets it, and keeps the row", key(c.Name))
	}
	return lines
}

// column returns the table's first column that matches and that a policy can set.
func (s *starter) column(matches func(*catalog.Column) bool) *catalog.Column {
	for i := range s.table.Columns {
		c := &s.table.Columns[i]
		if !c.Generated && !c.Identity && !slices.Contains(s.table.PrimaryKey, c.Name) && matches(c) {
			return c
		}
	}
	return nil
}

// named matches columns of a type by their names, whether these are written deleted_at or
// deletedAt.
func named(fits func(*catalog.Column) bool, names ...string) func(*catalog.Column) bool {
	return func(c *catalog.Column) bool {
		return fits(c) && slices.Contains(names, strings.ToLower(strings.ReplaceAll(c.Name, "_", "")))
	}
}

func isWhole(c *catalog.Column) bool {
	return slices.Contains([]string{"int2", "int4", "int8"}, c.Type.Name)
}

var (
	presentTime = regexp.MustCompile(`(?i)^(now\(\)|current_timestamp|transaction_timestamp\(\)|clock_timestamp\(\)|statement_timestamp\(\)|\(?now\(\) at time zone .*)$`)
	changeTime  = regexp.MustCompile(`(?i)(updat|modif|edit|chang|sync)`)
)

// isCreation reports whether a column's default is the present time, and its name is not
// that of a change.
func (s *starter) isCreation(c *catalog.Column) bool {
	return holdsTime(c) && !changeTime.MatchString(c.Name) && slices.ContainsFunc(s.defaults, func(d ColumnDefault) bool {
		return d.Schema == s.table.Schema && d.Table == s.table.Name && d.Column == c.Name && presentTime.MatchString(d.Expression)
	})
}

// owner returns the column by which row-level security finds the user's own rows: in each
// policy for each operation that it allows. It is empty if there is none.
func (s *starter) owner() string {
	c := s.column(func(c *catalog.Column) bool {
		return holdsSubject(c) && s.ownedBy(c.Name)
	})
	if c == nil {
		return ""
	}
	return c.Name
}

func (s *starter) ownedBy(column string) bool {
	found := false
	for _, p := range s.security {
		for _, expression := range p.conditions() {
			if !isOwned(expression, column) {
				return false
			}
			found = true
		}
	}
	return found && s.table.RowSecurity
}

// conditions are those under which a policy lets users write.
func (p RowPolicy) conditions() []string {
	check := p.Check
	if check == "" {
		check = p.Using
	}
	switch p.Command {
	case "INSERT":
		return []string{check}
	case "UPDATE", "ALL":
		return []string{p.Using, check}
	case "DELETE":
		return []string{p.Using}
	}
	return nil
}

var unclear = regexp.MustCompile(`(?i)\b(or|not|from)\b`)

// isOwned reports whether a condition is true only if the column holds the user's id. It
// knows the ids of Supabase and Neon, as Postgres prints them. Of a condition with or,
// not or another table it does not know.
func isOwned(condition, column string) bool {
	const user = `\(*(?:select )?\(*auth\.(?:uid|user_id)\(\)\)*(?:::\w+)?(?: as \w+)?\)*(?:::\w+)?`
	name := `\(*"?` + regexp.QuoteMeta(column) + `"?\)*(?:::\w+)?`
	equal := regexp.MustCompile(`(?i)(?:` + user + ` = ` + name + `|(?:^|[( ])` + name + ` = ` + user + `)(?:$|[ )])`)
	text := strings.ReplaceAll(strings.Join(strings.Fields(condition), " "), "( ", "(")
	return equal.MatchString(text) && !unclear.MatchString(text)
}
