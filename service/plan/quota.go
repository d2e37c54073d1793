package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/value"
)

// A lookup that reads the table that is written may count its rows. A row that another
// request is about to write is not visible yet, so requests that may count each other's
// rows wait for each other. Those that count the rows of different users or teams need
// not: a quota takes the lock of what it counts for alone, and that of the whole lookup
// together with all who do so. A quota that does not say what it counts for, as one that
// joins the members of a team or counts within a function, takes the lock of the whole
// lookup alone.

// quota is what a lookup may count.
type quota struct {
	lookup string // the key of the whole lookup
	part   string // the key of what it counts for, such as a team; empty if that is not known
}

// newQuota is false if the lookup does not read the table that is written.
func newQuota(w *write, l *policies.Lookup) (q quota, ok bool) {
	if !l.Reads(w.table) {
		return quota{}, false
	}
	var parameters []policies.Parameter
	sql := l.SQL(func(p policies.Parameter) string {
		parameters = append(parameters, p)
		return marker(len(parameters) - 1)
	})
	q.lookup = fmt.Sprintf("postern %d %s", w.table.OID, markers.ReplaceAllString(sql, "$"))
	if part := partOf(w, sql, parameters); part != nil && !l.ReadsWithin(w.table) {
		q.part = q.lookup + " " + string(value.TextArray(part))
	}
	return q, true
}

// partOf says whose rows the lookup counts: the user's, if the query compares a column
// with the user's sub, or else those that have the same values in columns as the row that
// is written. It is nil if it is neither, or a value is not known, or the query is more
// than a SELECT from the table with conditions that must all hold.
func partOf(w *write, sql string, parameters []policies.Parameter) (part []string) {
	_, sql, _ = strings.Cut(sql, "from (") // what Lookup.SQL puts around the query
	if end := strings.LastIndex(sql, "\n)"); end >= 0 {
		sql = sql[:end]
	}
	sql = literal.ReplaceAllString(sql, "?")
	for nested.MatchString(sql) {
		if slices.ContainsFunc(nested.FindAllString(sql, -1), func(s string) bool { return selects.MatchString(s) && names(s, w.table) }) {
			return nil // it may count other rows than the query around it
		}
		sql = nested.ReplaceAllString(sql, "?")
	}
	query := ofOneTable.FindStringSubmatch(sql)
	if query == nil || !strings.EqualFold(query[1], w.table.Name) || alternative.MatchString(sql) {
		return nil
	}
	for _, condition := range and.Split(query[2], -1) {
		match := compared.FindStringSubmatch(condition)
		if match == nil {
			continue
		}
		at, _ := strconv.Atoi(match[2])
		switch p := parameters[at]; {
		case p.From == "auth" && p.Column == "sub":
			return []string{"user", w.who.Subject}
		case p.From == "new" && strings.EqualFold(p.Column, match[1]):
			part = append(part, p.Column)
		}
	}
	for i, column := range part {
		known, ok := canonical(w, column)
		if !ok {
			return nil
		}
		part[i] = column + " " + known
	}
	return part
}

// canonical is the one text for a value that the row will have, if it is known and its
// type has one.
func canonical(w *write, name string) (text string, ok bool) {
	column := w.table.Column(name)
	at := w.indexOf(column)
	if at < 0 || w.values[at] == nil || w.dependsOnStored(name) || w.mayBeTriggered() || !value.Kept(column, w.values[at]) {
		return "", false
	}
	text = string(w.values[at])
	switch column.Type.Name {
	case "text", "varchar":
		return text, true
	case "uuid":
		return strings.ToLower(uuidSigns.Replace(text)), true
	case "int2", "int4", "int8":
		n, err := strconv.ParseInt(text, 10, 64)
		return strconv.FormatInt(n, 10), err == nil
	}
	return "", false
}

// names reports whether SQL names a table.
func names(sql string, table *catalog.Table) bool {
	return slices.Contains(words.FindAllString(strings.ToLower(sql), -1), strings.ToLower(table.Name))
}

// marker stands for a parameter. No policy file can contain it.
func marker(n int) string { return "\x01" + strconv.Itoa(n) + "\x01" }

var (
	markers     = regexp.MustCompile(`\x01\d+\x01`)
	nested      = regexp.MustCompile(`\([^()]*\)`)
	selects     = regexp.MustCompile(`(?i)\bselect\b`)
	literal     = regexp.MustCompile(`'[^']*'`)
	ofOneTable  = regexp.MustCompile(`(?is)^\s*select\s.*?\sfrom\s+(?:[\w"]+\.)?"?(\w+)"?(?:\s+(?:as\s+)?\w+)?\s+where\s(.*)$`)
	and         = regexp.MustCompile(`(?i)\band\b`)
	compared    = regexp.MustCompile(`^\s*(?:\w+\.)?"?(\w+)"?\s*=\s*\x01(\d+)\x01(?:::[\w.]+)?\s*$`)
	alternative = regexp.MustCompile(`(?i)\b(or|union|except|intersect|between|case|join)\b|[\\$]|--|/\*`)
	words       = regexp.MustCompile(`[\pL_][\pL\pN_$]*`)
	uuidSigns   = strings.NewReplacer("-", "", "{", "", "}", "")
)
