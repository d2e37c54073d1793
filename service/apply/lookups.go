package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/policies"
	"postern/service/catalog"
)

// PrepareLookups has Postgres parse each lookup of the policies, as a role with the
// settings it carries, so that a mistake is found before a write needs the lookup.
// problems lists the mistakes, with file, line and column. err says why Postgres could
// not be asked.
func PrepareLookups(ctx context.Context, db *pgxpool.Pool, role string, settings []catalog.Setting, set *policies.Set) (problems, err error) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("preparing the lookups: %w", err)
	}
	defer conn.Release()
	problems = set.CheckLookups(func(l *policies.Lookup) error {
		if err != nil {
			return nil
		}
		failed := prepareLookup(ctx, conn, role, settings, l)
		var refused *pgconn.PgError
		if errors.As(failed, &refused) {
			return errors.New(refused.Message)
		}
		if failed != nil {
			err = fmt.Errorf("preparing the lookups: %w", failed)
		}
		return nil
	})
	return problems, err
}

// prepareLookup has Postgres parse a lookup's query.
func prepareLookup(ctx context.Context, conn *pgxpool.Conn, role string, settings []catalog.Setting, l *policies.Lookup) error {
	n := 0
	return prepareAs(ctx, conn.Conn().PgConn(), role, settings, l.SQL(func(p policies.Parameter) string {
		n++
		return p.Typed("$" + strconv.Itoa(n))
	}))
}

// prepareAs parses a statement within a database transaction of its own, as the
// role that will run it.
func prepareAs(ctx context.Context, conn *pgconn.PgConn, role string, settings []catalog.Setting, sql string) error {
	pipeline := conn.StartPipeline(ctx)
	settings = append(slices.Clone(settings), catalog.Setting{Name: "role", Value: role})
	for _, s := range settings {
		pipeline.SendQueryParams(`select set_config($1, $2, true)`, [][]byte{[]byte(s.Name), []byte(s.Value)}, nil, nil, nil)
	}
	pipeline.SendPrepare("", sql, nil)
	if err := pipeline.Sync(); err != nil {
		return errors.Join(err, pipeline.Close())
	}
	var err error
	for range settings {
		if err = finish(pipeline, nil); err != nil {
			break
		}
	}
	if err == nil {
		_, err = pipeline.GetResults()
	}
	return errors.Join(err, pipeline.Close())
}
