package plan

import (
	"context"
	"slices"
	"time"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/upload"
)

// Planner plans the transactions of one user. It is not changed by planning.
type Planner struct {
	Set    *policies.Set
	Tables *catalog.Snapshot
	Who    identity.Identity
	Now    time.Time // the now of expressions, for the first operation of a transaction
}

// Order is a transaction's operations as SQL, in the order in which they are sent.
type Order []*Operation

// Statement is SQL with parameters in Postgres' text form; nil is NULL. Postgres
// infers each parameter's type from where it stands.
type Statement struct {
	SQL  string
	Args [][]byte
}

// Operation is one operation as SQL.
type Operation struct {
	Index   int // within the transaction as the client sent it
	Table   *catalog.Table
	Columns []*catalog.Column // those that the first arguments are for
	Checks  *Checks           // nil if no rule needs the stored row
	Statement

	who       *identity.Identity
	privilege string       // what the operation needs on its table
	named     bool         // see Named
	touches   bool         // it may change a row that is stored
	keys      int          // how many of Columns are the row's key
	rests     bool         // see RestsOnCatalogue
	resolves  []Resolution // what the conflict strategy may do
}

// Transaction plans a transaction. There is at least one order; a second one is
// for the case that Postgres rejects the first. A rejection says why the
// transaction cannot be applied as it stands. An error says that a rule could not
// be evaluated, or that ctx has ended.
func (p *Planner) Transaction(ctx context.Context, t upload.Transaction) ([]Order, *upload.Rejection, error) {
	if t.Unreadable != nil {
		rejection := t.Unreadable.Rejection
		return nil, &rejection, nil
	}
	shared := &policies.TransactionInput{Who: p.Who, Now: p.Now, Tx: t.Operations}
	if rejection, err := p.Set.Transaction(ctx, shared); rejection != nil || err != nil {
		return nil, rejection, err
	}
	writes := make([]*write, 0, len(t.Operations))
	for i := range t.Operations {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		w, rejection, err := p.draft(ctx, shared, i, &t.Operations[i])
		if rejection != nil || err != nil {
			return nil, rejection, err
		}
		writes = append(writes, w)
	}
	ordered, moved := inForeignKeyOrder(writes)
	texts := texts{}
	clientFirst := moved && p.cascades(writes)
	orders := []Order{p.order(ordered, texts)}
	if moved {
		orders = append(orders, p.order(writes, texts))
	}
	if clientFirst {
		slices.Reverse(orders)
	}
	return orders, nil, nil
}

// cascades reports whether deleting one of the rows may delete or change others.
// Then it matters what comes before the delete, and the client's order goes first.
func (p *Planner) cascades(writes []*write) bool {
	var referred map[uint32]bool // the tables whose rows others follow
	return slices.ContainsFunc(writes, func(w *write) bool {
		if w.sent.Op != upload.Delete {
			return false
		}
		if referred == nil {
			referred = map[uint32]bool{}
			for _, t := range p.Tables.Tables() {
				for _, k := range t.ForeignKeys {
					referred[k.References] = referred[k.References] || !k.Restricts
				}
			}
		}
		return referred[w.table.OID]
	})
}

// texts are the SQL texts of a transaction, each once: most of its operations have equal
// ones.
type texts map[string]string

func (t texts) once(sql string) string {
	if known, ok := t[sql]; ok {
		return known
	}
	t[sql] = sql
	return sql
}

// order makes the statements. A statement like the one before it is rendered once. The
// writes are dropped on the way, because they take much memory.
func (p *Planner) order(writes []*write, texts texts) Order {
	result := make(Order, 0, len(writes))
	var before *Operation
	var like *write // of the operation before
	for i, w := range writes {
		writes[i] = nil
		if w.changesNothing() && len(w.rules) == 0 && !w.policy.RejectMissing && !w.omits {
			continue
		}
		if like == nil || !w.alike(like) {
			before = p.operation(w, texts)
		} else {
			w.columns = like.columns // they are equal
			before = p.repeat(w, before)
		}
		like = w
		result = append(result, before)
	}
	return result
}
