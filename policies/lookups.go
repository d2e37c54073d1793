package policies

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"postern/service/catalog"
)

// MaxRows bounds the rows of one lookup of rows, for one value of each.
const MaxRows = 1000

// Lookup is a query whose first row a rule needs, or all its rows.
type Lookup struct {
	Name   string
	Shared bool // it is a let, whose row all rules of the table share
	Rows   bool // the rule needs all rows, which are at most MaxRows

	place      place
	mistaken   bool            // it is not prepared, because there is a mistake in it
	texts      []string        // around the parameters: one more than there are parameters
	parameters []Parameter     // in the order of the text, each as often as it is used
	named      map[string]bool // what the query names
	within     map[string]bool // what the views and functions name that it uses
}

// Parameter says where the value of a lookup's parameter comes from: a column of the
// row as it will be or as it was, the row's id, or the user.
type Parameter struct {
	From   string // new, old, auth, id or each
	Column string // of new and old; for auth it is sub or role

	table  *catalog.Table  // for new, old and each
	column *catalog.Column // for new, old and each
}

// SQL returns the query for the lookup's first row, as one JSON object, or for its rows:
// one more than MaxRows if there are too many. render returns the SQL of each parameter.
func (l *Lookup) SQL(render func(Parameter) string) string {
	limit := " limit 1"
	if l.Rows {
		limit = " limit " + strconv.Itoa(MaxRows+1)
	}
	return l.query("select to_jsonb(q.*) from (", render, limit)
}

// Reads reports whether the query may read a table: whether it names it, or uses a view or
// a function that does.
func (l *Lookup) Reads(table *catalog.Table) bool {
	return l.named[strings.ToLower(table.Name)] || l.ReadsWithin(table)
}

// ReadsWithin reports whether the query uses a view or a function that may read a table.
func (l *Lookup) ReadsWithin(table *catalog.Table) bool { return l.within[strings.ToLower(table.Name)] }

// ColumnsSQL returns a query that has the lookup's columns and no row.
func (l *Lookup) ColumnsSQL(render func(Parameter) string) string {
	return l.query("select q.* from (", render, " limit 0")
}

func (l *Lookup) query(before string, render func(Parameter) string, after string) string {
	var sql strings.Builder
	sql.WriteString(before + l.texts[0])
	for i, p := range l.parameters {
		sql.WriteString(render(p) + l.texts[i+1])
	}
	sql.WriteString("\n) as q" + after) // the query may end in a comment
	return sql.String()
}

// HasParameter reports whether the lookup has a parameter that matches.
func (l *Lookup) HasParameter(matches func(Parameter) bool) bool {
	return slices.ContainsFunc(l.parameters, matches)
}

// Typed gives a statement's parameter, such as $1, the type of the column.
// Otherwise Postgres would compare $new.qty > $new.price as texts. It does not write
// the type's name, which may mean another type on the role's search path. A
// parameter without a column gets the type that it is compared with.
func (p Parameter) Typed(parameter string) string {
	if p.column == nil {
		return parameter
	}
	return "coalesce(" + parameter + ", " + p.table.Null(p.column) + ")"
}

// ColumnOf returns the parameter's column of a row, such as t.
func (p Parameter) ColumnOf(row string) string { return row + "." + p.column.SQL() }

// The parts of SQL that matter here, each at the start of a text. See
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html.
var (
	parameter        = regexp.MustCompile(`^\$(?:(new|old|auth)\.([\pL_][\pL\pN_]*)|(id|each)\b)`)
	unknownParameter = regexp.MustCompile(`^\$[\pL\pN_.]+`)
	word             = regexp.MustCompile(`^[\pL_][\pL\pN_$]*`)
	quotedText       = regexp.MustCompile(`^(?:'(?:[^']|'')*'|"(?:[^"]|"")*"|[eE]'(?:[^'\\]|''|\\(?s:.))*')`)
	dollarQuote      = regexp.MustCompile(`^\$(?:[\pL_][\pL\pN_]*)?\$`)
	opening          = regexp.MustCompile(`^(?:'|"|/\*|\$(?:[\pL_][\pL\pN_]*)?\$)`)
	lineComment      = regexp.MustCompile(`^--[^\n]*`)
)

