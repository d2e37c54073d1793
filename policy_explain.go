package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"postern/policies"
	"postern/policies/policytest"
	"postern/service/apply"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/upload"
)

type explainFlags struct {
	token, claims, sub, given, policies string
	offline                             bool
}

func policyExplainCommand() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain FILE",
		Short: "Show what would become of an upload, rule by rule, and write nothing",
		Long: `Show what would become of an upload, rule by rule, and write nothing. FILE has a
request body of the write API, {"transactions": [{"crud": [...]}]}; - is the
standard input.

With DATABASE_URL, the service's, each transaction is made as its user and undone;
one that needs another one first fails. Without, or with --offline, it is decided by
catalog.json and the rows, defaults and lookups in the file of --given, spelled as in
the policies' tests.

A token is read, not verified.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &exit{2, errors.New("give one file with a request body, or -")}
			}
			return exitCode(explain(cmd, f, args[0]))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.token, "token", "", "whose upload it is: a token")
	flags.StringVar(&f.claims, "claims", "", "or a token's claims, a JSON object")
	flags.StringVar(&f.sub, "sub", "", "or a user's id, also in the place of the claims' sub")
	flags.StringVar(&f.given, "given", "", "file of rows, defaults and lookups, for --offline")
	flags.StringVar(&f.policies, "policies", "", policiesUsage)
	flags.BoolVar(&f.offline, "offline", false, "without a database, even where DATABASE_URL is set")
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
	t, err := openTables(cmd.Context(), dir, f.offline || f.given != "")
	if err != nil {
		return err
	}
	defer t.close()
	live, set, err := t.compile(dir)
	if err != nil {
		return err
	}
	x := &explainer{out: cmd.OutOrStdout(), set: set, who: who}
	x.decide, err = t.decider(live, set, who, f.given)
	if err != nil {
		return err
	}
	for i, transaction := range batch.Transactions {
		if err := x.explain(cmd.Context(), i, transaction); err != nil {
			return err
		}
	}
	return nil
}

// decider is how transactions are decided: in the database, and undone, or offline.
// Notes say what was left out of account.
func (t *tables) decider(live *policies.Live, set *policies.Set, who identity.Identity, given string) (decide, error) {
	if t.db != nil {
		logger := slog.New(slog.DiscardHandler)
		applier := apply.New(t.db, catalog.New(t.db, userRoles), live, ledger.New(t.db), apply.Stop)
		return func(ctx context.Context, transaction upload.Transaction) ([]string, error) {
			return nil, applier.Explain(ctx, logger, who, transaction)
		}, nil
	}
	offline := apply.NewOffline(set, t.Snapshot)
	if given == "" {
		offline.AssumeNothing()
	} else if err := policytest.Give(offline, set, given); err != nil {
		return nil, err
	}
	return func(ctx context.Context, transaction upload.Transaction) (notes []string, err error) {
		decision, err := offline.Decide(ctx, who, time.Now(), transaction)
		if decision == nil {
			return nil, err
		}
		if err == nil && decision.Rejection != nil {
			err = decision.Rejection
		}
		for _, effect := range decision.Effects {
			notes = append(notes, effect.String())
		}
		return append(append(notes, decision.Notes...), "row-level security, foreign keys, check constraints and triggers are not asked"), err
	}, nil
}

type decide func(ctx context.Context, transaction upload.Transaction) (notes []string, err error)

// explainer prints what becomes of transactions.
type explainer struct {
	out    io.Writer
	set    *policies.Set
	who    identity.Identity
	decide decide
}

func (x *explainer) explain(ctx context.Context, i int, t upload.Transaction) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	said := map[int][]policies.TraceEntry{}
	notes, err := x.decide(policies.WithTrace(ctx, func(s policies.TraceEntry) {
		// What is said again, because it was tried again, counts.
		said[s.Operation] = append(slices.DeleteFunc(said[s.Operation], func(other policies.TraceEntry) bool { return other.Position == s.Position }), s)
	}), t)
	fmt.Fprintf(x.out, "transaction %d, as %s\n", i, x.who.Subject)
	policytest.Rules(x.out, said[-1])
	for n, op := range t.Operations {
		fmt.Fprintf(x.out, "  operation %d: %s %s %s\n", n, op.Op, printable(op.Table, 60), printable(op.ID, 80))
		policytest.Rules(x.out, said[n])
		x.others(op, said[n])
	}
	var (
		rejection   *upload.Rejection
		undecidable *apply.Undecidable
	)
	switch {
	case errors.As(err, &rejection):
		keeps := "the client drops it, and it is kept here"
		if rejection.ClientHandling {
			keeps = "the client keeps it until the app decides"
		}
		fmt.Fprintf(x.out, "  would be rejected: %s; %s\n", policytest.Outcome(rejection), keeps)
	case errors.As(err, &undecidable):
		fmt.Fprintf(x.out, "  %v\n", err)
	case err != nil:
		fmt.Fprintf(x.out, "  the client would try again: %v\n", err)
	default:
		fmt.Fprintln(x.out, "  would be accepted")
	}
	for _, note := range notes {
		fmt.Fprintln(x.out, "  note:", note)
	}
	_, err = fmt.Fprintln(x.out)
	return err
}

// others are the rules that were not asked about an operation.
func (x *explainer) others(op upload.Operation, said []policies.TraceEntry) {
	table, _ := x.set.Decide(op)
	if table == nil {
		return
	}
	for _, rule := range table.Rules {
		if slices.ContainsFunc(said, func(s policies.TraceEntry) bool { return s.Position == rule.Position() }) {
			continue
		}
		why := "it did not come to that"
		if !rule.AppliesTo(op.Op) {
			var ops []string
			for _, op := range rule.Operations() {
				ops = append(ops, strings.ToLower(string(op)))
			}
			why = "it is for " + strings.Join(ops, ", ")
		}
		fmt.Fprintf(x.out, "    %s is not asked: %s (%s)\n", rule.Name, why, rule.Position())
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
	for name, into := range map[string]*string{"sub": &who.Subject, "role": &who.Role, "iss": &who.Issuer, "session_id": &who.SessionID} {
		if value, ok := claims[name]; ok {
			if err := json.Unmarshal(value, into); err != nil {
				return who, fmt.Errorf("claim %s is no text", name)
			}
		}
	}
	if who.Subject == "" {
		return who, errors.New("whose upload is it? Give --token, --claims with a sub, or --sub")
	}
	if who.Role == "" {
		who.Role = userRoles[0]
	}
	if !slices.Contains(userRoles, who.Role) {
		return who, fmt.Errorf("users do not write as role %q", who.Role)
	}
	who.Claims, err = json.Marshal(claims, json.Deterministic(true))
	return who, err
}
