package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/policies"
)

// PrepareLookups has Postgres read each lookup of the policies as a role, which
// finds out what is wrong with it before a write needs it. problems lists what
// is, with file, line and column; err says why it could not be asked.
func PrepareLookups(ctx context.Context, db *pgxpool.Pool, role string, set *policies.Set) (problems, err error) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("preparing the lookups: %w", err)
	}
	defer conn.Release()
	problems = set.CheckLookups(func(sql string) error {
		if err != nil {
			return nil
		}
		var pg *pgconn.PgError
		failed := prepareAs(ctx, conn.Conn().PgConn(), role, sql)
		if errors.As(failed, &pg) {
			return errors.New(pg.Message)
		}
		if failed != nil {
			err = fmt.Errorf("preparing the lookups: %w", failed)
		}
		return nil
	})
	return problems, err
}

// prepareAs parses a statement within a database transaction of its own, as the
// role that will run it.
func prepareAs(ctx context.Context, conn *pgconn.PgConn, role, sql string) error {
	pipeline := conn.StartPipeline(ctx)
	pipeline.SendQueryParams(`select set_config('role', $1, true)`, [][]byte{[]byte(role)}, nil, nil, nil)
	pipeline.SendPrepare("", sql, nil)
	if err := pipeline.Sync(); err != nil {
		return errors.Join(err, pipeline.Close())
	}
	err := finish(pipeline, nil)
	if err == nil {
		_, err = pipeline.GetResults()
	}
	return errors.Join(err, pipeline.Close())
}