// lookupOf compiles a rule's lookup.
func (c *compiler) lookupOf(name string, r lookupRule, s scope, at place) *Lookup {
	if r.Rows == "" {
		return c.lookup(name, r.First, s, at)
	}
	at = at.in("rows")
	if s.table != nil {
		c.add(at.problem("rows is for rules under transaction: select what the rule needs in one row, such as count(*) as n"))
	}
	l := c.lookup(name, r.Rows, s, at)
	l.Rows = true
	return l
}

// lookup compiles a query. A parameter within quotes or a comment is text.
func (c *compiler) lookup(name, sql string, s scope, at place) *Lookup {
	l := &Lookup{Name: name, place: at}
	mistake := func(format string, args ...any) {
		l.mistaken = true
		c.add(at.problem(format, args...))
	}
	first, statements, start := "", 1, 0
	for i := 0; i < len(sql); {
		rest := sql[i:]
		if n := quotedLength(rest); n > 0 {
			i += n
			continue
		}
		if match := parameter.FindStringSubmatch(rest); match != nil {
			l.texts = append(l.texts, sql[start:i])
			p, ok := c.parameter(match[1]+match[3], match[2], s, at)
			l.parameters, l.mistaken = append(l.parameters, p), l.mistaken || !ok
			i += len(match[0])
			start = i
			continue
		}
		switch found := word.FindString(rest); {
		case found != "":
			if first == "" {
				first = strings.ToLower(found)
			}
			i += len(found)
		case opening.MatchString(rest):
			mistake("the quotation or comment that begins with %s has no end", opening.FindString(rest))
			i = len(sql)
		case unknownParameter.MatchString(rest):
			other := unknownParameter.FindString(rest)
			mistake("%s is not a parameter: write $new.column, $old.column, $id, $auth.sub or $auth.role", other)
			i += len(other)
		default:
			if rest[0] == ';' {
				statements++
			}
			i++
		}
	}
	l.texts = append(l.texts, sql[start:])
	l.named, l.within = c.snapshot.Named(strings.Join(l.texts, " "))
	if !slices.Contains([]string{"select", "with"}, first) || statements > 1 {
		mistake("a lookup must be one SELECT, without a semicolon")
	}
	return l
}

// parameter compiles a parameter and checks its column. ok is false if there is a mistake.
func (c *compiler) parameter(from, column string, s scope, at place) (p Parameter, ok bool) {
	p = Parameter{From: from, Column: column}
	switch from {
	case "new", "old", "id":
		switch {
		case s.table == nil:
			c.add(at.problem("$%s belongs to one operation: a lookup of a rule over whole transactions can use $each, $auth.sub and $auth.role", from))
			return p, false
		case from != "id":
			p.table, p.column = s.table, c.column(s.table, column, at)
			return p, p.column != nil
		}
	case "each":
		if len(s.each) == 0 {
			if !s.hasEach {
				c.add(at.problem("$each is for a rule under transaction that has each: {table: column}"))
			}
			return p, false
		}
		p.table, p.column = s.each[0].table, s.each[0].column
	case "auth":
		if column != "sub" && column != "role" {
			c.add(at.problem("$auth.%s is not a parameter: write $auth.sub or $auth.role", column))
			return p, false
		}
	}
	return p, true
}

// quotedLength returns the length of the quotation or comment that sql begins with.
// It is 0 if there is none, or if it has no end.
func quotedLength(sql string) int {
	if found := quotedText.FindString(sql); found != "" {
		return len(found)
	}
	if found := lineComment.FindString(sql); found != "" {
		return len(found)
	}
	if tag := dollarQuote.FindString(sql); tag != "" {
		if end := strings.Index(sql[len(tag):], tag); end >= 0 {
			return len(tag) + end + len(tag)
		}
	}
	if strings.HasPrefix(sql, "/*") { // these nest
		for i, depth := 0, 0; i+1 < len(sql); i++ {
			switch sql[i : i+2] {
			case "/*":
				depth++
				i++
			case "*/":
				depth--
				i++
			}
			if depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}
