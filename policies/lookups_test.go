package policies_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
)

// TestLookups has a lookup's parameters within and beside what SQL quotes.
func TestLookups(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, sql, want string }{
		{"None", `select 1`, `select 1`},
		{"NewColumn", `select 1 from lists where id = $new.list_id`, `select 1 from lists where id = <new.list_id>`},
		{"OldColumn", `select $old.qty`, `select <old.qty>`},
		{"ID", `select $id`, `select <id>`},
		{"Auth", `select $auth.sub, $auth.role`, `select <auth.sub>, <auth.role>`},
		{"Twice", `select $id = $id`, `select <id> = <id>`},
		{"Adjacent", `select $id$id`, `select <id><id>`},
		{"Cast", `select $auth.sub::uuid`, `select <auth.sub>::uuid`},
		{"With", `with l as (select $id) select * from l`, `with l as (select <id>) select * from l`},
		{"Text", `select '$id' || $id`, `select '$id' || <id>`},
		{"QuoteInText", `select 'it''s $id' || $id`, `select 'it''s $id' || <id>`},
		{"BackslashInText", `select '\' || $id`, `select '\' || <id>`},
		{"EscapedText", `select E'\'$id' || $id`, `select E'\'$id' || <id>`},
		{"EscapedBackslash", `select e'\\' || $id`, `select e'\\' || <id>`},
		{"Identifier", `select "$id""$id" from x where $id`, `select "$id""$id" from x where <id>`},
		{"LineComment", "select 1 -- $id it's\n, $id", "select 1 -- $id it's\n, <id>"},
		{"LineCommentAtTheEnd", "select $id -- $id", "select <id> -- $id"},
		{"BlockComment", `select /* $id it's */ $id`, `select /* $id it's */ <id>`},
		{"NestedComment", `select /* a /* $id */ $id */ $id`, `select /* a /* $id */ $id */ <id>`},
		{"CommentFirst", "/* why */ select $id", "/* why */ select <id>"},
		{"DollarQuote", `select $$ $id 'x $$ || $id`, `select $$ $id 'x $$ || <id>`},
		{"TaggedDollarQuote", `select $a$ $$ $id $a$ || $id`, `select $a$ $$ $id $a$ || <id>`},
		{"DollarWithinWord", `select a$id$ from x where y = $id`, `select a$id$ from x where y = <id>`},
		{"SemicolonInText", `select ';' || $id`, `select ';' || <id>`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			table := tableOf(t, fmt.Sprintf("rules: [{name: r, check: lookup.l != null, code: R, message: m, lookup: {l: %q}}]", test.sql))
			require.Len(t, table.Rules[0].Lookups, 1)
			lookup := table.Rules[0].Lookups[0]
			sql := lookup.SQL(func(p policies.Parameter) string {
				if p.Column == "" {
					return "<" + p.From + ">"
				}
				return "<" + p.From + "." + p.Column + ">"
			})
			require.Equal(t, "select to_jsonb(q.*) from ("+test.want+"\n) as q limit 1", sql)
		})
	}
}

// TestParameters has the types that a lookup's parameters get.
func TestParameters(t *testing.T) {
	t.Parallel()
	table := tableOf(t, "rules: [{name: r, check: lookup.l != null, code: R, message: m, lookup: {l: 'select $new.qty, $id'}}]")
	lookup := table.Rules[0].Lookups[0]
	require.True(t, lookup.HasParameter(func(p policies.Parameter) bool { return p.From == "new" && p.Column == "qty" }))
	require.False(t, lookup.HasParameter(func(p policies.Parameter) bool { return p.From == "old" }))
	sql := lookup.SQL(func(p policies.Parameter) string {
		if p.From == "new" {
			require.Equal(t, `t."qty"`, p.ColumnOf("t"))
		}
		return p.Typed("$1")
	})
	require.Contains(t, sql, "select coalesce($1, ")
	require.Contains(t, sql, ", $1\n)")
}
