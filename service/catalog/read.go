package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Querier is a database transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Read reads a snapshot, with the grants of some roles.
func Read(ctx context.Context, db Database, roles []string) (*Snapshot, error) {
	return read(ctx, db, roles, nil)
}

// read reads a snapshot. If nothing has changed since the last one, it returns that one
// with a new time.
func read(ctx context.Context, db Database, roles []string, last *Snapshot) (s *Snapshot, err error) {
	began := time.Now()
	// One snapshot of the database's: a migration that ends in between is seen whole or
	// not at all.
	err = pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := CheckServer(tx.Conn()); err != nil {
			return err
		}
		fingerprint, err := readFingerprint(ctx, tx, roles)
		switch {
		case err != nil:
			return fmt.Errorf("reading the catalogue's fingerprint: %w", err)
		case last != nil && last.fingerprint == fingerprint:
			same := *last
			s = &same
			return nil
		}
		if s, err = readAll(ctx, tx, roles); err == nil {
			s.fingerprint = fingerprint
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the database's catalogue: %w", err)
	}
	s.ReadAt = began
	return s, nil
}

func readAll(ctx context.Context, q Querier, roles []string) (*Snapshot, error) {
	s := &Snapshot{sum: sha256.New(), tables: map[[2]string]*Table{}, byOID: map[uint32]*Table{}, settings: map[string][]Setting{}, sources: map[string]string{}}
	types, err := readTypes(ctx, q, roles)
	if err != nil {
		return nil, fmt.Errorf("reading the catalogue's types: %w", err)
	}
	for _, step := range []struct {
		what string
		read func() error
	}{
		{"columns", func() error { return s.readColumns(ctx, q, types) }},
		{"tables' versions", func() error { return s.readVersions(ctx, q) }},
		{"constraints", func() error { return s.readConstraints(ctx, q) }},
		{"unique indexes", func() error { return s.readUniques(ctx, q) }},
		{"grants", func() error { return s.readGrants(ctx, q, roles) }},
		{"triggers", func() error { return s.readTriggers(ctx, q) }},
		{"triggers' functions", func() error { return s.readTriggerFunctions(ctx, q) }},
		{"views and functions", func() error { return s.readViewsAndFunctions(ctx, q) }},
		{"views' and functions' sources", func() error { return s.readSources(ctx, q) }},
		{"settings", func() error { return s.readSettings(ctx, q) }},
	} {
		if err := step.read(); err != nil {
			return nil, fmt.Errorf("reading the catalogue's %s: %w", step.what, err)
		}
	}
	s.Schema = hex.EncodeToString(s.sum.Sum(nil))
	return s, nil
}

// columnsSQL leaves partitions out. A client that could write a partition by its own
// name would bypass the policy of its table.
const columnsSQL = `
select c.oid, n.nspname, c.relname, c.relkind = 'p', c.relrowsecurity, a.attname,
       format_type(a.atttypid, a.atttypmod), a.atttypid, a.atttypmod,
       a.attnotnull, a.atthasdef or a.attidentity <> '', a.attgenerated <> '', a.attidentity = 'a'
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where c.relkind in ('r', 'p') and not c.relispartition
   and n.nspname not in ('pg_catalog', 'information_schema')
   and n.nspname !~ '^pg_(toast|temp)'
 order by c.oid, a.attnum`

func (s *Snapshot) readColumns(ctx context.Context, q Querier, types *typeTable) error {
	rows, err := q.Query(ctx, columnsSQL)
	if err != nil {
		return err
	}
	var (
		t      Table
		c      Column
		typeID uint32
	)
	_, err = pgx.ForEachRow(rows, []any{&t.OID, &t.Schema, &t.Name, &t.Partitioned, &t.RowSecurity, &c.Name, &c.TypeName, &typeID, &c.Modifier,
		&c.NotNull, &c.HasDefault, &c.Generated, &c.Identity}, func() error {
		table := s.byOID[t.OID]
		if table == nil {
			fresh := t
			table = &fresh
			s.add(table)
		}
		column := c
		column.Type, column.Modifier = types.resolve(typeID, c.Modifier)
		fmt.Fprintf(s.sum, "%d %q %q %t %q %d %q %q %t %t %t %t\n", t.OID, t.Schema, t.Name, t.RowSecurity,
			c.Name, typeID, c.TypeName, column.Type.labels(), c.NotNull, c.HasDefault, c.Generated, c.Identity)
		table.Columns = append(table.Columns, column)
		return nil
	})
	for _, table := range s.byOID {
		table.indexColumns()
	}
	return err
}

