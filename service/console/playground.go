package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/apply"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/policytest"
	"postern/service/replay"
	"postern/service/upload"
)

const (
	maxTried      = 1 << 20 // bytes of a request: the operations, and the texts of policies
	maxOperations = 100     // whose rows are shown
)

func (c *Console) playground() view {
	routes := map[string]route{"GET playground": c.known, "POST playground/try": c.try}
	if c.Users != nil {
		routes["POST playground/apply"] = c.apply
	}
	return view{Name: "playground", Title: "Playground", routes: routes}
}

// writable is a table as clients know it.
type writable struct {
	Name    string           `json:"name"`
	Columns []writableColumn `json:"columns"` // without those of the id, and those that Postgres generates
}

type writableColumn struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Required bool   `json:"required"` // in a new row
}

// known is what the page completes, and the policies that can be edited.
func (c *Console) known(ctx context.Context, _ *http.Request) (any, error) {
	tables, set, err := c.inForce(ctx)
	if err != nil {
		return nil, err
	}
	body := struct {
		Users    bool            `json:"users"` // known by name, and writes can be applied
		Tables   []writable      `json:"tables"`
		Policies []policies.File `json:"policies"`
	}{Users: c.Users != nil, Tables: []writable{}, Policies: c.Applier.Policies.Files()}
	for _, table := range tables.Tables() {
		if name, policy := set.ClientTable(table); policy != nil {
			body.Tables = append(body.Tables, writable{name, columnsOf(table, policy)})
		}
	}
	return body, nil
}

func columnsOf(table *catalog.Table, policy *policies.Table) []writableColumn {
	columns, key := []writableColumn{}, policy.Key(table)
	for i := range table.Columns {
		if c := &table.Columns[i]; !c.Generated && !slices.Contains(key, c.Name) {
			columns = append(columns, writableColumn{policy.ClientName(c.Name), c.TypeName, c.NotNull && !c.HasDefault})
		}
	}
	return columns
}

// inForce are the tables and the policies as they are now.
func (c *Console) inForce(ctx context.Context) (*catalog.Snapshot, *policies.Set, error) {
	tables, err := c.Applier.Catalog.Current(ctx)
	if err != nil {
		return nil, nil, err
	}
	set, err := c.Applier.Policies.For(tables)
	if err != nil {
		return nil, nil, &problem{http.StatusServiceUnavailable, "The policies do not match the database. The log says where."}
	}
	return tables, set, nil
}

// trial is what the page sends: a user, by name or by claims, and a transaction.
type trial struct {
	User     string          `json:"user"`
	Claims   jsontext.Value  `json:"claims"`
	Crud     jsontext.Value  `json:"crud"`
	Policies []policies.File `json:"policies"` // those that were edited
}

func (c *Console) readTrial(r *http.Request) (t trial, who identity.Identity, batch upload.Batch, err error) {
	fail := func(format string, args ...any) (trial, identity.Identity, upload.Batch, error) {
		return t, who, batch, &problem{http.StatusBadRequest, fmt.Sprintf(format, args...)}
	}
	if err := json.UnmarshalRead(http.MaxBytesReader(nil, r.Body, maxTried), &t); err != nil {
		return fail("The transaction and the policies have at most %d bytes, as JSON.", maxTried)
	}
	if t.User != "" && c.Users != nil {
		if t.Claims, err = c.Users(t.User); err != nil {
			return fail("%v", err)
		}
	}
	if who, err = identity.OfClaims(t.Claims, c.Roles); err != nil {
		return fail("The user: %v.", err)
	}
	if batch, err = upload.DecodeBatch(slices.Concat([]byte(`{"transactions":[{"crud":`), t.Crud, []byte(`}]}`))); err != nil {
		return fail("The transaction: %v", err)
	}
	if unreadable := batch.Transactions[0].Unreadable; unreadable != nil {
		return fail("The transaction: %s", unreadable.Rejection.Message)
	}
	if n := len(batch.Transactions[0].Operations); n == 0 || n > maxOperations {
		return fail("Write 1 to %d operations; these are %d.", maxOperations, n)
	}
	return t, who, batch, nil
}

