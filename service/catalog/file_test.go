package catalog_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/catalog"
	"postern/tests/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// TestFile writes a database's catalogue to a file and reads it again: it is the
// same but for what is the database's own.
func TestFile(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `
		create type mood as enum ('fine', 'so so');
		create type place as (street text, number int, moods mood[]);
		create domain short as varchar(10) not null;
		create schema "Other ""Schema""";
		create table "Other ""Schema"".things" (id int primary key);
		create table "Other ""Schema""".parents (a int, b text, primary key (a, b));
		create table everything (
		  id bigint generated always as identity primary key, name short, mood mood default 'fine', moods mood[], place place, places place[],
		  during tstzrange, gaps int4multirange, price numeric(10,2), doubled numeric generated always as (price * 2) stored,
		  a int, b text, parent bigint references everything deferrable, foreign key (a, b) references "Other ""Schema""".parents);
		alter table everything enable row level security;
		grant select, update (name) on everything to authenticated;
		create function keep() returns trigger language plpgsql as $$begin return new; end$$;
		create trigger keep before insert or update on everything for each row execute function keep();`)
	read, err := catalog.Read(t.Context(), database.Owner, []string{"authenticated"})
	require.NoError(t, err)
	file, err := read.MarshalJSON()
	require.NoError(t, err)
	loaded, err := catalog.Load(file)
	require.NoError(t, err)

	again, err := loaded.MarshalJSON()
	require.NoError(t, err)
	require.Equal(t, string(file), string(again))
	require.NotEmpty(t, loaded.Schema)
	require.Equal(t, read.Deferred, loaded.Deferred)
	require.Equal(t, read.Settings("authenticated"), loaded.Settings("authenticated"))
	require.Equal(t, read.Bounds("authenticated", "statement_timeout", time.Hour), loaded.Bounds("authenticated", "statement_timeout", time.Hour))
	require.Len(t, loaded.Tables(), len(read.Tables()))
	for _, want := range read.Tables() {
		got := loaded.Table(want.Schema, want.Name)
		require.Equal(t, want.SQL(), got.SQL())
		require.Equal(t, want.Columns, got.Columns)
		require.Equal(t, want.PrimaryKey, got.PrimaryKey)
		require.ElementsMatch(t, want.Uniques, got.Uniques)
		require.Equal(t, fmt.Sprint(want.Grants), fmt.Sprint(got.Grants), "an empty list is as good as none")
		require.Equal(t, want.Triggers, got.Triggers)
		require.Equal(t, want.RowSecurity, got.RowSecurity)
		require.Equal(t, keys(read, want), keys(loaded, got))
	}
}

// keys are a table's foreign keys with names in the place of OIDs.
func keys(s *catalog.Snapshot, t *catalog.Table) (named [][4]any) {
	for _, k := range t.ForeignKeys {
		named = append(named, [4]any{k.Name, s.TableByOID(k.References).String(), [2][]string{k.Columns, k.Targets}, [2]bool{k.Deferrable, k.Restricts}})
	}
	slices.SortFunc(named, func(a, b [4]any) int { return cmp.Compare(a[0].(string), b[0].(string)) })
	return named
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for content, problem := range map[string]string{
		``:                      "the catalogue file",
		`{"tables":[{}],"x":1}`: "unknown object member name",
		`{"tables":[{"schema":"public","name":"t","columns":[{"name":"a","type":"x"}]}]}`:                                                                     `column "a" has no type`,
		`{"tables":[{"schema":"public","name":"t","columns":[{"name":"a","type":"x","is":{"name":"_x","kind":"a"}}]}]}`:                                       `column "a" has no type`,
		`{"tables":[{"schema":"public","name":"t","columns":[{"name":"a","type":"x","is":{"name":"x","kind":"z"}}]}]}`:                                        `kind "z"`,
		`{"tables":[{"schema":"public","name":"t","columns":[],"primary_key":["id"]}]}`:                                                                       `its key's column "id" is missing`,
		`{"tables":[{"schema":"public","name":"t","columns":[],"foreign_keys":[{"name":"f","references":"u","schema":"public","columns":[],"targets":[]}]}]}`: "foreign key f refers to nothing",
	} {
		_, err := catalog.Load([]byte(content))
		require.ErrorContains(t, err, problem, content)
	}
}
