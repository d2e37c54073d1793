package model_test

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"postern/service/local"
)

var users = []string{"alice", "alice", "alice", "bob"}

// owners are values for the columns that row-level security looks at.
var owners = &kind{sql: "uuid", fits: plain(local.UserID("alice"), local.UserID("bob")), wrong: []string{`"nobody"`}}

// request is one of a user's.
type request struct {
	user         string
	transactions []*transaction
}

type transaction struct {
	body string // JSON, which is also its identity
	id   int    // 0 where the client sends none
	ops  []operation
}

type operation struct {
	verb    string
	table   *table // nil is one that no policy names
	id      string
	key     []value
	members []member

	previous []member // what the client saw before
}

type member struct {
	name   string
	column *column // nil is one that the table does not have
	value  value
}

func (r request) body() string {
	var transactions []string
	for _, t := range r.transactions {
		transactions = append(transactions, t.body)
	}
	return fmt.Sprintf(`{"client_id":"device of %s","transactions":[%s]}`, r.user, strings.Join(transactions, ","))
}

// GoString is how rapid prints what it drew.
func (r request) GoString() string { return r.user + ": " + r.body() }

// drawRequest makes new transactions, and now and then sends one again that this
// user has sent before. One without an id takes effect again.
func drawRequest(r *rapid.T, s *schema, sent map[string][]*transaction, lastID *int) request {
	q := request{user: rapid.SampledFrom(users).Draw(r, "user")}
	for range rapid.IntRange(1, 8).Draw(r, "transactions") {
		if old := sent[q.user]; len(old) > 0 && oneIn(r, 10) {
			if again := one(r, old); !slices.Contains(q.transactions, again) || again.id != 0 {
				q.transactions = append(q.transactions, again)
				continue
			}
		}
		q.transactions = append(q.transactions, drawTransaction(r, s, lastID))
	}
	return q
}

func drawTransaction(r *rapid.T, s *schema, lastID *int) *transaction {
	t, f := &transaction{}, one(r, []flaw{none, none, none, none, none, unfit, none, wrong})
	var crud []string
	for range rapid.IntRange(0, 12).Draw(r, "operations") {
		op := drawOperation(r, s, f)
		t.ops, crud = append(t.ops, op), append(crud, op.json())
	}
	id := ""
	if !oneIn(r, 12) {
		*lastID++
		t.id = *lastID
		id = fmt.Sprintf(`"transaction_id":%d,`, t.id)
	}
	t.body = fmt.Sprintf(`{%s"crud":[%s]}`, id, strings.Join(crud, ","))
	return t
}

func drawOperation(r *rapid.T, s *schema, f flaw) operation {
	op := operation{verb: rapid.SampledFrom([]string{"PUT", "PUT", "PUT", "PATCH", "PATCH", "DELETE"}).Draw(r, "op"), table: one(r, s.tables)}
	var parts []string
	for _, c := range op.table.key {
		v := one(r, c.kind.fits)
		part := strings.Trim(v.sent, `"`)
		if f == wrong && oneIn(r, 24) {
			part, v = strings.Trim(c.kind.wrong[0], `"`), value{wrong: true}
			part = strings.ReplaceAll(part, `\u0000`, "\x00")
		}
		parts, op.key = append(parts, part), append(op.key, v)
	}
	if op.id = strings.Join(parts, separator); len(parts) > 1 && f == wrong && oneIn(r, 24) {
		op.id, op.key[0].wrong = parts[0], true
	}
	if op.verb != "DELETE" {
		op.drawMembers(r, f)
	}
	op.drawPrevious(r)
	if f == wrong && oneIn(r, 24) {
		op.table = nil
	}
	return op
}

func (o *operation) drawMembers(r *rapid.T, f flaw) {
	for _, c := range o.table.columns {
		must := o.verb == "PUT" && c.required && !(f == unfit && oneIn(r, 8))
		switch {
		case must, o.table.decides(c) && !oneIn(r, 12):
		case c.kind == owners && !oneIn(r, 6), !rapid.Bool().Draw(r, "sent"):
			continue
		}
		m := member{c.client, c, c.kind.draw(r, f)}
		if !c.required && (c.foreign && oneIn(r, 3) || o.verb == "PATCH" && oneIn(r, 4)) || f == unfit && oneIn(r, 12) {
			m.value = null
		}
		o.members = append(o.members, m)
	}
	if c := o.table.key[0]; oneIn(r, 12) {
		m := member{c.client, c, o.key[0]}
		if f == wrong && oneIn(r, 4) || m.value.wrong {
			m.value = c.kind.draw(r, f)
		}
		o.members = append(o.members, m)
	}
	if f == wrong && oneIn(r, 24) {
		o.members = append(o.members, member{"colour", nil, value{sent: `"red"`}})
	}
}

func (o *operation) json() string {
	name, data := "nothing", ""
	if o.table != nil {
		name = o.table.client
	}
	if o.verb != "DELETE" {
		var members []string
		for _, m := range o.members {
			members = append(members, encode(m.name)+":"+m.value.sent)
		}
		data = `,"op_data":{` + strings.Join(members, ",") + "}"
	}
	if len(o.previous) > 0 {
		var members []string
		for _, m := range o.previous {
			members = append(members, encode(m.name)+":"+m.value.sent)
		}
		data += `,"previous_values":{` + strings.Join(members, ",") + "}"
	}
	return fmt.Sprintf(`{"op":%q,"table":%s,"id":%s%s}`, o.verb, encode(name), encode(o.id), data)
}

// refused is the code of what is wrong with the operation for all to see, without
// a database; empty where nothing is.
func (o *operation) refused() string {
	switch {
	case o.table == nil, !slices.Contains(o.table.allowed, o.verb):
		return "UNAUTHORIZED"
	case slices.ContainsFunc(o.key, func(v value) bool { return v.wrong }):
		return "INVALID_DATA"
	}
	for _, m := range o.members {
		switch {
		case m.column == nil:
			return "SCHEMA_MISMATCH"
		case m.column.generated:
		case m.value.wrong, m.column == o.table.key[0] && m.value.text != o.key[0].text:
			return "INVALID_DATA"
		case m.column.name == o.table.soft && m.value.text == "t":
			return "UNAUTHORIZED"
		}
	}
	if o.lacks() {
		return "INVALID_DATA"
	}
	return ""
}

// row names the row that is written.
func (o *operation) row() string {
	name := o.table.name
	for _, v := range o.key {
		name += " " + v.literal()
	}
	return name
}

// written are the members that set something.
func (o *operation) written() (members []member) {
	for _, m := range o.members {
		if !m.column.generated && m.column != o.table.key[0] && m.column.name != o.table.soft {
			members = append(members, m)
		}
	}
	return members
}
