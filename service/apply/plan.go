package apply

import (
	"context"
	"slices"
	"time"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/upload"
)

// plan is a transaction as SQL.
type plan []statement

// plans are the orders in which a transaction may go: that of its foreign keys
// and, where it is another one, the client's own. The second is for where the first
// is rejected.
type plans []plan

// statement is one operation as SQL.
type statement struct {
	sql       string
	args      [][]byte // text or nil, each read by Postgres as its column's type
	operation int      // index within the transaction, as the client sent it
	table     *catalog.Table
	columns   []*catalog.Column // of the first args; the rest are ours
	verify    *verification     // nil where no rule needs the stored row
	of        *write
}

// planner turns the transactions of a user into plans.
type planner struct {
	set    *policies.Set
	tables *catalog.Snapshot
	who    identity.Identity
	now    time.Time
}

// plan decides all that can be decided without the database. A rejection says
// why the transaction can never be applied as it stands; an error, that a rule
// of the policies failed.
func (p *planner) plan(ctx context.Context, t upload.Transaction) (plans, *upload.Rejection, error) {
	shared := &policies.TransactionInput{Who: p.who, Now: p.now, Tx: t.Operations}
	if rejection, err := p.set.Transaction(ctx, shared); rejection != nil || err != nil {
		return nil, rejection, err
	}
	writes := make([]write, 0, len(t.Operations))
	for i, op := range t.Operations {
		w := write{operation: i, sent: op, who: p.who, in: policies.Input{Operation: i, Op: op.Op, ID: op.ID, Metadata: op.Metadata, TransactionInput: shared}}
		rejection, err := w.build(ctx, p.set, p.tables)
		if rejection != nil {
			rejection.Operation = i
			rejection.ClientHandling = rejection.ClientHandling || w.policy != nil && w.policy.ClientHandling(rejection.Code)
		}
		if rejection != nil || err != nil {
			return nil, rejection, err
		}
		writes = append(writes, w)
	}
	ordered, moved := inForeignKeyOrder(writes)
	result := plans{p.statements(ordered)}
	if moved {
		result = append(result, p.statements(writes))
		if p.cascades(writes) {
			slices.Reverse(result)
		}
	}
	return result, nil, nil
}

// cascades reports whether a deleted row may take others with it, or change them:
// then what comes before it and what after makes a difference.
func (p *planner) cascades(writes []write) bool {
	return slices.ContainsFunc(writes, func(w write) bool {
		return w.sent.Op == upload.Delete && slices.ContainsFunc(p.tables.Tables(), func(t *catalog.Table) bool {
			return slices.ContainsFunc(t.ForeignKeys, func(k catalog.ForeignKey) bool { return k.References == w.table.OID && !k.Restricts })
		})
	})
}

func (p *planner) statements(writes []write) plan {
	result := make(plan, 0, len(writes))
	var (
		before *write
		last   statement
	)
	for i := range writes {
		w := &writes[i]
		if w.sent.Op == upload.Patch && w.empty() && len(w.rules) == 0 && !w.policy.RejectMissing {
			continue // nothing changes
		}
		if before != nil && w.alike(before) {
			last = w.again(last)
		} else {
			last = w.statement(p.tables)
		}
		last.of = w
		before, result = w, append(result, last)
	}
	return result
}
