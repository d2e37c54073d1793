package policies

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/catalog"
)

// TestIsOwned has conditions of row-level security as Postgres prints them.
func TestIsOwned(t *testing.T) {
	t.Parallel()
	for condition, want := range map[string]bool{
		"(owner_id = auth.uid())":                                  true,
		"(auth.uid() = owner_id)":                                  true,
		"(( SELECT auth.uid() AS uid) = owner_id)":                 true,
		"(owner_id = ( SELECT auth.uid() AS uid))":                 true,
		"((owner_id)::text = auth.user_id())":                      true,
		"(auth.user_id() = (owner_id)::text)":                      true,
		"(( SELECT (auth.user_id())::uuid AS user_id) = owner_id)": true,
		"((owner_id = auth.uid()) AND (archived = false))":         true,
		"((owner_id = auth.uid()) OR is_admin())":                  false,
		"(NOT (owner_id = auth.uid()))":                            false,
		"(co_owner_id = auth.uid())":                               false,
		"(owner_id = other_id)":                                    false,
		"true":                                                     false,
		"":                                                         false,
		"(EXISTS ( SELECT 1 FROM lists WHERE (lists.owner_id = auth.uid())))":      false,
		"(list_id IN ( SELECT l.id FROM lists l WHERE (l.owner_id = auth.uid())))": false,
		"(list_id IN ( SELECT lists.id FROM lists WHERE (owner_id = auth.uid())))": false,
	} {
		require.Equal(t, want, isOwned(condition, "owner_id"), condition)
	}
}

// TestSuggestions has tables, and the keys that their columns suggest.
func TestSuggestions(t *testing.T) {
	t.Parallel()
	column := func(name, kind string) catalog.Column {
		return catalog.Column{Name: name, Type: &catalog.Type{Name: kind, Kind: catalog.Base}}
	}
	own := func(command string) RowPolicy {
		return RowPolicy{Schema: "public", Table: "t", Command: command, Using: "(owner_id = auth.uid())", Roles: []string{"authenticated"}}
	}
	shared := RowPolicy{Schema: "public", Table: "t", Command: "UPDATE", Using: "is_member(id)", Roles: []string{"authenticated"}}
	for _, test := range []struct {
		name     string
		columns  []catalog.Column
		security []RowPolicy
		def      string // of the first column
		want     string // the first words of each line
	}{
		{"OwnerInOnePolicy", []catalog.Column{column("owner_id", "uuid")}, []RowPolicy{own("ALL")}, "", "owner: owner_id"},
		{"OwnerInEachPolicy", []catalog.Column{column("owner_id", "uuid")}, []RowPolicy{own("INSERT"), own("UPDATE"), own("DELETE")}, "", "owner: owner_id"},
		{"OwnerOfReadersToo", []catalog.Column{column("owner_id", "uuid")}, []RowPolicy{own("ALL"), {Schema: "public", Table: "t", Command: "SELECT", Using: "true", Roles: []string{"public"}}}, "", "owner: owner_id"},
		{"OthersMayWrite", []catalog.Column{column("owner_id", "uuid")}, []RowPolicy{own("ALL"), shared}, "", ""},
		{"OwnerByNameAlone", []catalog.Column{column("owner_id", "uuid")}, []RowPolicy{shared}, "", ""},
		{"OwnerOfAnotherName", []catalog.Column{column("author", "uuid")}, []RowPolicy{{Schema: "public", Table: "t", Command: "ALL", Using: "(author = auth.uid())", Roles: []string{"public"}}}, "", "owner: author"},
		{"Creation", []catalog.Column{column("joined_at", "timestamptz")}, nil, "now()", "# set: {joined_at: now}|# immutable: [joined_at]"},
		{"CreationWithoutDefault", []catalog.Column{column("created_at", "timestamptz")}, nil, "", ""},
		{"CreationByAnotherDefault", []catalog.Column{column("created_at", "timestamptz")}, nil, "'2026-01-01 00:00:00+00'::timestamp with time zone", ""},
		{"ChangeWithDefault", []catalog.Column{column("updatedAt", "timestamptz")}, nil, "CURRENT_TIMESTAMP", "# conflict: {newest: updatedAt}"},
		{"Version", []catalog.Column{column("lock_version", "int4")}, nil, "1", "# conflict: {version: lock_version}"},
		{"VersionThatIsAText", []catalog.Column{column("version", "text")}, nil, "", ""},
		{"DeletedAt", []catalog.Column{column("deleted_at", "timestamptz")}, nil, "", "# soft_delete: deleted_at"},
		{"IsDeleted", []catalog.Column{column("isDeleted", "bool")}, nil, "false", "# soft_delete: isDeleted"},
		{"DeletedThatIsAText", []catalog.Column{column("deleted", "text")}, nil, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			table := &catalog.Table{Schema: "public", Name: "t", RowSecurity: true, Columns: test.columns, PrimaryKey: []string{"id"}}
			s := newStarter(table, test.security, "authenticated")
			s.defaults = []ColumnDefault{{"public", "t", test.columns[0].Name, test.def}}
			var got []string
			for _, line := range s.suggestions() {
				before, _, _ := strings.Cut(strings.TrimPrefix(line, "    "), " # ")
				got = append(got, before)
			}
			require.Equal(t, test.want, strings.Join(got, "|"))
		})
	}
}
