package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"postern/policies"
	"postern/service/identity"
	"postern/service/policytest"
	"postern/service/upload"
)

type explainFlags struct {
	databaseFlags
	token, claims, sub, rows, policies string
}

func policyExplainCommand() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain FILE",
		Short: "Show what would become of an upload, rule by rule, and write nothing",
		Long: `Show what would become of an upload, rule by rule, and write nothing. FILE has a
request body of the write API, {"transactions": [{"crud": [...]}]}; - is the
standard input.

The transactions are made one after the other as their user, by the service's own
code, and rolled back: in the database of DATABASE_URL, or if it is not set, in a
throwaway Postgres with your schema. --rows gives rows that are there before.

A token is read, not verified.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &exit{2, errors.New("give one file with a request body, or -")}
			}
			return exitCode(explain(cmd, f, args[0]))
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.token, "token", "", "whose upload it is: a token")
	flags.StringVar(&f.claims, "claims", "", "or a token's claims, a JSON object")
	flags.StringVar(&f.sub, "sub", "", "or a user's id, which also replaces the claims' sub")
	flags.StringVar(&f.rows, "rows", "", "file of rows that are there before, spelled as in the policies' tests; needs the tables' owner")
	flags.StringVar(&f.policies, "policies", "", policiesUsage)
	return cmd
}

func explain(cmd *cobra.Command, f explainFlags, path string) error {
	who, err := f.identity()
	if err != nil {
		return err
	}
	batch, err := readBatch(cmd.InOrStdin(), path)
	if err != nil {
		return err
	}
	dir := f.policies
	if dir == "" {
		if dir, err = configuredPolicies(); err != nil {
			return err
		}
	}
	database := f.orConfigured()
	db, err := database.open(cmd.Context(), dir)
	if err != nil {
		return err
	}
	defer db.Close()
	live, set, err := program{cmd}.compile(dir, db.Snapshot())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	explanations, err := policytest.Explain(ctx, db, live, who, f.rows, batch.Transactions)
	if err != nil {
		return err
	}
	x := &explainer{out: cmd.OutOrStdout(), set: set, who: who}
	for i, e := range explanations {
		x.print(i, batch.Transactions[i], e)
	}
	return nil
}

// explainer prints what would become of transactions.
type explainer struct {
	out io.Writer
	set *policies.Set
	who identity.Identity
}

func (x *explainer) print(i int, t upload.Transaction, e policytest.Explanation) {
	entries := map[int][]policies.TraceEntry{} // by operation
	for _, entry := range e.Trace {
		entries[entry.Operation] = append(entries[entry.Operation], entry)
	}
	fmt.Fprintf(x.out, "transaction %d, as %s\n", i, x.who.Subject)
	policytest.Rules(x.out, entries[-1])
	for n, op := range t.Operations {
		fmt.Fprintf(x.out, "  operation %d: %s %s %s\n", n, op.Op, printable(op.Table, 60), printable(op.ID, 80))
		policytest.Rules(x.out, entries[n])
		x.others(op, entries[n], e.Rejection != nil)
	}
	policytest.Effects(x.out, e.Effects)
	switch r := e.Rejection; {
	case r != nil && r.ClientHandling:
		fmt.Fprintf(x.out, "  would be rejected: %s; the client keeps it until the app decides\n", policytest.Outcome(r))
	case r != nil:
		fmt.Fprintf(x.out, "  would be rejected: %s; the client drops it, and it is kept here\n", policytest.Outcome(r))
	case e.Failed != nil:
		fmt.Fprintf(x.out, "  the client would try again: %v\n", e.Failed)
	default:
		fmt.Fprintln(x.out, "  would be accepted")
	}
	fmt.Fprintln(x.out)
}

// others prints the rules of the table that were not evaluated for an operation.
func (x *explainer) others(op upload.Operation, entries []policies.TraceEntry, rejected bool) {
	table, _ := x.set.Decide(op)
	if table == nil {
		return
	}
	for _, rule := range table.Rules {
		if slices.ContainsFunc(entries, func(e policies.TraceEntry) bool { return e.Position == rule.Position() }) {
			continue
		}
		why := "an earlier step rejected the transaction, or the operation touched no row"
		if !rule.AppliesTo(op.Op) || rule.DependsOnRow(op.Op) && !rejected {
			why = "it is for " + strings.Join(rule.Words(), ", ")
		}
		fmt.Fprintf(x.out, "    rule %s was not evaluated: %s (%s)\n", rule.Name, why, rule.Position())
	}
}

func readBatch(in io.Reader, path string) (upload.Batch, error) {
	var (
		body []byte
		err  error
	)
	if path == "-" {
		body, err = io.ReadAll(in)
	} else {
		body, err = os.ReadFile(path)
	}
	if err != nil {
		return upload.Batch{}, err
	}
	batch, err := upload.DecodeBatch(body)
	if err != nil {
		return upload.Batch{}, fmt.Errorf("%s: %w", path, err)
	}
	return batch, nil
}

// identity is who the flags say.
func (f *explainFlags) identity() (who identity.Identity, err error) {
	raw := []byte("{}")
	switch {
	case f.token != "" && f.claims != "":
		return who, errors.New("give --token or --claims, not both")
	case f.token != "":
		parts := strings.Split(f.token, ".")
		if len(parts) != 3 {
			return who, errors.New("--token is no JWT")
		}
		if raw, err = base64.RawURLEncoding.DecodeString(parts[1]); err != nil {
			return who, errors.New("--token is no JWT")
		}
	case f.claims != "":
		raw = []byte(f.claims)
	}
	claims := map[string]jsontext.Value{}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return who, fmt.Errorf("the claims are no JSON object: %w", err)
	}
	if f.sub != "" {
		if claims["sub"], err = json.Marshal(f.sub); err != nil {
			return who, err
		}
	}
	if len(claims["sub"]) == 0 {
		return who, errors.New("whose upload is it? Give --token, --claims with a sub, or --sub")
	}
	if raw, err = json.Marshal(claims); err != nil {
		return who, err
	}
	return identity.OfClaims(raw, userRoles)
}
