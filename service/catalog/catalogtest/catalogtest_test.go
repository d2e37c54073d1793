package catalogtest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/catalog"
	"postern/service/catalog/catalogtest"
	"postern/tests/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// TestFile writes a database's catalogue to a file and reads it again.
func TestFile(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `
		create type mood as enum ('fine', 'so so');
		create type place as (street text, number int, moods mood[]);
		create domain short as varchar(10) not null;
		create table parents (a int, b text, primary key (a, b));
		create table everything (
		  id bigint generated always as identity primary key, name short, mood mood default 'fine', moods mood[], place place, places place[],
		  during tstzrange, gaps int4multirange, price numeric(10,2), doubled numeric generated always as (price * 2) stored,
		  a int, b text, parent bigint references everything deferrable, foreign key (a, b) references parents);
		alter table everything enable row level security;
		grant select, update (name) on everything to authenticated;
		create function keep() returns trigger language plpgsql as $$begin return new; end$$;
		create trigger keep before insert or update on everything for each row execute function keep();
		create trigger keep_after after delete on everything for each row execute function keep();`)
	read, err := catalog.Read(t.Context(), database.Owner, []string{"authenticated"})
	require.NoError(t, err)
	file, err := catalogtest.Marshal(read)
	require.NoError(t, err)
	loaded := catalogtest.Parse(t, file)
	again, err := catalogtest.Marshal(loaded)
	require.NoError(t, err)
	require.Equal(t, string(file), string(again))
	want, got := read.Table("public", "everything"), loaded.Table("public", "everything")
	require.Equal(t, want.SQL(), got.SQL())
	require.Equal(t, want.Columns, got.Columns)
	require.Equal(t, []string{"INSERT", "UPDATE"}, got.Triggers)
	require.True(t, got.OtherTriggers)
	require.NotNil(t, got.Column("doubled"))
}

// TestSchema is another hash after each change of what policies are compiled against, and
// the same one after others.
func TestSchema(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `
		create type mood as enum ('fine');
		create table things (id int primary key, mood mood, moods mood[], name text);
		create table replaced (id int primary key, mood mood, moods mood[], name text);`)
	schema := func() string {
		s, err := catalog.Read(t.Context(), database.Owner, []string{"authenticated"})
		require.NoError(t, err)
		return s.Schema
	}
	before := schema()
	for _, test := range []struct {
		change  string
		another bool
	}{
		{`alter type mood add value 'so so'`, true},
		{`alter table things rename to gone`, true},
		{`alter table replaced rename to things`, true},
		{`create schema other`, false},
		{`alter table gone set schema other`, true},
		{`alter table things add constraint named check (name <> '')`, true},
		{`alter table things rename constraint named to renamed`, true},
		{`create unique index one on things (name)`, true},
		{`alter table things drop constraint replaced_pkey`, true},
		{`grant select on things to authenticated`, false},
		{`insert into things values (1)`, false},
		{`analyze things`, false},
	} {
		database.Exec(t, test.change)
		after := schema()
		require.Equal(t, test.another, before != after, test.change)
		before = after
	}
}

// TestRefresh reads the tables again only if something has changed that a snapshot shows.
func TestRefresh(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `
		create type mood as enum ('fine');
		create table parents (id int primary key);
		create table things (id int primary key, parent int, mood mood, name varchar(3), doubled int generated always as (id * 2) stored);
		create function keep() returns trigger language plpgsql as $$begin return new; end$$;`)
	// Only one test may change roles, which all databases share.
	role := "refresh_" + database.Text(t, `select current_database()`)
	database.Exec(t, `create role `+role)
	t.Cleanup(func() {
		_, _ = database.Owner.Exec(context.WithoutCancel(t.Context()), `reassign owned by `+role+` to current_user; drop owned by `+role+`; drop role `+role)
	})
	c := catalog.New(database.Owner, []string{"authenticated", role})
	things := func() *catalog.Table {
		require.NoError(t, c.Refresh(t.Context()))
		return c.Snapshot().Table("public", "things")
	}
	before, at := things(), c.Snapshot().ReadAt
	for _, test := range []struct {
		change string
		reads  bool
	}{
		{`insert into things (id) select n from generate_series(1, 1000) n`, false},
		{`analyze things`, false},
		{`update things set parent = 1`, false},
		{`alter type mood add value 'so so'`, true},
		{`alter table things alter name type varchar(4)`, true},
		{`alter table things alter name type text`, true},
		{`alter table things alter doubled drop expression`, true},
		{`alter table things alter parent set default 1`, true},
		{`alter table things alter parent set not null`, true},
		{`alter table things enable row level security`, true},
		{`grant select on things to ` + role, true},
		{`grant insert (name) on things to ` + role, true},
		{`grant ` + role + ` to authenticated`, true},
		{`alter role ` + role + ` in database ` + database.Text(t, `select current_database()`) + ` set statement_timeout = '1s'`, true},
		{`create unique index named on things (name)`, true},
		{`drop index named`, true},
		{`create trigger keep before update on things for each row execute function keep()`, true},
		{`alter function keep() rename to hold`, true},
		{`alter table things add foreign key (parent) references parents not valid`, true},
		{`create view seen as select id from things`, true},
		{`create domain short as varchar(10)`, true},
		{`create schema other`, true},
		{`create table others (id int primary key)`, true},
	} {
		database.Exec(t, test.change)
		after := things()
		require.Equal(t, test.reads, before != after, test.change)
		require.True(t, c.Snapshot().ReadAt.After(at))
		before, at = after, c.Snapshot().ReadAt
	}
}
