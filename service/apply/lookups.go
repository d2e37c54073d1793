package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/policies"
	"postern/service/catalog"
)

// PrepareLookups has Postgres parse each lookup of the policies, as a role with the
// settings it carries, so that a mistake is found before a write needs the lookup: in its
// query, in a column that a rule asks of it, or a table that the role may not read.
// problems lists the mistakes, with file, line and column. err says why Postgres could
// not be asked.
func PrepareLookups(ctx context.Context, db *pgxpool.Pool, role string, settings []catalog.Setting, set *policies.Set) (problems, err error) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("preparing the lookups: %w", err)
	}
	defer conn.Release()
	problems = set.CheckLookups(func(l *policies.Lookup) ([]policies.LookupColumn, error) {
		if err != nil {
			return nil, nil
		}
		columns, failed := prepareLookup(ctx, conn.Conn().PgConn(), role, settings, l)
		var refused *pgconn.PgError
		if errors.As(failed, &refused) {
			return nil, errors.New(refused.Message)
		}
		if failed != nil {
			err = fmt.Errorf("preparing the lookups: %w", failed)
		}
		return columns, nil
	})
	return problems, err
}

// prepareLookup has Postgres parse a lookup's query as the role that will run it, in a
// database transaction of its own, and returns the query's columns. A second query, which
// reads no row, finds these, and whether the role may read the tables. Of its errors only
// that counts: with parameters that are null a function of the app may fail.
func prepareLookup(ctx context.Context, conn *pgconn.PgConn, role string, settings []catalog.Setting, l *policies.Lookup) (columns []policies.LookupColumn, err error) {
	n := 0
	render := func(p policies.Parameter) string {
		n++
		return p.Typed("$" + strconv.Itoa(n))
	}
	pipeline := conn.StartPipeline(ctx)
	settings = append(slices.Clone(settings), catalog.Setting{Name: "role", Value: role})
	for _, s := range settings {
		pipeline.SendQueryParams(`select set_config($1, $2, true)`, [][]byte{[]byte(s.Name), []byte(s.Value)}, nil, nil, nil)
	}
	pipeline.SendPrepare("", l.SQL(render), nil)
	parameters := n
	n = 0
	pipeline.SendQueryParams(l.ColumnsSQL(render), make([][]byte, parameters), nil, nil, nil)
	if err := pipeline.Sync(); err != nil {
		return nil, errors.Join(err, pipeline.Close())
	}
	for range settings {
		if err == nil {
			err = finish(pipeline, nil)
		}
	}
	if err == nil {
		_, err = pipeline.GetResults()
	}
	if err == nil {
		if columns, err = columnsOf(pipeline); err != nil && !isForbidden(err) {
			columns, err = nil, nil
		}
	}
	return columns, errors.Join(err, pipeline.Close())
}

// lookupKinds are what values of Postgres' types are in expressions, by OID. A domain has
// the OID of the type that it is over.
var lookupKinds = map[uint32]policies.LookupKind{
	pgtype.BoolOID: policies.Boolean,
	pgtype.Int2OID: policies.Number, pgtype.Int4OID: policies.Number, pgtype.Int8OID: policies.Number,
	pgtype.Float4OID: policies.Number, pgtype.Float8OID: policies.Number, pgtype.NumericOID: policies.Number,
	pgtype.TextOID: policies.Text, pgtype.VarcharOID: policies.Text, pgtype.BPCharOID: policies.Text, pgtype.UUIDOID: policies.Text,
	pgtype.TimestamptzOID: policies.Time, pgtype.TimestampOID: policies.LocalTime, pgtype.DateOID: policies.Date,
}

// columnsOf reads the columns of a query without rows.
func columnsOf(pipeline *pgconn.Pipeline) (columns []policies.LookupColumn, err error) {
	result, err := pipeline.GetResults()
	if err != nil {
		return nil, err
	}
	reader, ok := result.(*pgconn.ResultReader)
	if !ok {
		return nil, errors.New("the database sent an answer that belongs to no query")
	}
	for _, field := range reader.FieldDescriptions() {
		columns = append(columns, policies.LookupColumn{Name: field.Name, Kind: lookupKinds[field.DataTypeOID]})
	}
	_, err = reader.Close()
	return columns, err
}

func isForbidden(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501"
}
