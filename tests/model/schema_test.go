package model_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"
)

// schema is a random application: its tables, and the policies that open them.
type schema struct {
	tables   []*table
	ddl      string
	policies string
}

type table struct {
	schema  string
	client  string // its name, here and there
	name    string // as SQL, with the schema
	key     []*column
	columns []*column // all others
	secured bool      // by row-level security
	allowed []string  // operations
	put     string    // merge, replace or insert
	updates bool      // a PUT only changes a row that exists
	strict  bool      // a PATCH of a row that is not there is rejected
	soft    string    // the column that a DELETE sets; empty deletes
	time    *column   // the one that may decide which write is the newest
}

type column struct {
	name      string // in Postgres
	client    string
	kind      *kind
	generated bool
	identity  bool
	foreign   bool
	required  bool // not null, and without a default
	strategy  string
}

func (t *table) column(of string) *column {
	for _, c := range t.columns {
		if c.kind.sql == of && !c.generated && !c.foreign {
			return c
		}
	}
	return nil
}

// GoString is how rapid prints what it drew.
func (s *schema) GoString() string { return s.ddl + "\npolicies: " + s.policies }

const separator = "/"

func drawSchema(r *rapid.T) *schema {
	s := &schema{}
	names := []string{"places", "Order", "select", `we"ird`}
	if oneIn(r, 2) {
		names[1] = "t 3"
	}
	var ddl []string
	for i := range rapid.IntRange(2, 4).Draw(r, "tables") {
		t, sql := drawTable(r, names[i])
		s.tables, ddl = append(s.tables, t), append(ddl, sql)
	}
	for i, t := range s.tables {
		for j := range rapid.IntRange(0, 2).Draw(r, "foreign keys") {
			ddl = append(ddl, drawForeignKey(r, s, t, i, j))
		}
	}
	for _, t := range s.tables {
		ddl = append(ddl, drawTriggers(r, t), drawSecurity(r, t, s.tables[0]), drawGrant(r, t))
	}
	s.ddl = enums + counting + strings.Join(slices.DeleteFunc(ddl, func(sql string) bool { return sql == "" }), "\n")
	s.drawPolicies(r)
	return s
}

func drawTable(r *rapid.T, name string) (*table, string) {
	t := &table{schema: "public", client: name}
	if oneIn(r, 4) {
		t.schema = "other"
	}
	t.name = t.schema + "." + quote(name)
	var defs, key []string
	define := func(c *column, more string) {
		defs = append(defs, quote(c.name)+" "+c.kind.sql+more)
	}
	first := &column{name: rapid.SampledFrom([]string{"id", "key", "The Key"}).Draw(r, "key"), kind: one(r, keyKinds)}
	t.key = append(t.key, first)
	if oneIn(r, 4) {
		t.key = append(t.key, &column{name: "second", kind: one(r, keyKinds)})
	}
	for _, c := range t.key {
		more := ""
		if len(t.key) == 1 && c.kind.sql == "bigint" && oneIn(r, 2) {
			more, c.identity = " generated always as identity", true
		}
		c.client = c.name
		define(c, more)
		key = append(key, quote(c.name))
	}
	for i := range rapid.IntRange(1, 6).Draw(r, "columns") {
		c := &column{name: fmt.Sprintf("c%d", i), kind: one(r, kinds)}
		if c.client = c.name; oneIn(r, 6) {
			c.client = "sent as " + c.name
		}
		t.columns = append(t.columns, c)
		define(c, drawConstraints(r, c))
	}
	if n := t.column("integer"); n != nil && oneIn(r, 3) {
		t.columns = append(t.columns, &column{name: "made", client: "made", kind: n.kind, generated: true})
		defs = append(defs, fmt.Sprintf("made integer generated always as (%s * 2) stored", quote(n.name)))
	}
	if oneIn(r, 3) {
		t.secured = true
		t.columns = append(t.columns, &column{name: "owner", client: "owner", kind: owners})
		defs = append(defs, "owner uuid default auth.uid()")
	}
	return t, fmt.Sprintf("create table %s (%s, primary key (%s));", t.name, strings.Join(defs, ", "), strings.Join(key, ", "))
}

