package cli

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"postern/service"
	"postern/service/ledger"
)

func rejectedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rejected",
		Short: "List rejected writes, and replay or dismiss them",
		Long: `List rejected writes, and replay or dismiss them.

DATABASE_URL may be the service's own, of the login role postern. Two commands need
the owner's (Supabase: postgres, Neon: neondb_owner): show, to read the rows as they
are now, and replay --as service.`,
	}
	cmd.AddCommand(rejectedListCommand(), rejectedShowCommand(), rejectedReplayCommand(), rejectedDismissCommand(), rejectedExportCommand())
	return cmd
}

// records is the ledger in DATABASE_URL's database.
type records struct {
	*ledger.Ledger
	db *pgxpool.Pool
}

func openRecords() (*records, error) {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		return nil, errors.New("DATABASE_URL is not set: set it to the service's URL, or the owner's")
	}
	db, err := service.Connect(url)
	if err != nil {
		return nil, err
	}
	return &records{ledger.New(db), db}, nil
}

// withRecords opens the records for a subcommand, and closes them after it.
func withRecords(run func(cmd *cobra.Command, r *records, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		r, err := openRecords()
		if err != nil {
			return err
		}
		defer r.db.Close()
		return run(cmd, r, args)
	}
}

// filterFlags are the flags that choose rejected writes.
type filterFlags struct {
	user, table, code, since, olderThan string
	status                              []string
}

func (f *filterFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.user, "user", "", "only writes of the user with this id (sub of the token)")
	flags.StringVar(&f.table, "table", "", "only writes to this table, by the name that clients use")
	flags.StringVar(&f.code, "code", "", "only writes with this code, such as CHECK_VIOLATION")
	flags.StringVar(&f.since, "since", "", "only writes first received since then: 36h, 7d, or 2026-11-24T15:04:05Z")
	flags.StringVar(&f.olderThan, "older-than", "", "only writes first received before then: 36h, 7d, or 2026-11-24T15:04:05Z")
	flags.StringSliceVar(&f.status, "status", nil, "only writes with these statuses (default open,held): "+ledger.StatusNames()+", or all")
}

func (f *filterFlags) filter() (ledger.Filter, error) {
	out := ledger.Filter{Subject: f.user, Table: f.table, Code: f.code}
	var problems []error
	moment := func(flag, text string, into *time.Time) {
		if text == "" {
			return
		}
		at, err := ledger.ParseMoment(text, time.Now())
		if err != nil {
			problems = append(problems, fmt.Errorf("--%s=%q: %w", flag, text, err))
		}
		*into = at
	}
	moment("since", f.since, &out.Since)
	moment("older-than", f.olderThan, &out.Before)
	statuses, err := ledger.ParseStatuses(f.status)
	if err != nil {
		problems = append(problems, fmt.Errorf("--status: %w", err))
	}
	out.Statuses = statuses
	return out, errors.Join(problems...)
}

const pageSize = 500 // records

// each calls do for every record that matches, the oldest first. It holds one page
// of them in memory.
func (r *records) each(cmd *cobra.Command, f ledger.Filter, do func(ledger.Record) error) error {
	return r.eachAfter(cmd, f, ledger.Cursor{}, do)
}

func (r *records) eachAfter(cmd *cobra.Command, f ledger.Filter, after ledger.Cursor, do func(ledger.Record) error) error {
	for {
		page, next, more, err := r.Records(cmd.Context(), f, after, pageSize)
		if err != nil {
			return err
		}
		for _, record := range page {
			if err := do(record); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		after = next
	}
}

// byFlags are the flags for who closes or replays a record, and why.
type byFlags struct{ by, note string }

func (b *byFlags) add(cmd *cobra.Command) {
	name := ""
	if who, err := user.Current(); err == nil {
		name = who.Username
	}
	cmd.Flags().StringVar(&b.by, "by", name, "who does it; stored with the write")
	cmd.Flags().StringVar(&b.note, "note", "", "why; stored with the write")
}

func (b *byFlags) parse() (ledger.By, error) {
	if b.by == "" {
		return ledger.By{}, errors.New("--by: say who does it; the name is stored with the write")
	}
	return ledger.By{Who: b.by, Note: b.note}, nil
}

// checkSelection checks that a command has either ids or --all-matching.
func checkSelection(allMatching bool, ids []string) error {
	switch {
	case allMatching && len(ids) > 0:
		return errors.New("give ids, or --all-matching, not both")
	case !allMatching && len(ids) == 0:
		return errors.New("give the ids that `postern rejected list` shows, or --all-matching")
	}
	return nil
}

const policiesUsage = "folder of policies (default: POSTERN_POLICIES, else policies)"
