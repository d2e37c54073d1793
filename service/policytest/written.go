package policytest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/upload"
)

// Tried is a transaction that somebody has tried out.
type Tried struct {
	Who         identity.Identity
	Now         time.Time
	Transaction upload.Transaction
	Before      []jsontext.Value // for each operation the whole row as it was; nil or null if there was none
	Referenced  []Row            // those that foreign keys refer to
	Explanation Explanation
}

// Row is a stored row, by the clients' names of its table and id. Its values are JSON by
// the database's names of the columns.
type Row struct{ Table, ID, Values string }

// Test is the file of a test that expects what became of it: the rows that its
// operations met or refer to, and afterwards the columns that were sent or that the
// policies set. Rows that only lookups or functions read are not among them. JSON is also
// YAML.
func (t Tried) Test(set *policies.Set, tables *catalog.Snapshot) string {
	out := &strings.Builder{}
	out.WriteString("# It has the rows that the operations and their foreign keys meet. Add those that only lookups or functions read.\n")
	fmt.Fprintf(out, "now: %s\nusers:\n  user: %s\n", t.Now.UTC().Format(time.RFC3339Nano), t.user())
	given, expected := rowList{}, rowList{}
	give := func(op upload.Operation, row jsontext.Value) {
		policy, _ := set.WithoutRules().Decide(op)
		if policy == nil || !isRow(row) {
			return
		}
		table := tables.Table(policy.Schema, policy.Name)
		given.add(op, clientRow(policy, row, func(c string) bool {
			column := table.Column(c)
			return column != nil && !column.Generated && !slices.Contains(policy.Key(table), c)
		}))
	}
	for i, op := range t.Transaction.Operations {
		if i < len(t.Before) {
			give(op, t.Before[i])
		}
	}
	for _, r := range t.Referenced {
		give(upload.Operation{Op: upload.Put, Table: r.Table, ID: r.ID}, jsontext.Value(r.Values))
	}
	for _, effect := range t.Explanation.Effects {
		op := t.Transaction.Operations[effect.Operation]
		policy, _ := set.Decide(op)
		if policy == nil {
			continue
		}
		written := t.written(policy, effect.Operation)
		expected.replace(op, clientRow(policy, effect.After, func(c string) bool { return slices.Contains(written, c) }))
	}
	if len(given) > 0 {
		out.WriteString("rows:\n" + given.text("  "))
	}
	first := t.Transaction.Operations[0]
	fmt.Fprintf(out, "tests:\n  - name: %s\n    as: user\n    operations:\n", quoted(fmt.Sprintf("%s %s", first.Op, first.Table)))
	for _, op := range t.Transaction.Operations {
		fmt.Fprintf(out, "      - %s\n", spelled(op))
	}
	out.WriteString("    expect:\n")
	if r := t.Explanation.Rejection; r != nil {
		fmt.Fprintf(out, "      outcome: %s\n      operation: %d\n", r.Code, r.Operation)
		if r.Rule != "" {
			fmt.Fprintf(out, "      rule: %s\n", quoted(r.Rule))
		}
		return out.String()
	}
	fmt.Fprintf(out, "      outcome: %s\n", accepted)
	if len(expected) > 0 {
		out.WriteString("      rows:\n" + expected.text("        "))
	}
	return out.String()
}

// user is the identity as tests spell it.
func (t Tried) user() string {
	claims := map[string]jsontext.Value{}
	_ = json.Unmarshal(t.Who.Claims, &claims) // an identity's claims are an object
	delete(claims, "sub")
	delete(claims, "role")
	return marshalled(struct {
		Subject string                    `json:"sub"`
		Role    string                    `json:"role"`
		Claims  map[string]jsontext.Value `json:"claims,omitempty"`
	}{t.Who.Subject, t.Who.Role, claims})
}

// written are the columns that an operation sent, or that the policies set for it.
func (t Tried) written(policy *policies.Table, operation int) (columns []string) {
	for _, m := range t.Transaction.Operations[operation].Data {
		if name, ok := policy.Column(m.Name); ok {
			columns = append(columns, name)
		}
	}
	for _, entry := range t.Explanation.Trace {
		if entry.Operation == operation && entry.Result == policies.Assigned {
			columns = append(columns, entry.Rule)
		}
	}
	return columns
}

// clientRow is a row with the clients' names of the columns that are wanted; null if
// there is none.
func clientRow(policy *policies.Table, row jsontext.Value, wanted func(column string) bool) string {
	if !isRow(row) {
		return "null"
	}
	columns, named := map[string]jsontext.Value{}, map[string]jsontext.Value{}
	_ = json.Unmarshal(row, &columns) // Postgres made it
	for name, value := range columns {
		if wanted(name) {
			named[policy.ClientName(name)] = value
		}
	}
	return marshalled(named)
}

func isRow(v jsontext.Value) bool { return v.Kind() == '{' }

// spelled is an operation as the write API and tests spell it.
func spelled(op upload.Operation) string {
	members := func(list []upload.Member) map[string]jsontext.Value {
		values := map[string]jsontext.Value{}
		for _, m := range list {
			values[m.Name] = m.Value
		}
		return values
	}
	return marshalled(struct {
		Op       upload.Op                 `json:"op"`
		Table    string                    `json:"table"`
		ID       string                    `json:"id"`
		Data     map[string]jsontext.Value `json:"op_data,omitempty"`
		Previous map[string]jsontext.Value `json:"previous_values,omitempty"`
		Metadata string                    `json:"metadata,omitzero"`
	}{op.Op, op.Table, op.ID, members(op.Data), members(op.Previous), op.Metadata})
}

// rowList is rows as JSON, by table and id.
type rowList map[string]map[string]string

// add keeps a row unless it has one.
func (l rowList) add(op upload.Operation, row string) {
	if _, known := l[op.Table][op.ID]; !known {
		l.replace(op, row)
	}
}

func (l rowList) replace(op upload.Operation, row string) {
	if l[op.Table] == nil {
		l[op.Table] = map[string]string{}
	}
	l[op.Table][op.ID] = row
}

func (l rowList) text(indent string) string {
	out := &strings.Builder{}
	for _, table := range sortedKeys(l) {
		fmt.Fprintf(out, "%s%s:\n", indent, quoted(table))
		for _, id := range sortedKeys(l[table]) {
			fmt.Fprintf(out, "%s  %s: %s\n", indent, quoted(id), l[table][id])
		}
	}
	return out.String()
}

func quoted(text string) string { return marshalled(text) }

func marshalled(value any) string {
	text, _ := json.Marshal(value, json.Deterministic(true), jsontext.SpaceAfterColon(true), jsontext.SpaceAfterComma(true), jsontext.AllowInvalidUTF8(true))
	return string(text)
}
