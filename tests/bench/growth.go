package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"postern/service/upload"
)

// series is one thing that grows while all others stay.
type series struct {
	name    string
	values  []int
	shape   func(n int) shape
	delay   func(n int) time.Duration
	clients func(n int) int
	// prepare brings a stage from the value before to n.
	prepare func(ctx context.Context, s *stage, before, n int) error
}

const (
	growthClients = 8
	manyClients   = 128
)

var allSeries = []series{
	{name: "operations in a transaction", values: []int{1, 10, 100, 1000, 10_000}, shape: func(n int) shape { return shape{1, n} }},
	{name: "transactions in a request", values: []int{1, 10, upload.MaxTransactions}, shape: func(n int) shape { return shape{n, 1} }},
	{name: "rows in the table", values: []int{1000, 10_000, 100_000, 1_000_000, 10_000_000}, prepare: executes(`
		insert into public.lists (id, name, owner_id)
		select id, 'x', gen_random_uuid() from (select gen_random_uuid() as id from generate_series(%d, %d)) as ids order by id`)},
	{name: "receipts kept", values: []int{10_000, 100_000, 1_000_000, 10_000_000}, prepare: executes(fillReceipts(29))},
	{name: "open rejected writes", values: []int{1000, 10_000, 100_000, 1_000_000}, prepare: executes(`
		insert into postern.rejected_writes (digest, issuer, subject, client_id, device, transaction_id, identified, transaction, has_content, bytes,
		       tables, code, message, details, requires_client_handling, policy_sha256)
		select sha256(n::text::bytea), 'issuer', 'user ' || n %% 1000, 'device', 'device', n, true, '{}', true, 2, '{lists}', 'CHECK_VIOLATION', 'no', '{}', false, ''
		  from generate_series(%d, %d) n`)},
	{name: "tables with a policy", values: []int{1, 10, 100, 300}, prepare: morePolicies},
	{name: "clients", values: []int{1, 8, 32, 128}, clients: func(n int) int { return n }},
	{name: fmt.Sprintf("connections to the database, of %d clients", manyClients), values: []int{5, 10, 20, 40}, clients: func(int) int { return manyClients }, prepare: poolOf},
	{name: fmt.Sprintf("connections to a database 20 ms away, of %d clients", manyClients), values: []int{5, 10, 20, 40}, clients: func(int) int { return manyClients }, prepare: poolOf,
		delay: func(int) time.Duration { return 20 * time.Millisecond }},
	{name: "milliseconds to the database", values: []int{0, 2, 20, 100}, delay: func(n int) time.Duration { return time.Duration(n) * time.Millisecond }},
}

// fillReceipts adds receipts of the last so many days, in the order of their time. It makes
// the indexes afterwards, which is much faster.
func fillReceipts(days int) string {
	return strings.ReplaceAll(`
		set maintenance_work_mem = '512MB';
		drop index postern.receipts_at;
		alter table postern.receipts drop constraint receipts_pkey;
		insert into postern.receipts (digest, outcome, at)
		select sha256(n::text::bytea), 'applied', now() - interval 'DAYS days' + n * interval 'DAYS days' / %[2]d from generate_series(%[1]d, %[2]d) n;
		alter table postern.receipts add primary key (digest);
		create index receipts_at on postern.receipts (at)`, "DAYS", strconv.Itoa(days))
}

