package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/policytest"
	"postern/service/record"
)

type diffFlags struct {
	database, record, since string
	skip                    int
	asJSON                  bool
}

func policyDiffCommand() *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Show what would become of stored writes under new policies, and write nothing",
		Long: `Show what would become of stored writes under new policies, and write nothing. OLD and
NEW are folders of policies.

The writes are the rejected ones in the database of DATABASE_URL or --database, whatever
became of them, and the requests in the file of postern serve --record. Each is made
under OLD and under NEW by the service's own code, as the user who sent it, on the rows
as they are now, and rolled back. Triggers run, and rows are locked for that time: use a
copy or a branch of a busy database.

Ctrl-C ends it with a report of what was tried, and the --skip that goes on with the
rest.

Exit codes: 0 no outcome changes, 1 some do, 2 the command could not do its work.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return &exit{2, errors.New("give two folders of policies, the old one and the new one")}
			}
			return exitCode(diff(cmd, f, args[0], args[1]))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.database, "database", "", "URL of the database (default: DATABASE_URL); all is rolled back")
	flags.StringVar(&f.record, "record", "", "file of requests that postern serve --record has written")
	flags.StringVar(&f.since, "since", "", "only what was received since then: 36h, 7d, or 2026-11-24T15:04:05Z")
	flags.IntVar(&f.skip, "skip", 0, "go on where a run was interrupted")
	flags.BoolVar(&f.asJSON, "json", false, "print a JSON object")
	return cmd
}

func diff(cmd *cobra.Command, f diffFlags, old, new string) error {
	var since time.Time
	if f.since != "" {
		var err error
		if since, err = ledger.ParseMoment(f.since, time.Now()); err != nil {
			return fmt.Errorf("--since=%q: %w", f.since, err)
		}
	}
	url := cmp.Or(f.database, os.Getenv("DATABASE_URL"))
	if url == "" {
		return errors.New("whose writes? Set DATABASE_URL, or give --database: that of the service, or of a copy or branch")
	}
	db, err := policytest.Connect(cmd.Context(), url, userRoles)
	if err != nil {
		return err
	}
	defer db.Close()
	sets := make([]*policies.Live, 2)
	for i, dir := range []string{old, new} {
		if sets[i], err = (program{cmd}).compileFor(dir, db.Snapshot()); err != nil {
			return err
		}
	}
	d := &differ{
		Diff: policytest.NewDiff(db, sets[0], sets[1]), records: &records{ledger.New(db.Pool), db.Pool},
		cmd: cmd, filter: ledger.Filter{Since: since}, file: f.record, skip: f.skip,
	}
	err = d.run()
	if err != nil && cmd.Context().Err() == nil {
		return err
	}
	d.Sort()
	if f.asJSON {
		_ = printLine(cmd.OutOrStdout(), d.Diff)
	} else {
		d.Text(cmd.OutOrStdout())
	}
	switch {
	case err != nil:
		return errInterrupted("go on with --skip %d", d.seen)
	case d.Changed > 0:
		return &exit{code: 1}
	}
	return nil
}

// compileFor is compile for a command whose exit code 1 means something else.
func (p program) compileFor(dir string, snapshot *catalog.Snapshot) (*policies.Live, error) {
	live, _, err := p.compile(dir, snapshot)
	if err != nil {
		return nil, &exit{2, err}
	}
	return live, nil
}

// differ finds the writes that are tried. It has one of them, or one page of rejected
// ones, in memory.
type differ struct {
	*policytest.Diff
	*records
	cmd    *cobra.Command
	filter ledger.Filter
	file   string // of recorded requests; empty if there is none
	skip   int    // writes and requests at the beginning
	seen   int    // those that are done
	shown  *progress
}

func (d *differ) run() error {
	total, err := d.Count(d.cmd.Context(), d.filter)
	if err != nil {
		return err
	}
	lines, err := countLines(d.file)
	if err != nil {
		return err
	}
	d.shown = newProgress(d.cmd.ErrOrStderr(), "writes and requests tried", total+lines)
	defer d.shown.end()
	defer d.shown.finishing(d.cmd.Context())()
	err = d.each(d.cmd, d.filter, func(r ledger.Record) error {
		return d.next(func(ctx context.Context) error { return d.rejected(ctx, r) })
	})
	if err != nil || d.file == "" {
		return err
	}
	f, err := os.Open(d.file)
	if err != nil {
		return err
	}
	defer f.Close()
	line := 0
	for request, err := range record.Read(f) {
		if err != nil {
			return fmt.Errorf("%s: %w", d.file, err)
		}
		line++
		if err := d.next(func(ctx context.Context) error { return d.recorded(ctx, request, line) }); err != nil {
			return err
		}
	}
	return nil
}

// next tries one of the writes and requests, unless it is skipped. What has begun is done
// to its end.
func (d *differ) next(try func(context.Context) error) error {
	ctx := d.cmd.Context()
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.seen >= d.skip {
		if err := try(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	d.seen++
	d.shown.add(1)
	return nil
}

func (d *differ) rejected(ctx context.Context, r ledger.Record) error {
	if !r.HasContent || r.Raw != nil {
		d.Skip("the content of a rejected write is not stored, or cannot be read")
		return nil
	}
	who, err := d.Author(ctx, r)
	if errors.Is(err, ledger.ErrNoIdentity) {
		d.Skip(err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	_, t, err := r.Decoded()
	if err != nil {
		return err
	}
	return d.Try(ctx, policytest.Sent{Name: "rejected write " + r.ID, Who: who, At: r.FirstAt, Transaction: t})
}

func (d *differ) recorded(ctx context.Context, r record.Request, line int) error {
	if r.At.Before(d.filter.Since) {
		return nil
	}
	for _, encoded := range r.Transactions {
		t, err := ledger.DecodeTransaction(encoded)
		if err != nil {
			return fmt.Errorf("%s: line %d: %w", d.file, line, err)
		}
		if err := d.Try(ctx, policytest.Sent{Name: fmt.Sprintf("%s:%d", d.file, line), Who: r.Who(), At: r.At, Transaction: t}); err != nil {
			return err
		}
	}
	return nil
}

// countLines counts the lines of a file; none if it has no name.
func countLines(path string) (n int, err error) {
	if path == "" {
		return 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	reader := bufio.NewReader(f)
	for {
		switch _, err := reader.ReadSlice('\n'); {
		case err == nil:
			n++
		case errors.Is(err, io.EOF):
			return n, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return 0, err
		}
	}
}
