// Package catalog knows what Postgres says its tables are, and turns a client's
// JSON values into values of their columns.
//
// It reads system catalogues only, never a row of the application's, and it
// decides nothing about who may write where.
package catalog

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// Querier is a connection or pool.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Snapshot is every table Postgres had at one moment. It is not changed after
// it was read, so it may be shared.
type Snapshot struct {
	ReadAt time.Time
	tables map[[2]string]*Table
}

// Table is an ordinary or partitioned table.
type Table struct {
	OID         uint32
	Schema      string
	Name        string
	Columns     []Column // in the table's order
	PrimaryKey  []string // column names in the key's order; empty when there is none
	ForeignKeys []ForeignKey

	byName map[string]*Column
}

// Column is one column of a table.
type Column struct {
	Name       string
	Type       string // as format_type prints it, like character varying(40)
	Base       string // pg_type.typname below any domain, like varchar; for an array its element's, like int4
	Array      bool   // Base is the element type of an array
	Category   byte   // pg_type.typcategory of Type below any domain, see https://www.postgresql.org/docs/current/catalog-pg-type.html
	NotNull    bool
	HasDefault bool // a default, an identity or a generated expression
	Generated  bool // generated always: nobody may write it
}

// ForeignKey is a reference from a table to another, or to itself.
type ForeignKey struct {
	References uint32   // the OID of the table referred to
	Columns    []string // the referring columns
	Deferrable bool
}

// Table finds a table by schema and name; nil when there is none.
func (s *Snapshot) Table(schema, name string) *Table { return s.tables[[2]string{schema, name}] }

// Column finds a column by name; nil when there is none.
func (t *Table) Column(name string) *Column { return t.byName[name] }

// String is the table's schema and name, for messages; SQL says SQL.
func (t *Table) String() string { return t.Schema + "." + t.Name }

// SQL is the table's quoted, qualified name.
func (t *Table) SQL() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// SQL is the column's quoted name.
func (c *Column) SQL() string { return pgx.Identifier{c.Name}.Sanitize() }

const columnsSQL = `
select c.oid, n.nspname, c.relname, a.attname,
       format_type(a.atttypid, a.atttypmod),
       coalesce(element.typname, base.typname), element.oid is not null,
       base.typcategory::text,
       a.attnotnull, a.atthasdef or a.attidentity <> '', a.attgenerated <> '' or a.attidentity = 'a'
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join lateral (
         with recursive below as (
           select t.* from pg_catalog.pg_type t where t.oid = a.atttypid
           union all
           select t.* from below b join pg_catalog.pg_type t on b.typtype = 'd' and t.oid = b.typbasetype)
         select * from below where typtype <> 'd') base on true
  left join pg_catalog.pg_type element on base.typcategory = 'A' and element.oid = base.typelem
 where c.relkind in ('r', 'p')
   and n.nspname not in ('pg_catalog', 'information_schema')
   and n.nspname !~ '^pg_(toast|temp)'
 order by c.oid, a.attnum`

const constraintsSQL = `
select k.conrelid, k.contype::text, k.confrelid, k.condeferrable,
       array(select a.attname::text
               from unnest(k.conkey) with ordinality as key(attnum, place)
               join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = key.attnum
              order by key.place)
  from pg_catalog.pg_constraint k
 where k.contype in ('p', 'f')`

// Read takes a snapshot in two queries.
func Read(ctx context.Context, q Querier) (*Snapshot, error) {
	s := &Snapshot{ReadAt: time.Now(), tables: map[[2]string]*Table{}}
	byOID := map[uint32]*Table{}
	if err := s.readColumns(ctx, q, byOID); err != nil {
		return nil, fmt.Errorf("reading the catalogue's columns: %w", err)
	}
	if err := readConstraints(ctx, q, byOID); err != nil {
		return nil, fmt.Errorf("reading the catalogue's constraints: %w", err)
	}
	return s, nil
}

func (s *Snapshot) readColumns(ctx context.Context, q Querier, byOID map[uint32]*Table) error {
	rows, err := q.Query(ctx, columnsSQL)
	if err != nil {
		return err
	}
	var (
		oid          uint32
		schema, name string
		category     string
		c            Column
	)
	_, err = pgx.ForEachRow(rows, []any{&oid, &schema, &name, &c.Name, &c.Type, &c.Base, &c.Array, &category, &c.NotNull, &c.HasDefault, &c.Generated}, func() error {
		c.Category = category[0]
		table := byOID[oid]
		if table == nil {
			table = &Table{OID: oid, Schema: schema, Name: name}
			byOID[oid] = table
			s.tables[[2]string{schema, name}] = table
		}
		table.Columns = append(table.Columns, c)
		return nil
	})
	for _, table := range byOID {
		table.byName = make(map[string]*Column, len(table.Columns))
		for i := range table.Columns {
			table.byName[table.Columns[i].Name] = &table.Columns[i]
		}
	}
	return err
}

func readConstraints(ctx context.Context, q Querier, byOID map[uint32]*Table) error {
	rows, err := q.Query(ctx, constraintsSQL)
	if err != nil {
		return err
	}
	var (
		oid        uint32
		kind       string
		references uint32
		deferrable bool
		columns    []string
	)
	_, err = pgx.ForEachRow(rows, []any{&oid, &kind, &references, &deferrable, &columns}, func() error {
		table := byOID[oid]
		switch {
		case table == nil:
		case kind == "p":
			table.PrimaryKey = append([]string(nil), columns...)
		default:
			table.ForeignKeys = append(table.ForeignKeys, ForeignKey{references, append([]string(nil), columns...), deferrable})
		}
		return nil
	})
	return err
}

// maxAge is how old a snapshot may grow while requests come in. Without requests
// nothing is read: a serverless database must be able to sleep.
const maxAge = time.Minute

// Catalog is the latest snapshot, shared by all requests.
type Catalog struct {
	db      Querier
	current atomic.Pointer[Snapshot]
	stale   chan struct{}
}

// New makes a catalogue that has not been read yet.
func New(db Querier) *Catalog { return &Catalog{db: db, stale: make(chan struct{}, 1)} }

// Run reads the catalogue, as soon as the database answers, and again whenever a
// request finds it old, until ctx ends. Each snapshot and each failure is
// reported, one at a time.
func (c *Catalog) Run(ctx context.Context, report func(*Snapshot, error)) {
	const first, most = 250 * time.Millisecond, 15 * time.Second
	wait := first
	for {
		err := c.Refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		report(c.current.Load(), err)
		if err == nil {
			wait = first
			select {
			case <-c.stale:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, most)
		case <-ctx.Done():
			return
		}
	}
}

// Refresh reads a new snapshot. When it fails the old one stays.
func (c *Catalog) Refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := Read(ctx, c.db)
	if err != nil {
		return err
	}
	c.current.Store(s)
	return nil
}

// Snapshot is the latest one; nil before the catalogue was read for the first
// time. An old one is given out, and replaced behind the request's back.
func (c *Catalog) Snapshot() *Snapshot {
	s := c.current.Load()
	if s != nil && time.Since(s.ReadAt) > maxAge {
		select {
		case c.stale <- struct{}{}:
		default:
		}
	}
	return s
}
