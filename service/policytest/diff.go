package policytest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/policies"
	"postern/service/identity"
	"postern/service/upload"
)

const (
	maxChanges  = 1000 // kinds of changes and reasons; others share one
	maxExamples = 3    // of each
)

// Sent is a transaction that a device has sent.
type Sent struct {
	Name        string // where it is stored, for the report
	Who         identity.Identity
	At          time.Time // the now of expressions
	Transaction upload.Transaction
}

// Diff is what would become of transactions under new policies instead of old ones. Its
// memory does not grow with their number.
type Diff struct {
	Tried   int            `json:"tried"`
	Changed int            `json:"changed"`
	Changes []*Change      `json:"changes"` // the most frequent first
	Untried map[string]int `json:"untried"` // by reason

	kinds    map[[2]Verdict]*Change
	db       *Database
	old, new *policies.Live
}

// Change is what happens to some of the transactions.
type Change struct {
	Count    int      `json:"count"`
	Old      Verdict  `json:"old"`
	New      Verdict  `json:"new"`
	Examples []string `json:"examples"`
}

// Verdict is what becomes of a transaction.
type Verdict struct {
	Outcome string `json:"outcome"` // accepted, a code, or retried
	Rule    string `json:"rule,omitzero"`
	Table   string `json:"table,omitzero"`  // the client's name
	Client  bool   `json:"client,omitzero"` // the app decides (requires_client_handling)
	Reason  string `json:"reason,omitzero"` // why the client would try again
}

// retried is the outcome of a transaction that its client would send again.
const retried = "retried"

// NewDiff compares policies on a database, in which nothing is changed.
func NewDiff(db *Database, old, new *policies.Live) *Diff {
	return &Diff{Changes: []*Change{}, Untried: map[string]int{}, kinds: map[[2]Verdict]*Change{}, db: db, old: old, new: new}
}

// Try makes a transaction under the old policies and under the new ones, each in a
// database transaction that is rolled back. An error means that the database cannot be
// used, or that ctx has ended.
func (d *Diff) Try(ctx context.Context, sent Sent) error {
	old, err := d.verdict(ctx, d.old, sent)
	if err != nil {
		return err
	}
	new, err := d.verdict(ctx, d.new, sent)
	if err != nil {
		return err
	}
	if old == new && old.Outcome == retried {
		d.Skip(old.Reason)
		return nil
	}
	d.Tried++
	if old != new {
		d.change(old, new, sent.Name)
	}
	return nil
}

// Skip counts a transaction that cannot be tried.
func (d *Diff) Skip(reason string) {
	if _, known := d.Untried[reason]; !known && len(d.Untried) >= maxChanges {
		reason = "other reasons"
	}
	d.Untried[reason]++
}

func (d *Diff) change(old, new Verdict, name string) {
	d.Changed++
	kind := [2]Verdict{old, new}
	if d.kinds[kind] == nil && len(d.kinds) >= maxChanges {
		kind = [2]Verdict{{Outcome: "others"}, {Outcome: "others"}}
	}
	c := d.kinds[kind]
	if c == nil {
		c = &Change{Old: kind[0], New: kind[1]}
		d.kinds[kind] = c
		d.Changes = append(d.Changes, c)
	}
	if c.Count++; len(c.Examples) < maxExamples {
		c.Examples = append(c.Examples, name)
	}
}

// position is that of a rule in its file.
var position = regexp.MustCompile(`^.*:\d+:\d+ ?`)

func (d *Diff) verdict(ctx context.Context, live *policies.Live, sent Sent) (Verdict, error) {
	session, err := d.db.begin(ctx, live)
	if err != nil {
		return Verdict{}, err
	}
	defer session.close(ctx)
	_, rejection, err := session.rehearse(ctx, sent.Who, sent.At, sent.Transaction)
	var (
		rule *policies.RuleError
		pg   *pgconn.PgError
	)
	switch {
	case rejection != nil:
		v := Verdict{Outcome: string(rejection.Code), Rule: rejection.Rule, Client: rejection.ClientHandling}
		if rejection.Operation >= 0 {
			v.Table = upload.Short(sent.Transaction.Operations[rejection.Operation].Table)
		}
		return v, nil
	case err == nil:
		return Verdict{Outcome: accepted}, nil
	case ctx.Err() != nil:
		return Verdict{}, ctx.Err()
	case errors.As(err, &pg):
		return Verdict{Outcome: retried, Reason: "SQLSTATE " + pg.Code}, nil
	case errors.As(err, &rule):
		return Verdict{Outcome: retried, Rule: position.ReplaceAllString(rule.Rule, ""), Reason: "the rule fails to evaluate"}, nil
	}
	return Verdict{}, err
}

// Sort puts the most frequent changes first.
func (d *Diff) Sort() {
	slices.SortStableFunc(d.Changes, func(a, b *Change) int {
		return cmp.Or(b.Count-a.Count, strings.Compare(fmt.Sprint(a.New, a.Old), fmt.Sprint(b.New, b.Old)))
	})
}

// Text prints the changes for people.
func (d *Diff) Text(out io.Writer) {
	for _, c := range d.Changes {
		fmt.Fprintf(out, "%d of %d would be %s; with the old policies: %s\n", c.Count, d.Tried, c.New, c.Old)
		fmt.Fprintf(out, "    such as %s\n", strings.Join(c.Examples, ", "))
	}
	for _, reason := range sortedKeys(d.Untried) {
		fmt.Fprintf(out, "%d could not be tried: %s\n", d.Untried[reason], reason)
	}
	fmt.Fprintf(out, "%d writes were tried, and %d of them would have another outcome\n", d.Tried, d.Changed)
}

// String is like "rejected by rule title-length of todos (TITLE_TOO_LONG)".
func (v Verdict) String() string {
	by := ""
	if v.Rule != "" {
		by = " by rule " + v.Rule
	}
	if v.Table != "" {
		by += " of " + v.Table
		if v.Rule == "" {
			by = " in " + v.Table
		}
	}
	switch {
	case v.Outcome == retried:
		return fmt.Sprintf("retried by the client%s: %s", strings.Replace(by, " by", " because of", 1), v.Reason)
	case v.Outcome == accepted, v.Outcome == "others":
		return v.Outcome
	case v.Client:
		return fmt.Sprintf("rejected%s (%s, left to the app)", by, v.Outcome)
	}
	return fmt.Sprintf("rejected%s (%s)", by, v.Outcome)
}