// tried is what would become of a transaction.
type tried struct {
	Rejection *refused         `json:"rejection,omitzero"` // nil if it would be accepted
	Client    bool             `json:"client_handling"`    // the app decides about the rejection
	Failed    string           `json:"failed,omitzero"`    // why the client would try again
	Before    []jsontext.Value `json:"before"`             // the row of each operation; null if there is none
	Rules     []ruleResult     `json:"rules"`
	Effects   []effect         `json:"effects"`
	SQL       []statement      `json:"sql"`
	Test      string           `json:"test"` // of the policies, which expects what became of it
}

type ruleResult struct {
	Operation int                 `json:"operation_index"` // -1 for the whole transaction
	Rule      string              `json:"rule"`
	At        string              `json:"at"`
	Result    policies.RuleResult `json:"result"`
	Detail    string              `json:"detail,omitzero"`
	Parts     []policies.Part     `json:"parts,omitempty"`
}

type statement struct {
	Operation int       `json:"operation_index"`
	SQL       string    `json:"sql"`
	Arguments []*string `json:"arguments"` // null is NULL
}

// try shows what would become of a transaction, under the policies as they were edited.
// Nothing is written.
func (c *Console) try(ctx context.Context, r *http.Request) (any, error) {
	t, who, batch, err := c.readTrial(r)
	if err != nil {
		return nil, err
	}
	tables, err := c.Applier.Catalog.Current(ctx)
	if err != nil {
		return nil, err
	}
	live, err := c.Applier.Policies.Edited(t.Policies...)
	if err != nil {
		return nil, &problem{http.StatusUnprocessableEntity, err.Error()}
	}
	set, err := live.For(tables)
	if err != nil {
		return nil, &problem{http.StatusUnprocessableEntity, err.Error()}
	}
	done := policytest.Tried{Who: who, Now: time.Now().Truncate(time.Microsecond), Transaction: batch.Transactions[0]}
	for _, op := range done.Transaction.Operations {
		now, err := replay.Compare(ctx, c.Applier.DB, set.WithoutRules(), tables, op, &who)
		if err != nil && !errors.Is(err, replay.ErrCannotRead) {
			return nil, err
		}
		done.Before = append(done.Before, now.Now)
	}
	db := &policytest.Database{Pool: c.Applier.DB, Catalog: c.Applier.Catalog}
	explained, err := policytest.Explain(ctx, db, live, who, "", batch.Transactions)
	if err != nil {
		return nil, err
	}
	done.Explanation = explained[0]
	if done.Referenced, err = c.referenced(ctx, set, tables, done); err != nil {
		return nil, err
	}
	return triedOf(done, set, tables), nil
}

func triedOf(done policytest.Tried, set *policies.Set, tables *catalog.Snapshot) tried {
	e := done.Explanation
	out := tried{Before: done.Before, Rules: []ruleResult{}, Effects: effectsOf(e.Effects), SQL: []statement{}}
	if e.Failed != nil {
		out.Failed = e.Failed.Error()
	} else {
		out.Test = done.Test(set, tables)
	}
	if r := e.Rejection; r != nil {
		out.Rejection, out.Client = &refused{r.Code, r.Message, r.Reason(), r.Rule, r.Operation}, r.ClientHandling
	}
	for _, entry := range e.Trace {
		out.Rules = append(out.Rules, ruleResult{entry.Operation, entry.Rule, entry.Position, entry.Result, entry.Detail, entry.Parts})
	}
	for _, did := range e.Effects {
		s := statement{Operation: did.Operation, SQL: did.Statement.SQL}
		for _, arg := range did.Statement.Args {
			s.Arguments = append(s.Arguments, textOf(arg))
		}
		out.SQL = append(out.SQL, s)
	}
	return out
}

func textOf(arg []byte) *string {
	if arg == nil {
		return nil
	}
	text := string(arg)
	return &text
}

// apply writes a transaction as its user, under the policies in force.
func (c *Console) apply(ctx context.Context, r *http.Request) (any, error) {
	t, who, batch, err := c.readTrial(r)
	if err != nil {
		return nil, err
	}
	if len(t.Policies) > 0 {
		return nil, &problem{http.StatusConflict, "The policies were edited and are not in force: save them in their files first, or undo the changes."}
	}
	return c.Applier.Apply(ctx, c.Logger, who, batch, nil)[0], nil
}

func effectsOf(effects []apply.Effect) []effect {
	out := make([]effect, 0, len(effects))
	for _, e := range effects {
		out = append(out, effect{e.Operation, e.Did, e.Before, e.After, e.Kept})
	}
	return out
}
