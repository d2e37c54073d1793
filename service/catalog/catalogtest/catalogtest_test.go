package catalogtest_test

import (
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
		create trigger keep before insert or update on everything for each row execute function keep();`)
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
	require.Equal(t, want.Triggers, got.Triggers)
	require.NotNil(t, got.Column("doubled"))
}