const constraintsSQL = `
select k.conrelid, k.conname, k.contype::text, k.confrelid, k.condeferrable, k.confdeltype in ('a', 'r'),
       array(select a.attname::text
               from unnest(k.conkey) with ordinality as key(attnum, place)
               join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = key.attnum
              order by key.place),
       array(select a.attname::text
               from unnest(k.confkey) with ordinality as key(attnum, place)
               join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = key.attnum
              order by key.place)
  from pg_catalog.pg_constraint k
 where k.contype in ('p', 'f', 'c', 'x') or k.condeferrable
 order by k.oid`

func (s *Snapshot) readConstraints(ctx context.Context, q Querier) error {
	rows, err := q.Query(ctx, constraintsSQL)
	if err != nil {
		return err
	}
	var (
		table   uint32
		kind    string
		key     ForeignKey
		columns []string
		targets []string
	)
	_, err = pgx.ForEachRow(rows, []any{&table, &key.Name, &kind, &key.References, &key.Deferrable, &key.Restricts, &columns, &targets}, func() error {
		s.Deferred = s.Deferred || key.Deferrable
		t := s.byOID[table]
		switch {
		case t == nil:
			return nil
		case kind == "p":
			t.PrimaryKey = append([]string(nil), columns...)
		case kind == "f":
			foreign := key
			foreign.Columns, foreign.Targets = append([]string(nil), columns...), append([]string(nil), targets...)
			t.ForeignKeys = append(t.ForeignKeys, foreign)
		case kind == "c" || kind == "x":
			t.constrain(key.Name, columns)
		}
		fmt.Fprintf(s.sum, "%d %q %s %d %q %q\n", table, key.Name, kind, key.References, columns, targets)
		return nil
	})
	return err
}

// uniquesSQL reads the unique indexes, and which of them ON CONFLICT can infer: those on
// plain columns, not partial, not deferrable. One on expressions has no columns.
const uniquesSQL = `
select i.indrelid, c.relname, i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null,
       case when i.indexprs is null then
            array(select a.attname::text from unnest(i.indkey[0:i.indnkeyatts-1]) as key(attnum)
                    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = key.attnum) end
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
 where i.indisunique
 order by i.indexrelid`

func (s *Snapshot) readUniques(ctx context.Context, q Querier) error {
	rows, err := q.Query(ctx, uniquesSQL)
	if err != nil {
		return err
	}
	var (
		table    uint32
		name     string
		inferred bool
		columns  []string
	)
	_, err = pgx.ForEachRow(rows, []any{&table, &name, &inferred, &columns}, func() error {
		t := s.byOID[table]
		if t == nil {
			return nil
		}
		t.constrain(name, columns)
		fmt.Fprintf(s.sum, "%d %q %t %q\n", table, name, inferred, columns)
		if inferred {
			t.Uniques = append(t.Uniques, append([]string(nil), columns...))
		}
		return nil
	})
	return err
}

const grantsSQL = `
select c.oid, r.rolname, array(select p from unnest(array['select', 'insert', 'update', 'delete']) p
                                where case p when 'delete' then has_table_privilege(r.oid, c.oid, p) else has_any_column_privilege(r.oid, c.oid, p) end)
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 cross join pg_catalog.pg_roles r
 where c.relkind in ('r', 'p')
   and n.nspname not in ('pg_catalog', 'information_schema')
   and n.nspname !~ '^pg_(toast|temp)'
   and r.rolname = any($1)`

func (s *Snapshot) readGrants(ctx context.Context, q Querier, roles []string) error {
	rows, err := q.Query(ctx, grantsSQL, roles)
	if err != nil {
		return err
	}
	var (
		table      uint32
		role       string
		privileges []string
	)
	_, err = pgx.ForEachRow(rows, []any{&table, &role, &privileges}, func() error {
		t := s.byOID[table]
		if t == nil {
			return nil
		}
		if t.Grants == nil {
			t.Grants = map[string][]string{}
		}
		t.Grants[role] = append([]string(nil), privileges...)
		return nil
	})
	return err
}

// triggersSQL reads for which events a table has a BEFORE … FOR EACH ROW trigger, and
// whether it has others. The bits of tgtype are 1 for each row, 2 before, 4 insert, 8 delete and 16 update
// (TRIGGER_TYPE_… in pg_trigger.h). A partition's trigger counts as its table's.
const triggersSQL = `
select coalesce(pg_partition_root(t.tgrelid), t.tgrelid)::oid, bool_or(t.tgtype & 3 <> 3),
       array_remove(array[case when bool_or(t.tgtype & 7 = 7) then 'INSERT' end, case when bool_or(t.tgtype & 19 = 19) then 'UPDATE' end,
                          case when bool_or(t.tgtype & 11 = 11) then 'DELETE' end], null)
  from pg_catalog.pg_trigger t
 where not t.tgisinternal
 group by 1`

