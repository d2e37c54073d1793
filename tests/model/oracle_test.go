package model_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/local"
	"postern/tests/rig"
)

// outcome is what became of a transaction.
type outcome struct {
	status string
	code   string
	index  int // of the operation; -1 where none is named
}

func (o outcome) String() string { return fmt.Sprintf("%s %s %d", o.status, o.code, o.index) }

var success = outcome{"success", "", -1}

func fatal(code string, index int) outcome { return outcome{"fatal_error", code, index} }

func observed(r rig.Result) outcome {
	o := outcome{r.Status, "", -1}
	if r.FailedOperation != nil {
		o.code = r.FailedOperation.ErrorCode
		if r.FailedOperation.OperationIndex != nil {
			o.index = *r.FailedOperation.OperationIndex
		}
	}
	return o
}

// codes are what the SQLSTATEs mean that random schemas lead to; two characters
// stand for a class. Where there is none, the client is to come again.
var codes = map[string]string{
	"23502": "NOT_NULL_VIOLATION", "23503": "FOREIGN_KEY_VIOLATION", "23001": "CONSTRAINT_VIOLATION", "23505": "UNIQUE_VIOLATION", "23514": "CHECK_VIOLATION",
	"22": "INVALID_DATA", "42501": "UNAUTHORIZED", "P0001": "REJECTED_BY_DATABASE",
}

func codeOf(pg *pgconn.PgError, index int) outcome {
	if pg.Routine == "aclcheck_error" { // a grant that the policies count on is missing
		return outcome{"retryable_error", "", -1}
	}
	for _, state := range []string{pg.Code, pg.Code[:2]} {
		if code := codes[state]; code != "" {
			return fatal(code, index)
		}
	}
	return outcome{"retryable_error", "", -1}
}

// maxSteps bounds the statements of one search.
const maxSteps = 5_000

var errTooLong = errors.New("too many orders to try")

// model is the naive server: a connection that executes one statement after the
// other. It runs a request inside one database transaction of its own, in which
// savepoints stand for the client's transactions. Where a transaction fails in
// the client's order, it looks for another one that explains what Postern says.
type model struct {
	ctx      context.Context
	schema   *schema
	conn     *pgx.Conn
	answered map[string]outcome // by user and body, of the transactions with an id

	reordered int // how many transactions went another way than the client's

	// Of the request under way.
	request request
	answers []outcome
	rows    string // as Postern left them
	steps   int
	failed  int    // how far it got
	problem string // there
}

// explain applies a request and reports whether it can come to the answers and
// the rows that Postern came to; if it can, the model's database has them.
func (m *model) explain(q request, answers []outcome, rows string) error {
	m.request, m.answers, m.rows, m.steps, m.failed, m.problem = q, answers, rows, 0, -1, ""
	m.must("begin")
	ok, err := m.transaction(0)
	switch {
	case err != nil:
		m.must("rollback")
		return err
	case !ok:
		m.must("rollback")
		return errors.New(m.problem)
	}
	m.must("commit")
	return nil
}

// transaction searches from the i-th transaction on. It leaves the database with
// its effects where it reports true, else as it was.
func (m *model) transaction(i int) (bool, error) {
	if i == len(m.request.transactions) {
		if rows := m.dump(); rows != m.rows {
			return m.differ(i, "the rows are different\nmodel:\n%s\nPostern:\n%s", rows, m.rows)
		}
		return true, nil
	}
	t, got := m.request.transactions[i], m.answers[i]
	if known, ok := m.answered[m.request.user+t.body]; ok && t.id != 0 {
		if got != known {
			return m.differ(i, "it was answered with %s before", known)
		}
		return m.transaction(i + 1)
	}
	if twin := slices.Index(m.request.transactions, t); twin < i && t.id != 0 {
		return m.settle(i, m.answers[twin])
	}
	for j := range t.ops {
		if code := t.ops[j].refused(); code != "" {
			return m.settle(i, fatal(code, j))
		}
	}
	savepoint := fmt.Sprintf("before_%d", i)
	m.must("savepoint " + savepoint)
	m.become()
	ops := t.effective()
	end := m.inOrder(t, ops)
	if end != success {
		m.must("rollback to " + savepoint)
	}
	ok, err := m.settle(i, end)
	if ok || err != nil {
		return ok, err
	}
	m.must("rollback to " + savepoint)
	// Where the client's order will do, no other is right; and a failure leaves
	// nothing, however it came about.
	if end == success || end == got {
		return false, nil
	}
	m.become()
	found, err := nothing, error(nil)
	if got.index >= 0 {
		found, err = m.search(i, got.index, t.firstRowOf(got.index, ops), nil)
	}
	if found == nothing && err == nil {
		found, err = m.search(i, -1, ops, nil)
	}
	if found == everything {
		m.reordered++
		return true, nil
	}
	m.must("rollback to " + savepoint)
	if found == sameFailure {
		m.reordered++
		return m.settle(i, got)
	}
	return false, err
}

