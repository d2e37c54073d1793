package policies

import (
	"regexp"
	"slices"
	"strings"

	"postern/service/catalog"
)

// Lookup is a query that a rule needs the first row of.
type Lookup struct {
	Name string

	texts      []string    // around the parameters: one more than there are
	parameters []Parameter // each as often as it is used
}

// Parameter is where a lookup's parameter comes from: a column of the row as it
// will be, of the row as it was, or the user.
type Parameter struct {
	From   string // new, old, auth or id
	Column string // of new and old; for auth sub or role

	table  *catalog.Table  // of new and old
	column *catalog.Column // of new and old
}

// SQL is the query for the lookup's first row, as one JSON object, with what
// written makes of each parameter. It is the same when the lookup is checked and
// when it is run.
func (l *Lookup) SQL(written func(Parameter) string) string {
	var sql strings.Builder
	sql.WriteString("select to_jsonb(q.*) from (" + l.texts[0])
	for i, p := range l.parameters {
		sql.WriteString(written(p) + l.texts[i+1])
	}
	sql.WriteString("\n) as q limit 1") // on a line of its own, after a comment
	return sql.String()
}

// Asks reports whether one of the lookup's parameters is as wanted.
func (l *Lookup) Asks(wanted func(Parameter) bool) bool {
	return slices.ContainsFunc(l.parameters, wanted)
}

// Typed gives a statement's parameter, like $1, the type of the column, as which
// Postgres would not know it: left to itself it takes $new.qty > $new.price for a
// comparison of texts. It does so without the type's name, which may stand for
// another type, or none, on the role's search path. What has no column is of the
// type that it is compared with.
func (p Parameter) Typed(parameter string) string {
	if p.column == nil {
		return parameter
	}
	return "coalesce(" + parameter + ", " + p.table.Null(p.column) + ")"
}

// Of is the column of a row of the parameter's table.
func (p Parameter) Of(row string) string { return row + "." + p.column.SQL() }

// The parts of SQL that matter here, each at the start of what is left. See
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html.
var (
	parameter = regexp.MustCompile(`^\$(?:(new|old|auth)\.([\pL_][\pL\pN_]*)|(id)\b)`)
	// What looks like a parameter and is none.
	unknownParameter = regexp.MustCompile(`^\$[\pL\pN_.]+`)
	word             = regexp.MustCompile(`^[\pL_][\pL\pN_$]*`)
	quotedText       = regexp.MustCompile(`^(?:'(?:[^']|'')*'|"(?:[^"]|"")*"|[eE]'(?:[^'\\]|''|\\(?s:.))*')`)
	dollarQuote      = regexp.MustCompile(`^\$(?:[\pL_][\pL\pN_]*)?\$`)
	opening          = regexp.MustCompile(`^(?:'|"|/\*|\$(?:[\pL_][\pL\pN_]*)?\$)`)
	lineComment      = regexp.MustCompile(`^--[^\n]*`)
)

// lookup reads a query. What is quoted and what is a comment is left as it is.
func (c *compiler) lookup(name, sql string, table *catalog.Table, at place) *Lookup {
	l := &Lookup{Name: name}
	if table == nil {
		c.add(at.problem("rules over a whole transaction have no row to look up by"))
		return l
	}
	first, statements, start := "", 1, 0
	for i := 0; i < len(sql); {
		rest := sql[i:]
		if n := quotedLength(rest); n > 0 {
			i += n
			continue
		}
		if match := parameter.FindStringSubmatch(rest); match != nil {
			p := Parameter{From: match[1] + match[3], Column: match[2]}
			if p.From == "new" || p.From == "old" {
				p.table, p.column = table, table.Column(p.Column)
			}
			switch {
			case p.From == "auth" && p.Column != "sub" && p.Column != "role":
				c.add(at.problem("$auth has sub and role, and no %q", p.Column))
			case p.table != nil && p.column == nil:
				c.add(at.problem("%s has no column %q%s", table, p.Column, didYouMean(p.Column, columnNames(table))))
			}
			l.texts, l.parameters = append(l.texts, sql[start:i]), append(l.parameters, p)
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
			c.add(at.problem("what %s begins does not end", opening.FindString(rest)))
			i = len(sql)
		case unknownParameter.MatchString(rest):
			other := unknownParameter.FindString(rest)
			c.add(at.problem("%s is no parameter: write $new.column, $old.column, $id, $auth.sub or $auth.role", other))
			i += len(other)
		default:
			if rest[0] == ';' {
				statements++
			}
			i++
		}
	}
	l.texts = append(l.texts, sql[start:])
	if !slices.Contains([]string{"select", "with"}, first) || statements > 1 {
		c.add(at.problem("a lookup is one SELECT, without a semicolon"))
	}
	return l
}

// quotedLength is the length of the quoted text or the comment that sql begins
// with; 0 where it begins with none, or with one that does not end.
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