// triggerFunctionsSQL reads the names of the functions that triggers call.
const triggerFunctionsSQL = `
select distinct p.proname::text
  from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
 where not t.tgisinternal`

func (s *Snapshot) readTriggerFunctions(ctx context.Context, q Querier) error {
	rows, err := q.Query(ctx, triggerFunctionsSQL)
	if err != nil {
		return err
	}
	s.triggerFunctions, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return err
}

func (s *Snapshot) readTriggers(ctx context.Context, q Querier) error {
	rows, err := q.Query(ctx, triggersSQL)
	if err != nil {
		return err
	}
	var (
		table  uint32
		others bool
		events []string
	)
	_, err = pgx.ForEachRow(rows, []any{&table, &others, &events}, func() error {
		if t := s.byOID[table]; t != nil {
			t.Triggers, t.OtherTriggers = append([]string(nil), events...), others
		}
		return nil
	})
	return err
}

// viewsAndFunctionsSQL hashes what lookups may name besides tables: the columns of
// views and the signatures of functions.
const viewsAndFunctionsSQL = `
select md5(coalesce(string_agg(named, ' ' order by named), ''))
  from (select c.oid || ' ' || array(select a.attname || ' ' || a.atttypid from pg_catalog.pg_attribute a
                                      where a.attrelid = c.oid and a.attnum > 0 order by a.attnum)::text as named
          from pg_catalog.pg_class c
          join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
         union all
        select p.oid || ' ' || p.proname || ' ' || p.proargtypes::text || ' ' || p.prorettype
          from pg_catalog.pg_proc p
          join pg_catalog.pg_namespace n on n.oid = p.pronamespace
         where n.nspname not in ('pg_catalog', 'information_schema', 'postern') and n.nspname !~ '^pg_temp') as names`

func (s *Snapshot) readViewsAndFunctions(ctx context.Context, q Querier) error {
	rows, err := q.Query(ctx, viewsAndFunctionsSQL)
	if err != nil {
		return err
	}
	sum, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	fmt.Fprintln(s.sum, sum)
	return err
}

// settingsSQL reads the settings of roles that any user may set. Settings of the
// database itself came with the connection. A role's settings for this database come
// after its settings for all databases, which they override.
const settingsSQL = `
select r.rolname, carried.setting
  from pg_catalog.pg_db_role_setting d
  join pg_catalog.pg_roles r on r.oid = d.setrole
 cross join unnest(d.setconfig) as carried(setting)
 where d.setdatabase in (0, (select oid from pg_catalog.pg_database where datname = current_database()))
   and not exists (select from pg_catalog.pg_settings s where s.name = split_part(carried.setting, '=', 1) and s.context <> 'user')
 order by d.setdatabase`

// PostgREST reads its configuration from the settings of its own login role, see
// https://docs.postgrest.org/en/stable/references/configuration.html#in-database-configuration.
const (
	restRole   = "authenticator"
	preRequest = "pgrst.db_pre_request"
)

func (s *Snapshot) readSettings(ctx context.Context, q Querier) error {
	rows, err := q.Query(ctx, settingsSQL)
	if err != nil {
		return err
	}
	var role, setting, function string
	_, err = pgx.ForEachRow(rows, []any{&role, &setting}, func() error {
		name, value, _ := strings.Cut(setting, "=")
		switch {
		case name == preRequest && role == restRole:
			function = value
		case strings.HasPrefix(name, "pgrst."):
		default:
			s.settings[role] = append(s.settings[role], Setting{name, value})
		}
		return nil
	})
	if err != nil {
		return err
	}
	rows, err = q.Query(ctx, `
select current_setting('server_version_num')::int >= 170000,
       coalesce((select format('%I.%I', n.nspname, p.proname)
                   from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
                  where p.oid = to_regproc(nullif($1, ''))), '')`, function)
	if err != nil {
		return err
	}
	rows.Next()
	err = rows.Scan(&s.TransactionTimeout, &s.PreRequest)
	rows.Close()
	if err == nil && function != "" && s.PreRequest == "" {
		err = fmt.Errorf("role %s has %s = %q, but there is no such function: create it or reset the setting", restRole, preRequest, function)
	}
	return err
}