// inOrder runs a transaction as the client sent it.
func (m *model) inOrder(t *transaction, ops []int) outcome {
	for _, j := range ops {
		if end := m.execute(&t.ops[j], j); end != success {
			return end
		}
	}
	return m.finish(t, ops)
}

// settle holds an end against Postern's, and goes on with the next transaction
// where it is the same.
func (m *model) settle(i int, end outcome) (bool, error) {
	if end != m.answers[i] {
		return m.differ(i, "the model's answer is %s", end)
	}
	if end == success {
		m.must("set local role none")
	}
	if end.status == "retryable_error" {
		for k := i + 1; k < len(m.answers); k++ {
			known, ok := m.answered[m.request.user+m.request.transactions[k].body]
			if got := m.answers[k]; got.status != "not_attempted" && !(ok && got == known) {
				return m.differ(i, "the rest must not be attempted")
			}
		}
		return m.transaction(len(m.request.transactions))
	}
	return m.transaction(i + 1)
}

// found is what a search comes to.
type found int

const (
	nothing     found = iota
	sameFailure       // the transaction fails as it did in Postern
	everything        // it goes through, and so do those after it
)

// search tries the operations in every order that keeps those of each row in
// the client's, until one comes to the end that Postern came to. None goes on
// after the operation stop, -1 for none.
func (m *model) search(i, stop int, left, done []int) (found, error) {
	t, got := m.request.transactions[i], m.answers[i]
	if len(left) == 0 {
		end := m.finish(t, done)
		switch {
		case end != got:
			return nothing, nil
		case end != success:
			return sameFailure, nil
		}
		if ok, err := m.settle(i, end); !ok {
			return nothing, err
		}
		return everything, nil
	}
	tried := map[string]bool{}
	for at, j := range left {
		op := &t.ops[j]
		if tried[op.row()] {
			continue
		}
		tried[op.row()] = true
		if m.steps > maxSteps {
			return nothing, errTooLong
		}
		savepoint := fmt.Sprintf("op_%d", len(done))
		m.must("savepoint " + savepoint)
		end := m.execute(op, j)
		if end == success && j != stop {
			if found, err := m.search(i, stop, slices.Delete(slices.Clone(left), at, at+1), append(slices.Clone(done), j)); found != nothing || err != nil {
				return found, err
			}
		}
		if end != success && end == got {
			return sameFailure, nil
		}
		m.must("rollback to " + savepoint)
	}
	return nothing, nil
}

// firstRowOf puts the row first that Postern says has failed, as a search from
// there is short.
func (t *transaction) firstRowOf(index int, ops []int) []int {
	if index < 0 {
		return ops
	}
	row := t.ops[index].row()
	ops = slices.Clone(ops)
	slices.SortStableFunc(ops, func(a, b int) int {
		switch inA, inB := t.ops[a].row() == row, t.ops[b].row() == row; {
		case inA == inB:
			return 0
		case inA:
			return -1
		}
		return 1
	})
	return ops
}

// differ remembers the problem that came up furthest in the request.
func (m *model) differ(i int, format string, args ...any) (bool, error) {
	if i > m.failed {
		m.failed, m.problem = i, fmt.Sprintf("transaction %d: ", i)+fmt.Sprintf(format, args...)
	}
	return false, nil
}

// become takes the user's role and claims, and defers what can be deferred.
func (m *model) become() {
	claims := fmt.Sprintf(`{"sub":%q,"role":"authenticated"}`, local.UserID(m.request.user))
	m.must("select set_config('request.jwt.claims', " + literal(claims) + ", true)")
	m.must("set local role authenticated")
	m.must("set constraints all deferred")
}

