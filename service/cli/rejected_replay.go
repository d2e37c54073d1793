package cli

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"postern/service/apply"
	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/replay"
	"postern/service/upload"
	"postern/supabase"
)

type replayFlags struct {
	filterFlags
	byFlags
	allMatching, noPolicies, dryRun bool
	as, policies                    string
	set                             []string
	operation                       int
}

func rejectedReplayCommand() *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay [ID...]",
		Short: "Apply rejected writes after all, each exactly once",
		Long: `Apply rejected writes after all, each exactly once: the operations, the write's new
status and the note of who did it are one database transaction.

A write is applied as the user who made it, with the claims they had then, under
the policies as they are now. --as service applies it as Supabase's role
service_role, which row-level security does not bind; auth.uid() is still the
user's. It needs the owner's DATABASE_URL. --no-policies uses the policies only to
map tables and columns.

--set replaces a value of one write, or adds it, such as --set 'title="Milk"': the
column by the client's name, and JSON. The write keeps what was sent, and what was
applied is stored with the action. The operation is the one that caused the
rejection, or --operation, as show counts them.

--dry-run applies each write by itself and rolls it back. A write that needs an
earlier one fails in a dry run, and succeeds if both are replayed in order.

Ctrl-C ends it when the writes that have begun are done. After any interruption, run
it again, and it goes on with the rest: no write is applied twice.`,
		RunE: withRecords(func(cmd *cobra.Command, r *records, ids []string) error {
			if err := checkSelection(f.allMatching, ids); err != nil {
				return err
			}
			if len(f.set) > 0 && len(ids) != 1 {
				return errors.New("--set edits one write: give one id")
			}
			return r.replay(cmd, f, ids)
		}),
	}
	f.filterFlags.add(cmd)
	f.byFlags.add(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.allMatching, "all-matching", false, "every write that matches the filters, the oldest of each user first")
	flags.BoolVar(&f.dryRun, "dry-run", false, "roll each write back, and print what would become of it")
	flags.StringVar(&f.as, "as", "user", "user: as the user who made the write; service: as role "+supabase.ServiceRole)
	flags.BoolVar(&f.noPolicies, "no-policies", false, "skip the policies' rules; row-level security and constraints still apply")
	flags.StringArrayVar(&f.set, "set", nil, "another value of the write, as COLUMN=JSON; may be repeated")
	flags.IntVar(&f.operation, "operation", -1, "the operation that --set is about (default: the one that caused the rejection)")
	flags.StringVar(&f.policies, "policies", "", policiesUsage)
	return cmd
}

// replayer replays records and counts the outcomes. Its methods may run concurrently.
type replayer struct {
	*records
	replayFlags
	by      ledger.By
	applier *apply.Applier
	out     io.Writer
	status  io.Writer // where progress goes
	total   int
	shown   *progress

	mu             sync.Mutex
	done, rejected int
	closed         int
}

func (r *records) newReplayer(cmd *cobra.Command, f replayFlags) (*replayer, error) {
	by, err := f.parse()
	if err != nil {
		return nil, err
	}
	roles := userRoles
	switch f.as {
	case "user":
	case "service":
		roles = []string{supabase.ServiceRole}
	default:
		return nil, fmt.Errorf("--as=%q is neither user nor service", f.as)
	}
	live, err := program{cmd}.policies(f.policies)
	if err != nil {
		return nil, err
	}
	tables := catalog.New(r.db, roles)
	snapshot, err := tables.Current(cmd.Context())
	if err != nil {
		return nil, fmt.Errorf("reading the database's catalogue: %w", err)
	}
	if _, err := live.For(snapshot); err != nil {
		return nil, fmt.Errorf("the policies do not match the database:\n%w", err)
	}
	return &replayer{
		records: r, replayFlags: f, by: by, applier: apply.New(r.db, tables, live, r.Ledger, apply.Stop),
		out: cmd.OutOrStdout(), status: cmd.ErrOrStderr(),
	}, nil
}

func (r *records) replay(cmd *cobra.Command, f replayFlags, ids []string) error {
	p, err := r.newReplayer(cmd, f)
	if err != nil {
		return err
	}
	if f.allMatching {
		err = p.replayAll(cmd)
	} else {
		err = p.replayEach(cmd.Context(), ids)
	}
	if cmd.Context().Err() != nil {
		err = errInterrupted("%d of %d writes were tried; run it again to go on", p.done+p.rejected+p.closed, p.total)
	}
	return errors.Join(err, p.summary())
}

// begin shows the progress of a number of writes until end is called.
func (p *replayer) begin(ctx context.Context, total int) (end func()) {
	p.total, p.shown = total, newProgress(p.status, "writes tried", total)
	stop := p.shown.finishing(ctx)
	return func() {
		stop()
		p.shown.end()
	}
}

