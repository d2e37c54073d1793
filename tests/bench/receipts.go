package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/service/ledger"
)

// partitioned makes the receipts' table once more, with a partition for each day. Its
// primary key must have the partition's column, so it does not keep a digest unique.
const partitioned = `
	create table public.parted (like postern.receipts including defaults including constraints, primary key (digest, at)) partition by range (at);
	do $$ begin
	  for day in -31..1 loop
	    execute format('create table public.parted_%s partition of public.parted for values from (%L) to (%L)',
	                   day + 31, current_date + day, current_date + day + 1);
	  end loop;
	end $$;
	insert into public.parted select * from postern.receipts where at >= current_date - 31;
	analyze public.parted`

const (
	insertions = 20_000
	// The statement runs for each i, committed each time.
	insertEach = `do $$ begin for i in 1..%d loop %s; commit; end loop; end $$`
	insertOne  = `insert into postern.receipts (digest, outcome) values (sha256(('new ' || i)::bytea), 'applied')`
	// Any partition may have the receipt. Unlike a unique index, this does not wait for the
	// same transaction that arrives twice at once.
	insertParted = `insert into public.parted (digest, outcome) select sha256(('new ' || i)::bytea), 'applied'
		where not exists (select from public.parted where digest = sha256(('new ' || i)::bytea))`
)

// nextDay adds as many receipts as a day has.
const nextDay = `insert into postern.receipts (digest, outcome) select sha256(('next ' || n)::bytea), 'applied' from generate_series(1, %d) n`

const receiptsDays = 31 // one more than a receipt is kept

// deleteReceipts compares the table of n receipts as it is with one that has a partition
// for each day: to insert receipts, and to delete those of a day.
func deleteReceipts(ctx context.Context, out io.Writer, n int) error {
	s, closeStage, err := newStage(ctx)
	if err != nil {
		return err
	}
	defer closeStage()
	if err := executes(fillReceipts(receiptsDays))(ctx, s, 0, n); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d receipts of %d days, %s.\n\n| | ms | MB of WAL | MB of the table and its indexes |\n|---|--:|--:|--:|\n", n, receiptsDays, time.Now().Format(time.DateOnly))
	return s.asOwner(ctx, func(owner *pgx.Conn) error {
		if _, err := owner.Exec(ctx, partitioned); err != nil {
			return err
		}
		sql := func(sql string) func() error {
			return func() error { _, err := owner.Exec(ctx, sql); return err }
		}
		for _, step := range []receiptsStep{
			{fmt.Sprintf("one table: insert %d, one after the other", insertions), "postern.receipts", sql(fmt.Sprintf(insertEach, insertions, insertOne))},
			{fmt.Sprintf("partitions: insert %d that no partition has", insertions), "public.parted", sql(fmt.Sprintf(insertEach, insertions, insertParted))},
			{"one table: delete a day, as Postern does", "postern.receipts", func() error { return s.prune(ctx) }},
			{"one table: vacuum", "postern.receipts", sql(`vacuum postern.receipts`)},
			{"one table: insert another day", "postern.receipts", sql(fmt.Sprintf(nextDay, n/receiptsDays))},
			{"partitions: drop a day", "public.parted", sql(`drop table public.parted_1`)},
		} {
			if err := step.measure(ctx, out, owner); err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
		}
		return nil
	})
}

// receiptsStep is a line of the table.
type receiptsStep struct {
	name, table string
	do          func() error
}

func (r receiptsStep) measure(ctx context.Context, out io.Writer, owner *pgx.Conn) error {
	var before string
	if err := owner.QueryRow(ctx, `select pg_current_wal_lsn()::text`).Scan(&before); err != nil {
		return err
	}
	started := time.Now()
	if err := r.do(); err != nil {
		return err
	}
	took := time.Since(started)
	var wal, size float64
	err := owner.QueryRow(ctx, `select pg_wal_lsn_diff(pg_current_wal_lsn(), $1::text::pg_lsn)::float8 / 1e6,
		coalesce((select sum(pg_total_relation_size(relid)) from pg_partition_tree($2::text::regclass)), pg_total_relation_size($2::text::regclass))::float8 / 1e6`, before, r.table).Scan(&wal, &size)
	fmt.Fprintf(out, "| %s | %d | %.1f | %.0f |\n", r.name, took.Milliseconds(), wal, size)
	return err
}

// prune has the ledger delete what is old.
func (s *stage) prune(ctx context.Context) error {
	db, err := pgxpool.New(ctx, s.postgres.OwnerURL("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	report := &firstLine{done: cancel}
	receipts := ledger.New(db)
	receipts.Used()
	receipts.Run(ctx, slog.New(slog.NewTextHandler(report, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if !strings.Contains(report.line, "deleted old receipts") {
		return errors.New(report.line)
	}
	return nil
}

// firstLine is a log that ends what logs to it: the ledger says so once it has deleted.
type firstLine struct {
	line string
	done func()
}

func (f *firstLine) Write(line []byte) (int, error) {
	f.line = string(line)
	f.done()
	return len(line), nil
}