// execute runs the operation at an index.
func (m *model) execute(o *operation, index int) outcome {
	for _, sent := range o.written() {
		if k := sent.column.kind; slices.Contains(k.unfit, sent.value) {
			// Postgres reads the values, each as its type, before there is a row to
			// put them in.
			bare, _, _ := strings.Cut(k.sql, "(")
			if _, pg := m.exec("select " + sent.value.literal() + "::" + bare); pg != nil {
				return codeOf(pg, index)
			}
		}
	}
	touched, pg := m.exec(o.sql())
	switch {
	case pg != nil:
		return codeOf(pg, index)
	case touched > 0:
		return success
	}
	if code := m.conflict(o); code != "" {
		return fatal(code, index)
	}
	if o.verb == "PUT" {
		if end := m.untouched(o, index); end != success || !o.table.updates {
			return end
		}
	}
	m.must("set local role none")
	found, _ := m.exec("select from " + o.table.name + o.where())
	m.must("set local role authenticated")
	switch {
	case found > 0 && o.table.secured:
		return fatal("UNAUTHORIZED", index)
	case found == 0 && (o.table.strict && o.verb == "PATCH" || o.verb == "PUT"):
		return fatal("ROW_NOT_FOUND", index)
	}
	return success
}

// untouched is the outcome of a PUT that wrote nothing: because the row is deleted, or
// because of a trigger.
func (m *model) untouched(o *operation, index int) outcome {
	if o.table.soft == "" {
		return success
	}
	deleted := "select from " + o.table.name + o.ofKey() + " and " + quote(o.table.soft)
	m.must("set local role none")
	found, _ := m.exec(deleted)
	m.must("set local role authenticated")
	if found == 0 {
		return success
	}
	if found, _ := m.exec(deleted + " for update"); found == 0 {
		return fatal("UNAUTHORIZED", index)
	}
	return fatal("ROW_DELETED", index)
}

var blamed = regexp.MustCompile(`^(?:insert or update|update or delete) on table "((?:[^"]|"[^ ])+)" violates`)

// finish checks what was deferred. Only where a single operation wrote the table
// that the error blames, that one is named.
func (m *model) finish(t *transaction, ops []int) outcome {
	m.must("savepoint finish")
	_, pg := m.exec("set constraints all immediate")
	if pg == nil {
		return success
	}
	m.must("rollback to finish")
	name := pg.TableName
	if match := blamed.FindStringSubmatch(pg.Message); match != nil {
		name = match[1]
	}
	suspect := -1
	for _, j := range ops {
		switch {
		case t.ops[j].table.client != name:
		case suspect >= 0:
			return codeOf(pg, -1)
		default:
			suspect = j
		}
	}
	return codeOf(pg, suspect)
}

// effective are the operations that write something, or ask for a row.
func (t *transaction) effective() (ops []int) {
	for j := range t.ops {
		if t.ops[j].verb != "PATCH" || len(t.ops[j].written()) > 0 || t.ops[j].table.strict {
			ops = append(ops, j)
		}
	}
	return ops
}

func (o *operation) sql() string {
	t, members := o.table, o.written()
	switch {
	case o.verb == "PATCH" && len(members) == 0:
		return "select from " + t.name + o.where() + " for update"
	case o.verb == "PATCH":
		var sets []string
		for _, m := range members {
			sets = append(sets, quote(m.column.name)+" = "+o.merged(m, m.typed()))
		}
		return "update " + t.name + " set " + strings.Join(sets, ", ") + o.where() + o.guard(" and ")
	case o.verb == "DELETE" && t.soft != "":
		return "update " + t.name + " set " + quote(t.soft) + " = true" + o.where() + o.guard(" and ")
	case o.verb == "DELETE":
		return "delete from " + t.name + o.where() + o.guard(" and ")
	}
	if t.updates {
		return "update " + t.name + " set " + strings.Join(o.sets(members, member.typed), ", ") + o.where() + o.guard(" and ")
	}
	var keys, columns, values []string
	for i, c := range t.key {
		keys, columns, values = append(keys, quote(c.name)), append(columns, quote(c.name)), append(values, o.key[i].literal())
	}
	for _, m := range members {
		columns, values = append(columns, quote(m.column.name)), append(values, m.value.literal())
	}
	sql := "insert into " + t.name + " (" + strings.Join(columns, ", ") + ")"
	if t.key[0].identity {
		sql += " overriding system value"
	}
	sql += " values (" + strings.Join(values, ", ") + ")"
	if t.put == "insert" {
		return sql
	}
	sql += " on conflict (" + strings.Join(keys, ", ") + ") do update set " + strings.Join(o.sets(members, member.excluded), ", ")
	if t.soft != "" {
		return sql + " where " + t.name + "." + quote(t.soft) + " is not true" + o.guard(" and ")
	}
	return sql + o.guard(" where ")
}