// executes runs SQL for the numbers after before, up to n.
func executes(sql string) func(ctx context.Context, s *stage, before, n int) error {
	return func(ctx context.Context, s *stage, before, n int) error {
		return s.asOwner(ctx, func(owner *pgx.Conn) error {
			for _, sql := range []string{fmt.Sprintf(sql, before+1, n), `vacuum analyze`, `checkpoint`} {
				if _, err := owner.Exec(ctx, sql); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func poolOf(_ context.Context, s *stage, _, n int) error {
	s.loginURL, _, _ = strings.Cut(s.loginURL, "&pool_max_conns=")
	s.loginURL += fmt.Sprintf("&pool_max_conns=%d", n)
	return nil
}

func morePolicies(ctx context.Context, s *stage, before, n int) error {
	return s.asOwner(ctx, func(owner *pgx.Conn) error {
		var policies strings.Builder
		policies.WriteString("tables:\n")
		for i := range n {
			if i >= before {
				sql := fmt.Sprintf(`create table public.more_%[1]d (id uuid primary key, title text, n int); grant all on public.more_%[1]d to authenticated`, i)
				if _, err := owner.Exec(ctx, sql); err != nil {
					return err
				}
			}
			fmt.Fprintf(&policies, "  more_%d: {allow: all, rules: [{name: short, check: size(new.title) < 200, code: TOO_LONG, message: too long}]}\n", i)
		}
		return os.WriteFile(filepath.Join(s.policies, "more.yaml"), []byte(policies.String()), 0o644)
	})
}

func (s *stage) asOwner(ctx context.Context, do func(*pgx.Conn) error) error {
	owner, err := pgx.Connect(ctx, s.postgres.OwnerURL("postgres"))
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	return do(owner)
}

// growth prints how throughput and latency change with one thing at a time. Each series
// has a Postgres of its own.
func growth(ctx context.Context, out io.Writer, e effort, wanted string) error {
	pattern, err := regexp.Compile(wanted)
	if err != nil {
		return fmt.Errorf("-series: %w", err)
	}
	fmt.Fprintf(out, "One operation in each request and %d clients, unless the table says otherwise; %s, %d CPUs, medians of %d slices of %v.\n",
		growthClients, time.Now().Format(time.DateOnly), runtime.NumCPU(), e.rounds, e.slice)
	for _, series := range allSeries {
		if !pattern.MatchString(series.name) {
			continue
		}
		fmt.Fprintf(out, "\n| %s | requests/s | operations/s | p50, ms | p99, ms | CPU, µs/operation | Postgres' CPU, µs/operation |\n|--:|--:|--:|--:|--:|--:|--:|\n", series.name)
		if err := series.measure(ctx, out, e); err != nil {
			return fmt.Errorf("%s: %w", series.name, err)
		}
	}
	return nil
}

func (g series) measure(ctx context.Context, out io.Writer, e effort) error {
	s, closeStage, err := newStage(ctx)
	if err != nil {
		return err
	}
	defer closeStage()
	before := 0
	for _, n := range g.values {
		if n > e.most {
			break
		}
		if g.prepare != nil {
			if err := g.prepare(ctx, s, before, n); err != nil {
				return err
			}
		}
		before = n
		c := cell{connections: growthClients, shape: shape{1, 1}}
		if g.clients != nil {
			c.connections = g.clients(n)
		}
		if g.shape != nil {
			c.shape = g.shape(n)
		}
		if g.delay != nil {
			c.delay = g.delay(n)
		}
		if err := s.measureOne(ctx, &c, e); err != nil {
			return fmt.Errorf("%d: %w", n, err)
		}
		m, operations := c.measured[postern], c.shape.transactions*c.shape.operations
		fmt.Fprintf(out, "| %d | %.0f | %.0f | %.2f | %.2f | %s | %s |\n", n, m.perSecond(), m.perSecond()*float64(operations),
			m.milliseconds(0.5), m.milliseconds(0.99), microseconds(m.cpu, m.requests()*operations), microseconds(m.postgres, m.requests()*operations))
	}
	return nil
}

// measureOne measures Postern alone.
func (s *stage) measureOne(ctx context.Context, c *cell, e effort) error {
	p, err := s.start(ctx, postern, c.delay)
	if err != nil {
		return err
	}
	defer p.close()
	if _, err := load(ctx, p, s.tokens, c.connections, c.shape, warmUp); err != nil {
		return err
	}
	for range e.rounds {
		if err := s.slice(ctx, p, c, postern, e.slice); err != nil {
			return err
		}
	}
	return nil
}