func drawConstraints(r *rapid.T, c *column) (sql string) {
	if oneIn(r, 3) {
		sql += " default " + one(r, c.kind.fits[:2]).literal()
	}
	if oneIn(r, 4) {
		c.required = sql == ""
		sql += " not null"
	}
	if oneIn(r, 8) && len(c.kind.fits) > 3 {
		sql += " unique" + rapid.SampledFrom([]string{"", "", " deferrable", " deferrable initially deferred"}).Draw(r, "deferrable")
	}
	if len(c.kind.checks) > 0 && oneIn(r, 4) {
		sql += fmt.Sprintf(" check ("+one(r, c.kind.checks)+")", quote(c.name))
	}
	return sql
}

// drawForeignKey adds the referring columns to a table.
func drawForeignKey(r *rapid.T, s *schema, t *table, i, j int) string {
	target := s.tables[rapid.IntRange(0, i).Draw(r, "target")]
	if oneIn(r, 8) {
		target = one(r, s.tables)
	}
	var from, to, sql []string
	for k, key := range target.key {
		c := &column{name: fmt.Sprintf("ref%d%c", j, 'a'+k), kind: key.kind, foreign: true}
		c.client = c.name
		t.columns = append(t.columns, c)
		required := ""
		if oneIn(r, 12) {
			required, c.required = " not null", true
		}
		sql = append(sql, fmt.Sprintf("alter table %s add %s %s%s;", t.name, quote(c.name), c.kind.sql, required))
		from, to = append(from, quote(c.name)), append(to, quote(key.name))
	}
	return strings.Join(sql, "\n") + fmt.Sprintf("\nalter table %s add foreign key (%s) references %s (%s)%s%s;", t.name, strings.Join(from, ", "), target.name, strings.Join(to, ", "),
		rapid.SampledFrom([]string{"", "", " on delete cascade", " on delete set null", " on delete restrict"}).Draw(r, "on delete"),
		rapid.SampledFrom([]string{"", "", "", " deferrable", " deferrable initially deferred"}).Draw(r, "deferrable"))
}

// counting counts the rows that are written, so that a write that took effect
// twice, or for a moment, shows.
const counting = `
create schema other;
grant usage on schema other to authenticated;
create table counts (what text primary key, n int not null);
create function count() returns trigger language plpgsql security definer as $$
begin
  insert into public.counts values (tg_table_name || ' ' || tg_op, 1) on conflict (what) do update set n = counts.n + 1;
  return null;
end $$;
`

func drawTriggers(r *rapid.T, t *table) string {
	var sql strings.Builder
	trigger := func(kind, name, when, body string) {
		function := quote(name + " " + t.client)
		fmt.Fprintf(&sql, "create function %s() returns trigger language plpgsql as $$begin %s end$$;\n", function, body)
		fmt.Fprintf(&sql, "create %s %s %s for each row execute function %s();\n", kind, name, fmt.Sprintf(when, t.name), function)
	}
	if oneIn(r, 2) {
		fmt.Fprintf(&sql, "create trigger count after insert or update or delete on %s for each row execute function public.count();\n", t.name)
	}
	text := t.column("text")
	if text == nil {
		return sql.String()
	}
	c, before := quote(text.name), "before insert or update on %s"
	if oneIn(r, 2) {
		trigger("trigger", "raise", before, fmt.Sprintf(`
  if new.%[1]s = '%[2]s' then raise exception 'Not on a Sunday'; elsif new.%[1]s = '%[3]s' then raise exception 'full' using errcode = '53100'; end if; return new;`, c, raising, filling))
	}
	if oneIn(r, 4) {
		trigger("trigger", "change", before, fmt.Sprintf(`new.%[1]s = upper(new.%[1]s); return new;`, c))
	}
	if oneIn(r, 3) && !t.secured {
		trigger("trigger", "keep", "before delete on %s", fmt.Sprintf(`if old.%s = '%s' then return null; end if; return old;`, c, kept))
	}
	if oneIn(r, 4) {
		trigger("constraint trigger", "late", "after insert or update on %s deferrable initially deferred", fmt.Sprintf(`if new.%s = '%s' then raise exception 'Too late'; end if; return null;`, c, late))
	}
	return sql.String()
}