// sets are the assignments by which a PUT changes a row that exists.
func (o *operation) sets(members []member, value func(member) string) (sets []string) {
	t, sent := o.table, map[string]bool{}
	for _, m := range members {
		sent[m.column.name] = true
		sets = append(sets, quote(m.column.name)+" = "+o.merged(m, value(m)))
	}
	for _, c := range t.columns {
		if t.put == "replace" && c.name != t.soft && !sent[c.name] && !c.generated {
			sets = append(sets, quote(c.name)+" = default")
		}
	}
	if len(sets) == 0 { // the row counts as updated all the same
		name := quote(t.columns[0].name)
		sets = []string{name + " = " + t.name + "." + name}
	}
	return sets
}

func (m member) excluded() string { return "excluded." + quote(m.column.name) }

// where finds the row, unless a soft delete has deleted it.
func (o *operation) where() string {
	if o.table.soft != "" {
		return o.ofKey() + " and " + quote(o.table.soft) + " is not true"
	}
	return o.ofKey()
}

func (o *operation) ofKey() string {
	var conditions []string
	for i, c := range o.table.key {
		conditions = append(conditions, quote(c.name)+" = "+o.key[i].literal())
	}
	return " where " + strings.Join(conditions, " and ")
}

// exec runs SQL that Postgres may refuse; then the transaction is to be rolled
// back to a savepoint.
func (m *model) exec(sql string) (touched int64, refused *pgconn.PgError) {
	m.steps++
	tag, err := m.conn.Exec(m.ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if errors.As(err, &refused) {
		return 0, refused
	}
	if err != nil {
		panic(fmt.Errorf("%s: %w", sql, err))
	}
	return tag.RowsAffected(), nil
}

func (m *model) must(sql string) {
	if _, err := m.conn.Exec(m.ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		panic(fmt.Errorf("%s: %w", sql, err))
	}
}

// dump is every row there is.
func (m *model) dump() (rows string) {
	if err := m.conn.QueryRow(m.ctx, m.schema.dumpSQL()).Scan(&rows); err != nil {
		panic(err)
	}
	return rows
}

func (s *schema) dumpSQL() string {
	selects := []string{`select 'counts ' || row_to_json(x)::text from counts x`}
	for _, t := range s.tables {
		selects = append(selects, "select "+literal(t.client+" ")+" || row_to_json(x)::text from "+t.name+" x")
	}
	return `select coalesce(string_agg(line, E'\n' order by line collate "C"), '') from (` + strings.Join(selects, " union all ") + ") as lines (line)"
}

// remember keeps the answers that stand for good.
func (m *model) remember(rejected map[string]rejection) {
	for i, t := range m.request.transactions {
		key, got := m.request.user+t.body, m.answers[i]
		if got.status != "success" && got.status != "fatal_error" || t.id == 0 {
			continue
		}
		if got.status == "fatal_error" {
			rejected[key] = rejection{t.id, local.UserID(m.request.user), got.code, got.index}
		}
		if got != success || len(t.effective()) > 0 {
			m.answered[key] = got
		}
	}
}

// rejection is a row of postern.rejected_writes.
type rejection struct {
	id      int
	subject string
	code    string
	index   int
}

func lines(rejected map[string]rejection) []string {
	var out []string
	for r := range maps.Values(rejected) {
		out = append(out, fmt.Sprintf("%d %s %s %d", r.id, r.subject, r.code, r.index))
	}
	return out
}
