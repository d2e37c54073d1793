package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
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
func PrepareLookups(ctx context.Context, db *pgxpool.Pool, role string, settings []catalog.Setting, set *policies.Set) (columns policies.LookupColumns, problems, err error) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("preparing the lookups: %w", err)
	}
	defer conn.Release()
	columns, problems = set.CheckLookups(func(l *policies.Lookup) ([]policies.LookupColumn, error) {
		if err != nil {
			return nil, nil
		}
		fields, failed := prepareLookup(ctx, conn.Conn().PgConn(), role, settings, l)
		var refused *pgconn.PgError
		if errors.As(failed, &refused) {
			return nil, errors.New(refused.Message)
		}
		if failed != nil {
			err = fmt.Errorf("preparing the lookups: %w", failed)
			return nil, nil
		}
		columns, failed := columnsOf(ctx, conn.Conn(), fields)
		if failed != nil {
			err = fmt.Errorf("preparing the lookups: %w", failed)
		}
		return columns, nil
	})
	return columns, problems, err
}

// prepareLookup has Postgres parse a lookup's query as the role that will run it, in a
// database transaction of its own, and returns the query's columns. A second query, which
// reads no row, finds these, and whether the role may read the tables. Of its errors only
// that counts: with parameters that are null a function of the app may fail.
func prepareLookup(ctx context.Context, conn *pgconn.PgConn, role string, settings []catalog.Setting, l *policies.Lookup) (columns []pgconn.FieldDescription, err error) {
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
			err = finish(pipeline, &sent{}, &step{}, nil)
		}
	}
	if err == nil {
		_, err = pipeline.GetResults()
	}
	if err == nil {
		if columns, err = fieldsOf(pipeline); err != nil && !isForbidden(err) {
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

// fieldsOf reads the columns of a query without rows.
func fieldsOf(pipeline *pgconn.Pipeline) ([]pgconn.FieldDescription, error) {
	result, err := pipeline.GetResults()
	if err != nil {
		return nil, err
	}
	reader, ok := result.(*pgconn.ResultReader)
	if !ok {
		return nil, errors.New("the database sent an answer that belongs to no query")
	}
	fields := slices.Clone(reader.FieldDescriptions())
	_, err = reader.Close()
	return fields, err
}

// columnsOf says what a query's columns are, and which are columns of a table that may be
// null. Of a view's columns and of what a query computes, Postgres does not know it.
func columnsOf(ctx context.Context, conn *pgx.Conn, fields []pgconn.FieldDescription) (columns []policies.LookupColumn, err error) {
	var tables, ofTables []string
	for _, f := range fields {
		columns = append(columns, policies.LookupColumn{Name: f.Name, Kind: lookupKinds[f.DataTypeOID]})
		tables = append(tables, fmt.Sprint(f.TableOID))
		ofTables = append(ofTables, fmt.Sprintf("%d.%d", f.TableOID, f.TableAttributeNumber))
	}
	if columns == nil {
		return nil, nil
	}
	rows, err := conn.Query(ctx, `
		select a.attrelid || '.' || a.attnum
		from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
		where not a.attnotnull and c.relkind in ('r', 'p') and a.attrelid = any (string_to_array($1, ',')::oid[])`, strings.Join(tables, ","))
	if err != nil {
		return nil, err
	}
	nullable, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for i := range columns {
		columns[i].Nullable = slices.Contains(nullable, ofTables[i])
	}
	return columns, err
}

func isForbidden(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501"
}
