package examples_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/catalog"
	"postern/tests/rig"
)

// TestReach has tables that are written and queries that are made, and what is
// known of whether the one may change the other: in the many ways that Postgres
// has, each with a neighbour that does not.
func TestReach(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `
		create schema app; create schema ext;
		create extension "uuid-ossp" schema ext; create extension moddatetime; create extension dblink;
		create table plain (id uuid primary key default ext.uuid_generate_v4(), name text, at timestamptz);
		create table other (id int primary key, plain_id uuid references plain);
		create table "Odd Table" (id int primary key);
		create view seen as select * from plain; create view through as select id from seen;

		create table members (list int, who text);
		create function app.who() returns text language sql stable as $$ select coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '') $$;
		create function is_member(which int) returns boolean language plpgsql security definer as $$ begin return exists (select 1 from members m where m.list = which and m.who = app.who()); end $$;
		create function is_too(which int) returns boolean language sql begin atomic select exists (select 1 from members m where m.list = which); end;
		create table guarded (id int primary key, list int); alter table guarded enable row level security;
		create policy a on guarded using (is_member(list));
		create table guarded_too (id int primary key, list int); alter table guarded_too enable row level security;
		create policy a on guarded_too using (is_too(list));
		create table queried (id int primary key, list int); alter table queried enable row level security;
		create policy a on queried using (list in (select m.list from members m where m.who = app.who() and m.list = queried.list));
		create table simple (id int primary key, owner text); alter table simple enable row level security;
		create policy a on simple using (owner = app.who());
		create table recursive (id int primary key, up int); alter table recursive enable row level security;
		create policy a on recursive using (exists (select 1 from recursive r where r.id = recursive.up));

		create table stamped (id int primary key, at timestamptz);
		create function stamp() returns trigger language plpgsql as $$ begin if pg_trigger_depth() > 1 then return null; end if; new.at := now(); return new; end $$;
		create trigger s before update on stamped for each row execute function stamp();
		create table stamped_too (id int primary key, at timestamptz);
		create trigger s before update on stamped_too for each row execute function moddatetime(at);
		create table log (what int); create table log_of_log (what int);
		create table logged (id int primary key);
		create function log() returns trigger language plpgsql as $$ begin insert into log values (new.id) on conflict do nothing; return null; end $$;
		create trigger l after insert on logged for each row execute function log();
		create function again() returns trigger language plpgsql as $$ begin INSERT INTO public."log_of_log" VALUES (1); return null; end $$;
		create trigger l after insert on log for each statement execute function again();
		create table dynamic (id int primary key);
		create function dynamic() returns trigger language plpgsql as $$ begin execute 'insert into lo' || 'g values (1)'; return null; end $$;
		create trigger l after delete on dynamic for each row execute function dynamic();
		create table sets (id int primary key);
		create function sets() returns trigger language plpgsql as $$ begin set local my.var = 'x'; return null; end $$;
		create trigger l after delete on sets for each row execute function sets();
		create table reading (id int primary key);
		create function reading() returns trigger language plpgsql as $$ begin if exists (select from plain) then raise 'no'; end if; return new; end $$;
		create trigger l before insert on reading for each row execute function reading();
		create table filled (id int primary key, n int);
		create function fill() returns int language sql as $$ insert into log values (1); select 1 $$;
		alter table filled alter n set default fill();
		create function locked() returns setof other language sql as 'select * from other for update';
		create table filled_too (id int primary key, n int);
		create function fill_too() returns int language sql begin atomic insert into log values (1); select 1; end;
		alter table filled_too alter n set default fill_too();
		create table checked (id int primary key check (fill() = id));
		create table numbered (id serial primary key);
		create table ruled (id int primary key); create rule r as on insert to ruled do also insert into log values (1);
		create table rekeyed (id text primary key);
		create function rekey() returns trigger language plpgsql as $$ begin NEW . "id" = lower(new.id); return new; end $$;
		create trigger k before insert on rekeyed for each row execute function rekey();
		create table remade (id text primary key);
		create function remake() returns trigger language plpgsql as $$ begin new := jsonb_populate_record(new, '{}'); return new; end $$;
		create trigger k before insert on remade for each row execute function remake();
		create table chosen (id text primary key);
		create function choose() returns trigger language plpgsql as $$ begin select 'x' into new.id; return new; end $$;
		create trigger k before insert on chosen for each row execute function choose();
		create procedure lowered(inout k text) language plpgsql as $$ begin k := lower(k); end $$;
		create table called (id text primary key);
		create function calls() returns trigger language plpgsql as $$ begin call lowered(new.id); return new; end $$;
		create trigger k before insert on called for each row execute function calls();
		create table returned (id text primary key);
		create function returned() returns trigger language plpgsql as $$ declare r returned%rowtype; begin r.id := lower(new.id); return r; end $$;
		create trigger k before insert on returned for each row execute function returned();
		create table looped (id text primary key);
		create function loops() returns trigger language plpgsql as $$ begin for new.id in select 'x' loop null; end loop; return new; end $$;
		create trigger k before insert on looped for each row execute function loops();
		create table commented (id text primary key);
		create function commented() returns trigger language plpgsql as $$ begin new.id -- the key
			:= 'x'; return new; end $$;
		create trigger k before insert on commented for each row execute function commented();
		create table compares (id text primary key);
		create function compares() returns trigger language plpgsql as $$ begin if new.id <> old.id and length(new.id) > 3 then return null; end if; insert into log values (length(new.id)); return new; end $$;
		create trigger k before insert on compares for each row execute function compares();
		create function look(x text) returns boolean language plpgsql security definer as $$ begin insert into log values (1); return true; end $$;
		create table watched (id int primary key); alter table watched enable row level security; create policy a on watched using (look('x'));
		create table watching (id int primary key);
		create function watching() returns trigger language plpgsql as $$ begin if exists (select from watched) then return null; end if; return new; end $$;
		create trigger k before insert on watching for each row execute function watching();
		create table guarded_by_watched (id int primary key); alter table guarded_by_watched enable row level security;
		create policy a on guarded_by_watched with check (exists (select from watched));
		create table settings (id int primary key, m text default set_config('app.x', 'y', true));
		create function app.mark() returns text language sql begin atomic select set_config('app.x', 'y', true); end;
		create table marks (id int primary key, m text default app.mark());
		create view xids as select txid_current_if_assigned() as x; create view shuffled as select id from other order by random();
		create function app.shuffled() returns setof int language sql begin atomic select id from other order by random(); end;
		create table revokes (id int primary key);
		create function revokes() returns trigger language plpgsql as $$ begin revoke select on plain from public; return null; end $$;
		create trigger k after insert on revokes for each row execute function revokes();
		create table when_ (id int primary key);
		create trigger w after insert on when_ for each row when (fill() = new.id) execute function stamp();
		create table truncates (id int primary key);
		create function truncates() returns trigger language plpgsql as $$ begin truncate plain cascade; return null; end $$;
		create trigger w after insert on truncates for each row execute function truncates();
		create table paths (id int primary key);
		create function paths() returns trigger language plpgsql as $$ begin set search_path = app; return null; end $$;
		create trigger w after insert on paths for each row execute function paths();
		create function log_size() returns bigint language sql as 'select count(*) from log';
		create function defaulted(n bigint default log_size()) returns bigint language sql as 'select n';
		create table "हिन्दी" (id int primary key); create table É (id int primary key); create table "x""" (id int primary key); create table "a-b" (id int primary key);
		create table a_name_that_is_so_long_that_postgres_keeps_no_more_than_its_first_part (id int primary key);
		create extension tcn; create table compiled (id int primary key);
		create trigger l after delete on compiled for each row execute function triggered_change_notification();
		create foreign data wrapper nowhere; create server nowhere foreign data wrapper nowhere; create foreign table foreign_ (id int) server nowhere;

		create table parents (id int primary key); create table children (id int primary key, parent int references parents on delete cascade);
		create table grandchildren (id int primary key, child int references children on update cascade);
		create table tree (id int primary key, up int references tree on delete cascade);
		create table whole (id int, at int, primary key (id, at)) partition by list (at); create table part partition of whole for values in (1);
		create function app."cast"(x text) returns text language plpgsql as $$ begin execute x; return x; end $$;
		create function app.twice(x int) returns int language sql as 'select x * 2';
		create function app.names() returns setof plain language sql as 'select * from plain'`)
	snapshot, err := catalog.Read(t.Context(), database.Owner, []string{"authenticated"})
	require.NoError(t, err)
	const anything = "" // as a query: one that everything changes
	for _, test := range []struct {
		written string
		changes []string // queries that it may change
		not     []string
	}{
		{"plain", []string{"select * from plain", "select 1 from PUBLIC.Plain", `select '"', id from plain where name = '"'`, `select "name" from "plain"`, "select * from seen", "select * from through", "select * from app.names()", "with x as (select 1 from plain) select * from x"},
			[]string{"select 1", "select * from other", `select * from "Plainer"`, "select cast(id as text) from other", "select app.twice(id), now(), count(*) from other"}},
		{"other", []string{"select * from other o join plain p on p.id = o.plain_id"}, []string{"select * from plain"}},
		{"Odd Table", []string{`select * from "Odd Table"`}, []string{"select * from odd"}},
		{"members", []string{"select * from members", "select * from guarded", "select * from guarded_too", "select * from queried", "select is_member(1)"}, []string{"select * from simple", "select app.who()"}},
		{"guarded", []string{"select * from guarded"}, []string{"select * from members"}},
		{"queried", nil, []string{"select * from members", "select * from simple"}},
		{"stamped", []string{"select * from stamped"}, []string{"select * from plain"}},
		{"stamped_too", nil, []string{"select * from plain"}},
		{"logged", []string{"select * from log", "select * from log_of_log"}, []string{"select * from plain"}},
		{"log", []string{"select * from log_of_log"}, []string{"select * from logged"}},
		{"dynamic", []string{anything}, nil},
		{"sets", []string{anything}, nil},
		{"truncates", []string{anything}, nil},
		{"paths", []string{anything}, nil},
		{"revokes", []string{anything}, nil},
		{"watching", []string{anything}, nil},
		{"guarded_by_watched", []string{anything}, nil},
		{"settings", []string{anything}, nil},
		{"marks", []string{anything}, nil},
		{"when_", []string{"select * from log_of_log"}, []string{"select * from plain"}},
		{"log", []string{"select defaulted()"}, nil},
		{"हिन्दी", []string{"select * from हिन्दी", `select * from "हिन्दी"`}, []string{"select * from plain"}},
		{"É", []string{"select * from É"}, []string{"select * from plain"}},
		{`x"`, []string{`select * from "x"""`}, []string{"select * from plain"}},
		{"a-b", []string{`select 'a 5" screen' from "a-b"`, `select 'a 5" screen', "a-b".id from "a-b"`}, []string{"select * from plain"}},
		{"a_name_that_is_so_long_that_postgres_keeps_no_more_than_its_fir", []string{"select * from a_name_that_is_so_long_that_postgres_keeps_no_more_than_its_first_part", `select * from "a_name_that_is_so_long_that_postgres_keeps_no_more_than_its_first_part"`}, []string{"select * from plain"}},
		{"reading", nil, []string{"select * from plain"}},
		{"filled", []string{"select * from log_of_log"}, []string{"select * from plain"}},
		{"filled_too", []string{"select * from log_of_log"}, []string{"select * from plain"}},
		{"checked", []string{"select * from log_of_log"}, []string{"select * from plain"}},
		{"numbered", []string{"select last_value from numbered_id_seq"}, []string{"select * from plain"}},
		{"ruled", []string{"select * from log", "select * from log_of_log"}, []string{"select * from plain"}},
		{"compiled", []string{anything}, nil},
		{"parents", []string{"select * from children", "select * from grandchildren"}, []string{"select * from tree"}},
		{"children", []string{"select * from grandchildren"}, []string{"select * from parents"}},
		{"whole", []string{"select * from whole", "select * from part"}, []string{"select * from plain"}},
		// What nobody can tell of.
		{"plain", []string{"select * from simple for update", "select relname from pg_class", "select query_to_xml('…', true, false, '')", `select U&"\0070lain"`, "select currval('x')", "select app.cast('x')", `select "app"."cast"('x')`, "select dblink('…')", "select * from foreign_", "select nextval('x')", "select fill()", "select fill_too()", "select locked()", "create table x ()", "select * from xids", "select * from shuffled", "select app.shuffled()", "select * from watched"}, nil},
	} {
		table := snapshot.Table("public", test.written)
		require.NotNil(t, table, test.written)
		changed := snapshot.ChangedBy(table)
		for _, sql := range test.changes {
			require.True(t, snapshot.ReadBy(sql).Meets(changed) || sql == anything && snapshot.ReadBy("select 1").Meets(changed), "%s, %s", test.written, sql)
		}
		for _, sql := range test.not {
			require.False(t, snapshot.ReadBy(sql).Meets(changed), "%s, %s", test.written, sql)
		}
	}
	for name, want := range map[string]bool{
		"plain": true, "simple": true, "queried": true, "guarded": true, "stamped": true, "logged": true, "parents": true, "numbered": true,
		"recursive": false, "tree": false, "whole": false, "dynamic": false, "ruled": false,
		"rekeyed": false, "remade": false, "chosen": false,
		"called": false, "returned": false, "looped": false, "commented": false, "compares": true,
	} {
		table := snapshot.Table("public", name)
		besides, apart := snapshot.Apart(table, []*catalog.Column{table.Column("id")})
		require.Equal(t, want, apart, name)
		require.Equal(t, name == "queried" || name == "guarded", besides.Meets(snapshot.ChangedBy(snapshot.Table("public", "members"))), name)
	}

	// What no query or trigger says keeps all from being told.
	for _, odd := range []string{
		`create operator === (function = app.same, leftarg = int, rightarg = int)`,
		`create domain short as text check (app.fits(value))`,
		`create cast (text as app.pair) with function app.made(text)`,
	} {
		database := rig.NewDatabase(t)
		database.Exec(t, `create schema app; create type app.pair as (a int, b int); create table other (id int); create table plain (id int);
			create function app.same(int, int) returns boolean language sql as 'select $1 = $2';
			create function app.fits(text) returns boolean language plpgsql as $$ begin return true; end $$;
			create function app.made(text) returns app.pair language sql as 'select 1, 2'`)
		meets := func() bool {
			snapshot, err := catalog.Read(t.Context(), database.Owner, nil)
			require.NoError(t, err)
			return snapshot.ReadBy("select * from other").Meets(snapshot.ChangedBy(snapshot.Table("public", "plain")))
		}
		require.False(t, meets())
		database.Exec(t, odd)
		require.True(t, meets(), odd)
	}
}
