package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Kind says how a type is built.
type Kind byte

// The kinds of types. A domain is none of them: its columns have the type that it is
// over.
const (
	Base       Kind = 'b'
	Enum       Kind = 'e'
	Array      Kind = 'a'
	Composite  Kind = 'c'
	Range      Kind = 'r'
	Multirange Kind = 'm'
)

// Type is a Postgres type.
type Type struct {
	Name   string // pg_type.typname, like int4
	Kind   Kind
	Of     *Type    // the type of an array's elements, a range's bounds or a multirange's ranges
	Labels []string // an enum's labels in their order
	Fields []Field  // a composite's fields in their order

	// Known is whether the type is Postgres' own, in pg_catalog.
	Known bool

	// EqualityIn is the schema of the type's own operator =, such as citext's. It is
	// empty for the operators of pg_catalog, and if not all roles may use the schema.
	EqualityIn string
}

// labels are those of an enum, or of the enum that an array is of.
func (t *Type) labels() []string {
	if t.Of != nil {
		return t.Of.labels()
	}
	return t.Labels
}

// Field is a field of a composite type.
type Field struct {
	Name string
	Type *Type
}

// typesSQL reads all types, but not the row types of tables. A column of such a type
// is sent in Postgres' own text form.
const typesSQL = `
select t.oid, t.typname, case when t.typcategory = 'A' and t.typelem <> 0 then 'a' else t.typtype::text end,
       case t.typtype when 'd' then t.typbasetype
                      when 'r' then (select rngsubtype from pg_catalog.pg_range where rngtypid = t.oid)
                      when 'm' then (select rngtypid from pg_catalog.pg_range where rngmultitypid = t.oid)
                      else t.typelem end,
       t.typtypmod,
       array(select e.enumlabel::text from pg_catalog.pg_enum e where t.typtype = 'e' and e.enumtypid = t.oid order by e.enumsortorder),
       array(select a.attname::text from pg_catalog.pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped order by a.attnum),
       array(select a.atttypid from pg_catalog.pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped order by a.attnum),
       coalesce(own.schema, '')
  from pg_catalog.pg_type t
  left join (select c.opcintype, n.nspname as schema
               from pg_catalog.pg_opclass c
               join pg_catalog.pg_am m on m.oid = c.opcmethod and m.amname = 'btree'
               join pg_catalog.pg_amop o on o.amopfamily = c.opcfamily and o.amoplefttype = c.opcintype and o.amoprighttype = c.opcintype and o.amopstrategy = 3
               join pg_catalog.pg_operator e on e.oid = o.amopopr
               join pg_catalog.pg_namespace n on n.oid = e.oprnamespace
              where c.opcdefault and n.nspname <> 'pg_catalog'
                and not exists (select from pg_catalog.pg_roles r where r.rolname = any($1) and not has_schema_privilege(r.oid, n.oid, 'usage'))) as own on own.opcintype = t.oid
  left join pg_catalog.pg_class c on c.oid = t.typrelid
 where t.typtype in ('b', 'd', 'e', 'r', 'm') or (t.typtype = 'c' and c.relkind = 'c')`

// firstOID is the first OID that Postgres gives to what it does not bring itself
// (FirstNormalObjectId).
const firstOID = 16384

// typeTable has all types while a snapshot is read.
type typeTable struct {
	byOID   map[uint32]*Type
	domains map[uint32]domain
}

type domain struct {
	base     uint32 // the OID of the type that it is over, which may be a domain too
	modifier int32
}

func readTypes(ctx context.Context, q Querier, roles []string) (*typeTable, error) {
	rows, err := q.Query(ctx, typesSQL, roles)
	if err != nil {
		return nil, err
	}
	var (
		oid, of    uint32
		name, kind string
		modifier   int32
		labels     []string
		names      []string
		fieldTypes []uint32
		equality   string
	)
	types := &typeTable{map[uint32]*Type{}, map[uint32]domain{}}
	parts := map[uint32][]uint32{} // the OIDs for Of or Fields, whose types may come later
	_, err = pgx.ForEachRow(rows, []any{&oid, &name, &kind, &of, &modifier, &labels, &names, &fieldTypes, &equality}, func() error {
		if kind == "d" {
			types.domains[oid] = domain{of, modifier}
			return nil
		}
		t := &Type{Name: name, Kind: Kind(kind[0]), Known: oid < firstOID, Labels: append([]string(nil), labels...), EqualityIn: equality}
		for _, field := range names {
			t.Fields = append(t.Fields, Field{Name: field})
		}
		types.byOID[oid] = t
		switch t.Kind {
		case Array, Range, Multirange:
			parts[oid] = []uint32{of}
		case Composite:
			parts[oid] = append([]uint32(nil), fieldTypes...)
		}
		return nil
	})
	for oid, ofs := range parts {
		t := types.byOID[oid]
		for i, part := range ofs {
			resolved, _ := types.resolve(part, -1)
			if t.Kind == Composite {
				t.Fields[i].Type = resolved
			} else {
				t.Of = resolved
			}
		}
	}
	return types, err
}

// unknown replaces types that were not read. Postgres reads their text.
var unknown = &Type{Name: "unknown", Kind: Base}

// resolve finds the type that a domain is over, and its modifier there. Another type
// resolves to itself.
func (t *typeTable) resolve(oid uint32, modifier int32) (*Type, int32) {
	for {
		d, ok := t.domains[oid]
		if !ok {
			break
		}
		oid, modifier = d.base, d.modifier
	}
	if found := t.byOID[oid]; found != nil {
		return found, modifier
	}
	return unknown, modifier
}
