package plan

import (
	"context"
	"iter"
	"slices"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// A statement takes several times the memory of its operation. So the statements of a long
// request are not kept. Each transaction that has no room is planned once to find what
// rejects it and the order of its operations, and again while it is sent, portion by portion.

const (
	// Portion is the weight of the operations whose statements are in memory at once.
	Portion = 2000
	// Guarded is the weight of an operation on a table with rules or guards. Others have
	// a weight of 1.
	Guarded = 10
)

// Order is a transaction's operations as SQL, in the order in which they are sent.
type Order struct {
	Tables  []TableUse
	Checked bool // a rule needs the database
	Looks   bool // a rule, or what the policy sets, may have a lookup

	kept  []*Operation
	again *again // nil if the operations are kept
}

// TableUse is what an order does with a table.
type TableUse struct {
	Table      *catalog.Table
	Operations int
	Last       int // the index of the last one within the transaction as the client sent it

	// RestsOnCatalogue is whether an operation would do something else, without an error, if
	// the catalogue was outdated: a column that was generated would be left out, or a row that
	// row-level security hides would count as missing.
	RestsOnCatalogue bool

	deletes bool
}

// again is what planning a transaction's operations again needs.
type again struct {
	*Planner
	shared     policies.TransactionInput // before the first operation
	operations []upload.Operation
	sequence   []int32 // indexes of operations; nil if it is the client's
}

// IsKept reports whether the order keeps its operations, in one portion.
func (o *Order) IsKept() bool { return o.again == nil }

// Kept are the operations that the order keeps; none if it plans them again.
func (o *Order) Kept() []*Operation { return o.kept }

// Statements is how many statements the order keeps.
func (o *Order) Statements() (n int) {
	for _, operation := range o.kept {
		n += 1 + operation.Checks.Queries()
	}
	return n
}

// Portions returns the operations in portions, and plans them unless it keeps them. An
// error says that ctx has ended.
func (o *Order) Portions(ctx context.Context) iter.Seq2[[]*Operation, error] {
	return func(yield func([]*Operation, error) bool) {
		if o.again != nil {
			o.again.portions(ctx, yield)
		} else if len(o.kept) > 0 {
			yield(o.kept, nil)
		}
	}
}

// withoutStatements returns the operations for LocksOf. Those that are planned again have no
// statement, which takes most of the time of planning.
func (o *Order) withoutStatements(ctx context.Context) iter.Seq2[*Operation, error] {
	return func(yield func(*Operation, error) bool) {
		for _, operation := range o.kept {
			if !yield(operation, nil) {
				return
			}
		}
		if o.again == nil {
			return
		}
		shared, texts := o.again.shared, texts{}
		for at := range o.again.operations {
			w, err := o.again.write(ctx, &shared, at)
			if err != nil {
				yield(nil, err)
				return
			}
			if !w.isLeftOut() && !yield(o.again.withChecks(w, texts), nil) {
				return
			}
		}
	}
}

func (a *again) portions(ctx context.Context, yield func([]*Operation, error) bool) {
	shared := a.shared
	for at := 0; at < len(a.operations); {
		var writes []*write
		for weight := 0; weight < Portion && at < len(a.operations); at++ {
			w, err := a.write(ctx, &shared, at)
			if err != nil {
				yield(nil, err)
				return
			}
			writes = append(writes, w)
			weight += w.weight()
		}
		if operations := a.statements(writes, texts{}); len(operations) > 0 && !yield(operations, nil) {
			return
		}
	}
}

// write drafts the operation at a place of the sequence again. As planning is pure, nothing
// can reject it.
func (a *again) write(ctx context.Context, shared *policies.TransactionInput, at int) (*write, error) {
	if a.sequence != nil {
		at = int(a.sequence[at])
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w, rejection, err := a.draft(ctx, shared, at, &a.operations[at])
	if rejection != nil {
		return nil, rejection
	}
	return w, err
}

// weight is that of the write's operation, see Portion.
func (w *write) weight() int {
	if w.waits || len(w.rules) > 0 || !w.policy.Plain() {
		return Guarded
	}
	return 1
}

// drafts are the operations of a transaction while it is planned for the first time.
type drafts struct {
	*Planner
	again   *again
	writes  []*write // all of them, if they are kept
	weight  int      // of all writes
	tooMany bool     // they do not fit into the room
	outline *outline // nil if no foreign key asks for an order
	order   Order    // without its operations
}

func (p *Planner) newDrafts(t upload.Transaction, shared policies.TransactionInput) *drafts {
	return &drafts{
		Planner: p, again: &again{Planner: p, shared: shared, operations: t.Operations},
		writes: make([]*write, 0, min(len(t.Operations), Portion)), outline: p.newOutline(t.Operations),
	}
}

// add adds the write of the next operation.
func (d *drafts) add(w *write) {
	if d.outline != nil {
		d.outline.add(w)
	}
	if !w.isLeftOut() {
		d.order.count(w)
	}
	d.weight += w.weight()
	if d.tooMany = d.tooMany || d.Room != nil && d.weight > *d.Room; d.tooMany {
		d.writes = nil
		return
	}
	d.writes = append(d.writes, w)
}

// orders are the orders of all that was added.
func (d *drafts) orders() []*Order {
	if d.Room != nil && !d.tooMany {
		*d.Room -= d.weight
	}
	texts := texts{}
	sequence := d.outline.inForeignKeyOrder()
	if sequence == nil {
		return []*Order{d.inSequence(nil, texts)}
	}
	orders := []*Order{d.inSequence(sequence, texts), d.inSequence(nil, texts)}
	if d.cascades() {
		slices.Reverse(orders)
	}
	return orders
}

// inSequence is the order of a sequence of indexes; of the client's if it is nil.
func (d *drafts) inSequence(sequence []int32, texts texts) *Order {
	order := d.order
	if d.tooMany {
		again := *d.again
		again.sequence, order.again = sequence, &again
		return &order
	}
	writes := d.writes // which takes much memory, and the client's order comes last
	if sequence != nil {
		writes = make([]*write, len(sequence))
		for i, at := range sequence {
			writes[i] = d.writes[at]
		}
	}
	order.kept = d.statements(writes, texts)
	return &order
}

// cascades reports whether deleting one of the rows may delete or change others.
// Then it matters what comes before the delete, and the client's order goes first.
func (d *drafts) cascades() bool {
	referred := map[uint32]bool{} // the tables whose rows others follow
	for _, t := range d.Tables.Tables() {
		for _, k := range t.ForeignKeys {
			referred[k.References] = referred[k.References] || !k.Restricts
		}
	}
	return slices.ContainsFunc(d.order.Tables, func(u TableUse) bool { return u.deletes && referred[u.Table.OID] })
}

// count adds an operation to what the order does with its table.
func (o *Order) count(w *write) {
	at := slices.IndexFunc(o.Tables, func(u TableUse) bool { return u.Table == w.table })
	if at < 0 {
		at, o.Tables = len(o.Tables), append(o.Tables, TableUse{Table: w.table})
	}
	u := &o.Tables[at]
	u.Operations++
	u.Last = w.index
	u.RestsOnCatalogue = u.RestsOnCatalogue || w.restsOnCatalogue()
	u.deletes = u.deletes || w.sent.Op == upload.Delete
	o.Checked = o.Checked || w.waits || len(w.rules) > 0
	o.Looks = o.Looks || w.waits || slices.ContainsFunc(w.rules, func(r *policies.Rule) bool { return len(r.Lookups) > 0 })
}