func (p *replayer) replayEach(ctx context.Context, ids []string) error {
	defer p.begin(ctx, len(ids))()
	for _, id := range ids {
		record, err := p.Record(ctx, id)
		if err != nil {
			return err
		}
		if err := p.replayOne(ctx, record); err != nil {
			return err
		}
	}
	return nil
}

const replayWorkers = 4

// replayAll replays the records that match: those of one user in their order, those
// of different users concurrently.
func (p *replayer) replayAll(cmd *cobra.Command) error {
	filter, err := p.filter()
	if err != nil {
		return err
	}
	total, err := p.Count(cmd.Context(), filter)
	if err != nil {
		return err
	}
	defer p.begin(cmd.Context(), total)()
	group, ctx := errgroup.WithContext(cmd.Context())
	queues := make([]chan ledger.Record, replayWorkers)
	for i := range queues {
		queues[i] = make(chan ledger.Record)
		group.Go(func() error {
			for record := range queues[i] {
				if err := p.replayOne(ctx, record); err != nil {
					return err
				}
			}
			return nil
		})
	}
	seed := maphash.MakeSeed()
	group.Go(func() error {
		defer func() {
			for _, queue := range queues {
				close(queue)
			}
		}()
		return p.each(cmd, filter, func(record ledger.Record) error {
			select {
			case queues[maphash.String(seed, record.Issuer+"\x00"+record.Subject)%replayWorkers] <- record:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	return group.Wait()
}

// replayOne replays a record, to its end once it has begun. An error ends the run,
// because the next record would fail the same way.
func (p *replayer) replayOne(ctx context.Context, record ledger.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	who, err := p.Author(ctx, record)
	if errors.Is(err, ledger.ErrNoIdentity) {
		p.report(record, err)
		return nil
	}
	if err != nil {
		return err
	}
	if p.as == "service" {
		who.Role = supabase.ServiceRole
	}
	edits, err := p.edits(record)
	if err != nil {
		return err
	}
	logger, request := slog.New(slog.DiscardHandler), replay.Request{Record: record, Who: who, By: p.by, Edits: edits, NoRules: p.noPolicies}
	if p.dryRun {
		_, err = replay.DryRun(ctx, p.applier, logger, request)
	} else {
		err = replay.Replay(ctx, p.applier, logger, request)
	}
	var (
		rejection *upload.Rejection
		pg        *pgconn.PgError
	)
	switch {
	case errors.As(err, &rejection), err == nil, errors.Is(err, replay.ErrClosed), errors.Is(err, replay.ErrNoContent):
	case errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "22023"):
		return fmt.Errorf("%s was not replayed: DATABASE_URL's role cannot become %s; use the owner's URL: %w", record.ID, who.Role, err)
	case pg == nil:
		return fmt.Errorf("%s was not replayed: %w", record.ID, err)
	}
	p.report(record, err)
	return nil
}

// edits reads the values of --set.
func (f replayFlags) edits(record ledger.Record) (edits []replay.Edit, err error) {
	operation := f.operation
	if operation < 0 && record.Operation != nil {
		operation = *record.Operation
	}
	for _, text := range f.set {
		column, value, found := strings.Cut(text, "=")
		if !found {
			return nil, fmt.Errorf(`--set=%q is not COLUMN=JSON: write --set 'title="Milk"'`, text)
		}
		if operation < 0 {
			return nil, errors.New("no single operation caused the rejection: name the one that --set is about with --operation")
		}
		edits = append(edits, replay.Edit{Operation: operation, Column: column, Value: jsontext.Value(value)})
	}
	return edits, nil
}

// report counts a record's outcome and prints it, unless it is one success of many.
func (p *replayer) report(record ledger.Record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shown.add(1)
	say := func(format string, args ...any) { p.shown.print(func() { fmt.Fprintf(p.out, format, args...) }) }
	verb := "replayed"
	if p.dryRun {
		verb = "would be replayed"
	}
	switch {
	case err == nil:
		p.done++
		if !p.allMatching {
			say("%s %s\n", record.ID, verb)
		}
	case errors.Is(err, replay.ErrClosed):
		p.closed++
		say("%s not replayed: %v\n", record.ID, err)
	default:
		p.rejected++
		say("%s not replayed: %s\n", record.ID, printable(err.Error(), 200))
	}
}

// summary prints the totals. It returns an error if some records were not replayed.
func (p *replayer) summary() error {
	verb := "replayed"
	if p.dryRun {
		verb = "would be replayed; nothing was changed"
	}
	fmt.Fprintf(p.status, "%d %s\n", p.done, verb)
	if p.rejected+p.closed == 0 {
		return nil
	}
	return fmt.Errorf("%d not replayed: %d rejected again, %d closed", p.rejected+p.closed, p.rejected, p.closed)
}
