package cli

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"sync"
	"time"

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

--dry-run applies each write by itself and rolls it back. A write that needs an
earlier one fails in a dry run, and succeeds if both are replayed in order.

After an interruption, run it again: no write is applied twice.`,
		RunE: withRecords(func(cmd *cobra.Command, r *records, ids []string) error {
			if err := checkSelection(f.allMatching, ids); err != nil {
				return err
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

	mu             sync.Mutex
	done, rejected int
	closed         int
	progressAt     time.Time // when progress was last printed
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
	if f.noPolicies {
		live.WithoutRules()
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
		out: cmd.OutOrStdout(), status: cmd.ErrOrStderr(), progressAt: time.Now(),
	}, nil
}

func (r *records) replay(cmd *cobra.Command, f replayFlags, ids []string) error {
	p, err := r.newReplayer(cmd, f)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	if f.allMatching {
		err = p.replayAll(cmd)
	} else {
		p.total = len(ids)
		for _, id := range ids {
			record, recordErr := r.Record(ctx, id)
			if recordErr != nil {
				err = recordErr
				break
			}
			if err = p.replayOne(ctx, record); err != nil {
				break
			}
		}
	}
	return errors.Join(err, p.summary())
}

const replayWorkers = 4

// replayAll replays the records that match: those of one user in their order, those
// of different users concurrently.
func (p *replayer) replayAll(cmd *cobra.Command) error {
	filter, err := p.filter()
	if err != nil {
		return err
	}
	if p.total, err = p.Count(cmd.Context(), filter); err != nil {
		return err
	}
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

// replayOne replays a record. An error ends the run, because the next record would
// fail the same way.
func (p *replayer) replayOne(ctx context.Context, record ledger.Record) error {
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
	logger := slog.New(slog.DiscardHandler)
	if p.dryRun {
		_, err = replay.DryRun(ctx, p.applier, logger, who, record, p.by)
	} else {
		err = replay.Replay(ctx, p.applier, logger, who, record, p.by)
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

// report counts a record's outcome and prints it, unless it is one success of many.
// Every 2 s it prints progress.
func (p *replayer) report(record ledger.Record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	verb := "replayed"
	if p.dryRun {
		verb = "would be replayed"
	}
	switch {
	case err == nil:
		p.done++
		if !p.allMatching {
			fmt.Fprintln(p.out, record.ID, verb)
		}
	case errors.Is(err, replay.ErrClosed):
		p.closed++
		fmt.Fprintf(p.out, "%s not replayed: %v\n", record.ID, err)
	default:
		p.rejected++
		fmt.Fprintf(p.out, "%s not replayed: %s\n", record.ID, printable(err.Error(), 200))
	}
	if time.Since(p.progressAt) > 2*time.Second {
		p.progressAt = time.Now()
		fmt.Fprintf(p.status, "%d of %d\n", p.done+p.rejected+p.closed, p.total)
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
