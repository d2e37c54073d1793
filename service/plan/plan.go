package plan

import (
	"context"
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
	Room   *int      // the weight of the operations that are still kept, see Portion; nil if all are
	Shapes *Shapes   // for Set and Tables; nil if nothing is remembered from one transaction to the next
}

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
	Sets    *Sets             // nil if nothing that the policy sets needs the stored row or a lookup
	Statement

	who       *identity.Identity
	privilege string       // what the operation needs on its table
	named     bool         // see Named
	touches   bool         // it may change a row that is stored
	counts    counts       // see Touched
	keys      int          // how many of Columns are the row's key
	resolves  []Resolution // what the conflict strategy may do
}

// Transaction plans a transaction. There is at least one order; a second one is
// for the case that Postgres rejects the first. checks are nil if no rule over the
// whole transaction needs them. A rejection says why the transaction cannot be
// applied as it stands. An error says that a rule could not be evaluated, or that ctx
// has ended.
func (p *Planner) Transaction(ctx context.Context, t upload.Transaction) (orders []*Order, checks *TransactionChecks, rejection *upload.Rejection, err error) {
	if t.Unreadable != nil {
		rejection := t.Unreadable.Rejection
		return nil, nil, &rejection, nil
	}
	shared := &policies.TransactionInput{Who: p.Who, Now: p.Now, Tx: t.Operations}
	if rejection, err := p.Set.Transaction(ctx, shared); rejection != nil || err != nil {
		return nil, nil, rejection, err
	}
	drafts, whole := p.newDrafts(t, *shared), p.newWholeDrafts(ctx, shared)
	for i := range t.Operations {
		if err := ctx.Err(); err != nil {
			return nil, nil, nil, err
		}
		w, rejection, err := p.draft(ctx, shared, i, &t.Operations[i])
		if rejection != nil || err != nil {
			return nil, nil, rejection, err
		}
		whole.add(w)
		drafts.add(w)
	}
	if checks, err = whole.finish(); err != nil {
		return nil, nil, nil, err
	}
	return drafts.orders(), checks, nil, nil
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

// statements makes the operations of writes. The writes are dropped on the way, because they
// take much memory.
func (p *Planner) statements(writes []*write, texts texts) []*Operation {
	result := make([]*Operation, 0, len(writes))
	var like *shape
	for i, w := range writes {
		writes[i] = nil
		if w.isLeftOut() {
			continue
		}
		if !like.fits(w) {
			like = p.shape(w, texts)
		}
		if like == nil {
			result = append(result, p.operation(w, texts))
		} else {
			result = append(result, like.operation(w, texts))
		}
	}
	return result
}
