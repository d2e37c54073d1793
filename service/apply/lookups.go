package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/policies"
	"postern/service/catalog"
)

// PrepareLookups has Postgres read each lookup of the policies as a role with the
// settings it carries, which finds out what is wrong with it before a write needs it. problems lists what
// is, with file, line and column; err says why it could not be asked.
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

// prepareLookup has a lookup read, for one operation and then for many. That Postgres
// does not take the latter is no problem: the lookup is made for each operation.
func prepareLookup(ctx context.Context, conn *pgxpool.Conn, role string, settings []catalog.Setting, l *policies.Lookup) error {
	fill := func(written func(argument) string) string {
		return l.SQL(func(i int, p policies.Parameter) string {
			return p.Typed(written(argument{parameter: i, ofUser: p.From == "auth"}))
		})
	}
	n := 0
	types, err := prepareAs(ctx, conn.Conn().PgConn(), role, settings, fill(func(argument) string {
		n++
		return parameter(n)
	}), nil)
	if err != nil {
		return err
	}
	arrays, err := arraysOf(ctx, conn, types)
	if err != nil || arrays == nil || strings.Contains(strings.ToLower(l.Text()), each) {
		return err
	}
	sql, types, _ := forMany(arrays, fill)
	_, err = prepareAs(ctx, conn.Conn().PgConn(), role, settings, sql, types)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		l.ForMany(role, arrays)
	case !errors.As(err, &refused):
		return err
	}
	return nil
}

// arraysOf finds the types of arrays of some types; nil where one has none, or one
// whose elements no comma separates.
func arraysOf(ctx context.Context, conn *pgxpool.Conn, types []uint32) ([]uint32, error) {
	rows, err := conn.Query(ctx, `select t.oid, t.typarray from pg_catalog.pg_type t where t.oid = any($1) and t.typarray <> 0 and t.typdelim = ','`, types)
	if err != nil {
		return nil, err
	}
	found := map[uint32]uint32{}
	var of, array uint32
	if _, err := pgx.ForEachRow(rows, []any{&of, &array}, func() error {
		found[of] = array
		return nil
	}); err != nil {
		return nil, err
	}
	arrays := make([]uint32, len(types))
	for i, of := range types {
		if arrays[i] = found[of]; arrays[i] == 0 {
			return nil, nil
		}
	}
	return arrays, nil
}

// prepareAs parses a statement within a database transaction of its own, as the
// role that will run it. It takes the types of parameters that are known, and tells
// those of all.
func prepareAs(ctx context.Context, conn *pgconn.PgConn, role string, settings []catalog.Setting, sql string, known []uint32) (types []uint32, err error) {
	pipeline := conn.StartPipeline(ctx)
	settings = append(slices.Clone(settings), catalog.Setting{Name: "role", Value: role})
	for _, s := range settings {
		pipeline.SendQueryParams(`select set_config($1, $2, true)`, [][]byte{[]byte(s.Name), []byte(s.Value)}, nil, nil, nil)
	}
	pipeline.SendPrepare("", sql, known)
	if err := pipeline.Sync(); err != nil {
		return nil, errors.Join(err, pipeline.Close())
	}
	for range settings {
		if err = finish(pipeline, step{}); err != nil {
			break
		}
	}
	if err == nil {
		var results any
		results, err = pipeline.GetResults()
		if description, ok := results.(*pgconn.StatementDescription); ok {
			types = description.ParamOIDs
		}
	}
	return types, errors.Join(err, pipeline.Close())
}