func drawSecurity(r *rapid.T, t, first *table) string {
	if !t.secured {
		return ""
	}
	policies := []string{
		"create policy own on %s to authenticated using (owner = auth.uid());",
		"create policy own on %s to authenticated using (owner = auth.uid()) with check (true);",
		`create policy all_see on %[1]s for select to authenticated using (true);
create policy insert_any on %[1]s for insert to authenticated with check (true);
create policy update_own on %[1]s for update to authenticated using (owner = auth.uid());
create policy delete_own on %[1]s for delete to authenticated using (owner = auth.uid());`,
	}
	if c := t.column("boolean"); c != nil {
		policies = append(policies, "create policy shared on %s to authenticated using (owner = auth.uid() or "+quote(c.name)+");")
	}
	for _, c := range t.columns {
		if c.foreign && t != first && c.kind == first.key[0].kind {
			policies = append(policies, fmt.Sprintf("create policy parents on %%s to authenticated using (owner = auth.uid()) with check (%[1]s is null or exists (select from %[2]s p where p.%[3]s = %[1]s));",
				t.name+"."+quote(c.name), first.name, quote(first.key[0].name)))
			break
		}
	}
	return fmt.Sprintf("alter table %[1]s enable row level security;\n"+strings.ReplaceAll(one(r, policies), "%s", "%[1]s"), t.name)
}

func drawGrant(r *rapid.T, t *table) string {
	rights := []string{"select", "insert", "update", "delete"}
	if oneIn(r, 32) {
		rights = rights[:3]
	}
	return fmt.Sprintf("grant %s on %s to authenticated;", strings.Join(rights, ", "), t.name)
}

// drawPolicies writes JSON, which is YAML too.
func (s *schema) drawPolicies(r *rapid.T) {
	tables := map[string]any{}
	for _, t := range s.tables {
		t.allowed, t.put = []string{"PUT", "PATCH", "DELETE"}, "merge"
		if oneIn(r, 24) {
			t.allowed = []string{"PUT", "PATCH"}
		}
		rule := map[string]any{"table": t.schema + "." + t.client}
		rule["allow"] = strings.Fields(strings.ToLower(strings.Join(t.allowed, " ")))
		if oneIn(r, 4) {
			words := one(r, [][]string{{"create", "update", "delete"}, {"create", "delete"}, {"update", "delete"}, {"update"}, {"create", "update"}})
			rule["allow"], t.allowed = words, nil
			creates, updates := slices.Contains(words, "create"), slices.Contains(words, "update")
			for verb, allowed := range map[string]bool{"PUT": creates || updates, "PATCH": updates, "DELETE": slices.Contains(words, "delete")} {
				if allowed {
					t.allowed = append(t.allowed, verb)
				}
			}
			if t.updates = !creates; !updates {
				t.put = "insert"
			}
		}
		if t.put == "merge" && oneIn(r, 6) {
			t.put = rapid.SampledFrom([]string{"replace", "replace", "insert"}).Draw(r, "put")
			if t.updates {
				t.put = "replace"
			}
			rule["put"] = t.put
		}
		if oneIn(r, 12) {
			t.strict = true
			rule["on_missing"] = "reject"
		}
		if c := t.column("boolean"); c != nil && oneIn(r, 3) {
			t.soft = c.name
			rule["soft_delete"] = c.name
		}
		if conflict := t.drawStrategies(r); conflict != nil {
			rule["conflict"] = conflict
		}
		if len(t.key) > 1 {
			rule["id"], rule["separator"] = []string{t.key[0].name, t.key[1].name}, separator
		}
		renamed := map[string]string{}
		for _, c := range t.columns {
			if c.client != c.name {
				renamed[c.client] = c.name
			}
		}
		if len(renamed) > 0 {
			rule["columns"] = renamed
		}
		tables[t.client] = rule
	}
	text, err := json.Marshal(map[string]any{"tables": tables}, json.Deterministic(true))
	if err != nil {
		panic(err)
	}
	s.policies = string(text)
}
