package ledger

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// watchTimeout bounds each of a Watcher's questions.
const watchTimeout = 2 * time.Second

// Watcher asks Postgres how far it has come with what takes long in a migration, over a
// connection of its own. The zero value with a URL is ready. It is not safe for
// concurrent use.
type Watcher struct {
	OwnerURL string
	conn     *pgx.Conn
}

// Work is like "receipts: scanning table 43%", for a table of schema postern whose index is
// built, or which is vacuumed, analyzed or rewritten by CLUSTER. It is empty while Postgres
// reports nothing, as for all other statements.
func (w *Watcher) Work(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	if w.conn == nil || w.conn.IsClosed() {
		conn, err := pgx.Connect(ctx, w.OwnerURL)
		if err != nil {
			return "" // the migration itself goes on
		}
		w.conn = conn
	}
	var work string
	if w.conn.QueryRow(ctx, reported).Scan(&work) != nil {
		return ""
	}
	return work
}

// Close ends the connection.
func (w *Watcher) Close(ctx context.Context) {
	if w.conn != nil {
		_ = w.conn.Close(ctx)
	}
}

// reported leaves out what autovacuum does. An index is built in phases: those that read
// the table count blocks, the others tuples.
const reported = `
select c.relname || ': ' || replace(phase, 'building index: ', '') || coalesce(' ' || 100 * done / nullif(total, 0) || '%', '')
  from (select pid, relid, phase, case when blocks_total > 0 then blocks_done else tuples_done end, case when blocks_total > 0 then blocks_total else tuples_total end
          from pg_catalog.pg_stat_progress_create_index
        union all select pid, relid, phase, heap_blks_scanned, heap_blks_total from pg_catalog.pg_stat_progress_cluster
        union all select pid, relid, phase, heap_blks_scanned, heap_blks_total from pg_catalog.pg_stat_progress_vacuum
        union all select pid, relid, phase, sample_blks_scanned, sample_blks_total from pg_catalog.pg_stat_progress_analyze
       ) as work (pid, relid, phase, done, total)
  join pg_catalog.pg_stat_activity a using (pid)
  join pg_catalog.pg_class c on c.oid = relid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'postern' and a.datname = current_database() and a.backend_type = 'client backend'
 limit 1`
