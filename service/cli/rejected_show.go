package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/replay"
)

// shownWrite is a rejected write beside the rows as they are now.
type shownWrite struct {
	ledger.Record
	Operations []replay.Operation `json:"operations"`
	Actions    []ledger.Action    `json:"actions"`
}

func rejectedShowCommand() *cobra.Command {
	var (
		asJSON    bool
		policyDir string
	)
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a rejected write: its operations, the rule, and the rows as they are now beside the values that were sent",
		Long: `Show a rejected write: its operations, the rule, and the rows as they are now
beside the values that were sent. DATABASE_URL's role must be allowed to read the
rows: use the owner's URL, because the service's own role may not.`,
		Args: cobra.ExactArgs(1),
		RunE: withRecords(func(cmd *cobra.Command, r *records, args []string) error {
			s, err := r.show(cmd, args[0], policyDir)
			switch {
			case err != nil:
				return err
			case asJSON:
				return printLine(cmd.OutOrStdout(), s)
			}
			s.print(cmd.OutOrStdout())
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	cmd.Flags().StringVar(&policyDir, "policies", "", policiesUsage)
	return cmd
}

func (r *records) show(cmd *cobra.Command, id, policyDir string) (s shownWrite, err error) {
	ctx := cmd.Context()
	if s.Record, err = r.Record(ctx, id); err != nil {
		return s, err
	}
	if s.Actions, err = r.Actions(ctx, s.ID); err != nil {
		return s, err
	}
	_, transaction, err := s.Decoded()
	if err != nil {
		return s, err
	}
	tables, err := catalog.Read(ctx, r.db, nil)
	if err != nil {
		return s, err
	}
	live, err := program{cmd}.policies(policyDir)
	if err != nil {
		return s, fmt.Errorf("loading the policies, which map tables and columns: %w", err)
	}
	set, err := live.For(tables)
	if err != nil {
		return s, fmt.Errorf("the policies do not match the database:\n%w", err)
	}
	for i, op := range transaction.Operations {
		operation, err := replay.Compare(ctx, r.db, set.WithoutRules(), tables, op, nil)
		if errors.Is(err, replay.ErrCannotRead) {
			operation.Unread = fmt.Sprintf("DATABASE_URL's role may not read every row of %s: use the owner's URL", operation.Target)
		} else if err != nil {
			return s, err
		}
		operation.Failed = s.Operation != nil && *s.Operation == i
		s.Operations = append(s.Operations, operation)
	}
	return s, nil
}

func (s shownWrite) print(out io.Writer) {
	fmt.Fprintf(out, "%s  %s\n\n", s.ID, s.Status)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(out, "  %-12s %s\n", name, printable(value, 400))
		}
	}
	line("code", string(s.Code))
	line("message", s.Message)
	line("details", string(s.Details))
	line("rule", s.Rule)
	line("policies", s.PolicySHA256)
	line("user", s.Subject)
	line("issuer", s.Issuer)
	line("device", s.ClientID)
	if s.TransactionID != nil {
		line("transaction", fmt.Sprint(*s.TransactionID))
	}
	line("first", when(s.FirstAt))
	line("last", fmt.Sprintf("%s, received %d times", when(s.LastAt), s.Attempts))
	for i, op := range s.Operations {
		printOperation(out, i, op)
	}
	if !s.HasContent {
		fmt.Fprintf(out, "\nIts content was too large to be stored, so it cannot be replayed. Its tables: %s\n", printable(strings.Join(s.Tables, ", "), 400))
	}
	if s.Raw != nil {
		fmt.Fprintf(out, "\nNot readable as it was sent, so it cannot be replayed. Its bytes, escaped (base64 in --json):\n%.4000q\n", s.Raw)
	}
	if len(s.Actions) > 0 {
		fmt.Fprintln(out, "\nActions")
	}
	for _, a := range s.Actions {
		fmt.Fprintf(out, "  %s  %s by %s  %s\n", when(a.At), a.Action, printable(a.Who, 64), printable(a.Note, 200))
		if a.Transaction != nil {
			fmt.Fprintln(out, "    edited:", printable(string(a.Transaction), 400))
		}
	}
}

func printOperation(out io.Writer, index int, o replay.Operation) {
	const line = "  %-30s %-40s %s\n"
	mark := ""
	if o.Failed {
		mark = "   <- rejected"
	}
	fmt.Fprintf(out, "\n%d  %s %s %s%s\n", index, o.Op, printable(o.Table, 64), printable(o.ID, 64), mark)
	switch {
	case o.Unread != "":
		fmt.Fprintln(out, "  now: unknown:", printable(o.Unread, 200))
	case string(o.Now) == "null":
		fmt.Fprintln(out, "  now: there is no such row")
	}
	if len(o.Wanted) > 0 {
		fmt.Fprintf(out, line, "COLUMN", "WANTED", "NOW")
	} else if o.Unread == "" && string(o.Now) != "null" {
		fmt.Fprintln(out, "  now:", printable(string(o.Now), 400))
	}
	for _, v := range o.Wanted {
		fmt.Fprintf(out, line, printable(v.Column, 64), printable(string(v.Wanted), 60), printable(string(v.Now), 60))
	}
}
