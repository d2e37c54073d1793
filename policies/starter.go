package policies

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"postern/service/catalog"
)

// Schema is the JSON Schema of policy files. Editors complete the files by it.
//
//go:embed policy.schema.json
var Schema []byte

// SchemaFile is the name of the schema's file beside the policies.
const SchemaFile = "policy.schema.json"

// RowPolicy is a policy of row-level security, a row of pg_policies.
type RowPolicy struct {
	Schema, Table, Name string
	Command             string // ALL, SELECT, INSERT, UPDATE or DELETE
	Roles               []string
	Using, Check        string // empty if there is none
}

// Starter returns a policy file for the tables of a database. It opens the tables that
// a role may write to and that row-level security protects. The other tables are
// comments that say why they are closed. opened counts the open tables.
func Starter(tables []*catalog.Table, security []RowPolicy, defaults []ColumnDefault, role string) (yaml string, opened int) {
	var out strings.Builder
	out.WriteString("# yaml-language-server: $schema=" + SchemaFile + `
#
# A first version, from the database's tables, grants and row-level security. Review
# it: every user can write to the tables that are open here, as far as the database
# allows it. Tables that are not named are closed.
`)
	starters := make([]starter, len(tables))
	names := map[string]int{}
	for _, t := range tables {
		names[t.Name]++
	}
	for i, t := range tables {
		starters[i] = newStarter(t, security, role)
		starters[i].defaults = defaults
		if names[t.Name] > 1 || t.Name == "*" {
			starters[i].client = t.Schema + "_" + t.Name
		}
		if starters[i].closed == "" {
			opened++
		}
	}
	if opened == 0 {
		out.WriteString("tables: {}\n")
	} else {
		out.WriteString("tables:\n")
	}
	for _, s := range starters {
		out.WriteString(s.yaml())
	}
	return out.String(), opened
}

// starter is the policy of one table in a starter file.
type starter struct {
	table    *catalog.Table
	client   string
	allow    []string
	insert   bool   // a PUT of a row that exists cannot be merged
	closed   string // why the table is closed; empty if it is open
	remedy   string // the SQL that opens it
	security []RowPolicy
	defaults []ColumnDefault // of all tables
}

func newStarter(t *catalog.Table, security []RowPolicy, role string) starter {
	s := starter{table: t, client: t.Name}
	covers := func(command string) bool {
		return !t.RowSecurity || slices.ContainsFunc(s.security, func(p RowPolicy) bool { return p.Command == "ALL" || p.Command == command })
	}
	for _, p := range security {
		if p.Schema == t.Schema && p.Table == t.Name && (slices.Contains(p.Roles, role) || slices.Contains(p.Roles, "public")) {
			s.security = append(s.security, p)
		}
	}
	may := func(privilege string) bool {
		return slices.Contains(t.Grants[role], privilege) && covers(strings.ToUpper(privilege))
	}
	if may("insert") {
		s.allow = append(s.allow, "create")
	}
	if may("update") && may("select") {
		s.insert = may("insert") && !t.HasUniqueIndex(t.PrimaryKey)
		s.allow = append(s.allow, "update")
	}
	if may("delete") && may("select") {
		s.allow = append(s.allow, "delete")
	}
	switch {
	case len(t.PrimaryKey) == 0:
		s.closed = "it has no primary key. Create one, or name the columns that identify a row with the key id"
	case !slices.ContainsFunc(t.Grants[role], func(p string) bool { return p != "select" }):
		s.closed = role + " has no grants to write to it"
		s.remedy = fmt.Sprintf("grant select, insert, update, delete on %s to %s;", t.SQL(), role)
	case !t.RowSecurity:
		s.closed = "row-level security is off, so every user could write every row. Turn it on and create policies, or protect the rows here with the keys owner and rules"
		s.remedy = fmt.Sprintf("alter table %s enable row level security;", t.SQL())
	case len(s.allow) == 0:
		s.closed = fmt.Sprintf("row-level security is on and no policy allows %s to write to it", role)
	}
	return s
}

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// key writes a name as a YAML key or text.
func key(name string) string {
	if plainKey.MatchString(name) && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(name)) {
		return name
	}
	return strconv.Quote(name)
}

func (s *starter) yaml() string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add("  %s:", key(s.client))
	if s.table.Schema != "public" || s.client != s.table.Name {
		add("    table: %s", key(s.table.Schema+"."+s.table.Name))
	}
	allow := s.allow
	if len(allow) == 0 {
		allow = []string{"create", "update", "delete"}
	}
	add("    allow: [%s]", strings.Join(allow, ", "))
	if s.insert {
		add("    put: insert # a PUT of a row that exists is rejected, because no unique index tells whether it exists")
	}
	if len(s.table.PrimaryKey) > 1 {
		keys := make([]string, len(s.table.PrimaryKey))
		for i, name := range s.table.PrimaryKey {
			keys[i] = key(name)
		}
		add("    id: [%s] # the clients' id of a row: these columns, with a colon between them", strings.Join(keys, ", "))
	}
	lines = append(lines, s.suggestions()...)

	var out strings.Builder
	out.WriteString("\n")
	if s.closed != "" {
		for _, line := range wrap(fmt.Sprintf("%s is closed: %s.", s.table, strings.TrimSuffix(s.closed, ".")), 86) {
			out.WriteString("  # " + line + "\n")
		}
	}
	if s.remedy != "" {
		out.WriteString("  #     " + s.remedy + "\n")
	}
	for _, p := range s.security {
		out.WriteString("  # " + p.String() + "\n")
	}
	for _, line := range lines {
		if s.closed != "" {
			line = "  #" + strings.TrimPrefix(line, " ")
		}
		out.WriteString(line + "\n")
	}
	return out.String()
}

// String returns the policy in one line.
func (p RowPolicy) String() string {
	text := fmt.Sprintf("row-level security %q, %s", p.Name, strings.ToLower(p.Command))
	if p.Using != "" {
		text += ": using " + p.Using
	}
	if p.Check != "" {
		text += ", check " + p.Check
	}
	return strings.Join(strings.Fields(text), " ")
}

// wrap breaks a text into lines of at most some characters.
func wrap(text string, most int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > most {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}
