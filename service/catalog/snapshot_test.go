package catalog

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDuration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Milliseconds", "1500", 1500 * time.Millisecond},
		{"MillisecondsWithTheUnit", "1500ms", 1500 * time.Millisecond},
		{"Microseconds", "250us", 250 * time.Microsecond},
		{"Seconds", "8s", 8 * time.Second},
		{"SpaceBeforeTheUnit", "8 s", 8 * time.Second},
		{"Fraction", "1.5s", 1500 * time.Millisecond},
		{"Minutes", "2min", 2 * time.Minute},
		{"Hours", "1h", time.Hour},
		{"Days", "1d", 24 * time.Hour},
		{"Off", "0", 0},
		{"UnknownUnit", "8 weeks", 0},
		{"Word", "default", 0},
		{"Empty", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, duration(c.value))
		})
	}
}

func TestHasTimeoutWithin(t *testing.T) {
	t.Parallel()
	const timeout = "statement_timeout"
	for _, c := range []struct {
		name     string
		settings []Setting
		want     bool
	}{
		{"None", nil, false},
		{"AnotherTimeout", []Setting{{"lock_timeout", "1s"}}, false},
		{"Shorter", []Setting{{timeout, "8s"}}, true},
		{"Equal", []Setting{{timeout, "10s"}}, true},
		{"Longer", []Setting{{timeout, "1min"}}, false},
		{"Off", []Setting{{timeout, "0"}}, false},
		{"Unreadable", []Setting{{timeout, "soon"}}, false},
		{"LastOneLonger", []Setting{{timeout, "8s"}, {"lock_timeout", "1s"}, {timeout, "1min"}}, false},
		{"LastOneShorter", []Setting{{timeout, "1min"}, {timeout, "8s"}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &Snapshot{settings: map[string][]Setting{"authenticated": c.settings, "anon": {{timeout, "1s"}}}}
			require.Equal(t, c.want, s.HasTimeoutWithin("authenticated", timeout, 10*time.Second))
		})
	}
}

func TestHasUniqueIndex(t *testing.T) {
	t.Parallel()
	table := &Table{Uniques: [][]string{{"id"}, {"owner", "name"}}}
	for _, c := range []struct {
		name    string
		columns []string
		want    bool
	}{
		{"OneColumn", []string{"id"}, true},
		{"TwoColumns", []string{"owner", "name"}, true},
		{"OtherOrder", []string{"name", "owner"}, true},
		{"PartOfAnIndex", []string{"owner"}, false},
		{"MoreThanAnIndex", []string{"id", "name"}, false},
		{"ColumnTwice", []string{"owner", "owner"}, false},
		{"NoColumn", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, table.HasUniqueIndex(c.columns))
		})
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	table := &Table{
		OID: 7, Schema: "Other", Name: "say \"hi\"", Triggers: []string{"UPDATE"}, sql: `"Other"."say ""hi"""`,
		byName: map[string]*Column{"id": {Name: "id", sql: `"id"`}},
	}
	s := &Snapshot{tables: map[[2]string]*Table{{"Other", "say \"hi\""}: table}, byOID: map[uint32]*Table{7: table}}
	require.Same(t, table, s.Table("Other", `say "hi"`))
	require.Nil(t, s.Table("public", `say "hi"`))
	require.Same(t, table, s.TableByOID(7))
	require.Nil(t, s.TableByOID(8))
	require.Equal(t, `Other.say "hi"`, table.String())
	require.Equal(t, `"Other"."say ""hi"""`, table.SQL())
	require.Equal(t, `"id"`, table.Column("id").SQL())
	require.Nil(t, table.Column("ID"))
	require.Equal(t, `(null::"Other"."say ""hi""")."id"`, table.Null(table.Column("id")))
	require.True(t, table.HasBeforeTrigger("UPDATE"))
	require.False(t, table.HasBeforeTrigger("DELETE"))
}

func TestResolve(t *testing.T) {
	t.Parallel()
	varchar := &Type{Name: "varchar", Kind: Base}
	types := &typeTable{byOID: map[uint32]*Type{1: varchar}, domains: map[uint32]domain{2: {1, 9}, 3: {2, -1}, 4: {99, -1}}}
	for _, c := range []struct {
		name     string
		oid      uint32
		want     *Type
		modifier int32
	}{
		{"Type", 1, varchar, 24},
		{"Domain", 2, varchar, 9},
		{"DomainOverADomain", 3, varchar, 9},
		{"DomainOverAnUnknownType", 4, unknown, -1},
		{"UnknownType", 99, unknown, 24},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, modifier := types.resolve(c.oid, 24)
			require.Same(t, c.want, got)
			require.Equal(t, c.modifier, modifier)
		})
	}
}
