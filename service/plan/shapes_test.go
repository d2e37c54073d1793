package plan_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/plan"
	"postern/service/upload"
)

// TestShapes is that a statement that is remembered is the one that would be rendered, with
// the arguments of the user and the write at hand.
func TestShapes(t *testing.T) {
	t.Parallel()
	title := func(table, id string) upload.Operation { return patch(table, id, `{"title": "`+id+`"}`) }
	for _, test := range []struct {
		name, table, policy string
		operation           func(table, id string) upload.Operation
		renders             bool // it is not remembered
	}{
		{name: "Put", table: "notes", policy: `{allow: all}`, operation: func(table, id string) upload.Operation { return put(table, id, `{"title": "`+id+`"}`) }},
		{name: "PatchOfTableWithRowSecurity", table: "secrets", policy: `{allow: all}`, operation: title},
		{name: "Delete", table: "secrets", policy: `{allow: all}`, operation: remove},
		{name: "OpenTable", table: "secrets", policy: "", operation: title},
		{name: "PutOfOwner", table: "notes", policy: `{allow: all, owner: owner_id}`, operation: func(table, id string) upload.Operation { return put(table, id, `{"title": "`+id+`"}`) }},
		{name: "PatchOfOwner", table: "notes", policy: `{allow: all, owner: owner_id, on_missing: reject}`, operation: title},
		{name: "SoftDelete", table: "notes", policy: `{allow: all, owner: owner_id, soft_delete: gone}`, operation: remove},
		{name: "PutOfSoftlyDeleted", table: "notes", policy: `{allow: all, soft_delete: gone}`, operation: func(table, id string) upload.Operation { return put(table, id, `{"title": "`+id+`"}`) }},
		{name: "KeyOfTwoColumns", table: "members", policy: `{allow: all, id: [list_id, user_id], separator: /}`, operation: func(table, id string) upload.Operation {
			return patch(table, id+"/1", `{"role": "`+id+`"}`)
		}},
		{name: "PatchWithImmutable", table: "notes", policy: `{allow: all, immutable: [price]}`, operation: title},
		{name: "PutWithImmutable", table: "notes", policy: `{allow: all, immutable: [title]}`, renders: true, operation: func(table, id string) upload.Operation { return put(table, id, `{"title": "`+id+`"}`) }},
		{name: "PutUnderARuleOverTheStoredRow", table: "notes", policy: `{allow: all, rules: [` + whole + `]}`, operation: func(table, id string) upload.Operation { return put(table, id, `{"title": "`+id+`"}`) }},
		{name: "PatchUnderARuleOverTheStoredRow", table: "notes", policy: `{allow: all, owner: owner_id, rules: [` + whole + `]}`, operation: title},
		{name: "PutUnderALookup", table: "notes", policy: `{allow: all, rules: [` + lookup("select 1") + `]}`, operation: func(table, id string) upload.Operation { return put(table, id, `{"title": "`+id+`"}`) }},
		{name: "PutUnderALookupOfWhatIsSent", table: "notes", policy: `{allow: all, rules: [` + lookup("select 1 where $new.title = $id and $auth.sub = $auth.role") + `]}`, operation: func(table, id string) upload.Operation { return put(table, id, `{"title": "`+id+`"}`) }},
		{name: "PatchUnderALookupOfTheStoredRow", table: "notes", policy: `{allow: all, rules: [` + lookup("select 1 where $new.title = $old.title") + `]}`, operation: title},
		{name: "DeleteUnderARule", table: "notes", policy: `{allow: all, rules: [{name: r, on: [delete], check: old.title != 'x', code: C, message: m}]}`, operation: remove},
		{name: "ConflictStrategy", table: "notes", policy: `{allow: all, conflict: {version: rev}}`, renders: true, operation: func(table, id string) upload.Operation {
			return after(`{"rev": `+fmt.Sprint(len(id))+`}`, title(table, id))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tables := fmt.Sprintf(`tables: {%s: %s}`, test.table, test.policy)
			if test.policy == "" {
				tables = `tables: {"*": {allow: all, because: RLS decides}}`
			}
			p := newPlanner(t, shop, tables)
			fresh := *p
			p.Shapes = plan.NewShapes(p.Set, p.Tables)
			sent(t, p, test.operation(test.table, "first"), test.operation(test.table, "other"))
			remembered := p.Shapes.Bytes()
			require.Equal(t, test.renders, remembered == 0)

			p.Who.Subject, fresh.Who.Subject = "another", "another"
			operations := []upload.Operation{test.operation(test.table, "a"), test.operation(test.table, "bb")}
			got, want := sent(t, p, operations...), sent(t, &fresh, operations...)
			require.Equal(t, remembered, p.Shapes.Bytes(), "nothing is rendered again")
			for i := range want {
				require.Equal(t, want[i].SQL, got[i].SQL)
				require.Equal(t, args(want[i].Statement), args(got[i].Statement))
				require.Equal(t, want[i].Columns, got[i].Columns)
				require.Equal(t, reads(want[i]), reads(got[i]))
			}
		})
	}
}

// reads are the queries of an operation's rules.
func reads(o *plan.Operation) []string {
	if o.Checks == nil {
		return nil
	}
	return append(queries(o.Checks.Before()), queries(o.Checks.After())...)
}

// TestShapesOfRules has a write under a rule that what was sent decides for one row, and the
// stored row for the next.
func TestShapesOfRules(t *testing.T) {
	t.Parallel()
	p := newPlanner(t, shop, `tables: {notes: {allow: all, rules: [{name: r, when: data.title != 'free', check: old == null, code: C, message: m}]}}`)
	p.Shapes = plan.NewShapes(p.Set, p.Tables)
	title := func(id, title string) upload.Operation { return put("notes", id, `{"title": "`+title+`"}`) }
	for range 2 { // rendered, and remembered
		got := sent(t, p, title("1", "free"), title("2", "bound"), title("3", "free"))
		for i, judges := range []bool{false, true, false} {
			require.Equal(t, judges, strings.Contains(got[i].SQL, "postern.seen"), i)
			require.Equal(t, judges, got[i].Checks != nil, i)
		}
	}
}

// TestShapesOfRoles is that checks are not remembered for a role that may not lock the row,
// nor for a value that Postgres may store in another way.
func TestShapesOfRoles(t *testing.T) {
	t.Parallel()
	p := newPlanner(t, shop, `tables: {notes: {allow: all, rules: [{name: r, check: old == null || new.price > 0.0, code: C, message: m}]}}`)
	fresh := *p
	p.Shapes = plan.NewShapes(p.Set, p.Tables)
	for range 2 { // rendered, and remembered
		for _, role := range []string{"authenticated", "anon"} {
			for _, price := range []string{"1", "1.234567"} {
				p.Who.Role, fresh.Who.Role = role, role
				operation := put("notes", "1", `{"price": `+price+`}`)
				require.Equal(t, reads(sent(t, &fresh, operation)[0]), reads(sent(t, p, operation)[0]), "%s %s", role, price)
			}
		}
	}
}

// TestShapesAreOfOneCatalogue is that a write never gets a statement that was rendered for
// another catalogue or other policies, even if it finds their shapes.
func TestShapesAreOfOneCatalogue(t *testing.T) {
	t.Parallel()
	const policies = `tables: {notes: {allow: all}}`
	p := newPlanner(t, shop, policies)
	shapes := plan.NewShapes(p.Set, p.Tables)
	p.Shapes = shapes
	operation := remove("notes", "1")
	require.NotContains(t, sent(t, p, operation)[0].SQL, "explain_no_row")

	secured := newPlanner(t, strings.Replace(shop, `"name": "notes",`, `"name": "notes", "row_security": true,`, 1), policies)
	require.False(t, shapes.AreFor(p.Set, secured.Tables))
	require.False(t, shapes.AreFor(secured.Set, p.Tables))
	require.True(t, shapes.AreFor(p.Set, p.Tables))
	secured.Shapes = shapes
	require.Contains(t, sent(t, secured, operation)[0].SQL, "explain_no_row")

	soft := *p
	soft.Set = newPlanner(t, shop, `tables: {notes: {allow: all, soft_delete: gone}}`).Set
	require.Contains(t, sent(t, &soft, operation)[0].SQL, "update")
}

// TestShapesAreBounded is that a client cannot fill the memory with columns that it chooses,
// also while others plan.
func TestShapesAreBounded(t *testing.T) {
	t.Parallel()
	var columns strings.Builder
	names := make([]string, 200)
	for i := range names {
		names[i] = fmt.Sprintf("column_with_a_long_name_%d", i)
		fmt.Fprintf(&columns, `, {"name": %q, "type": "text", "is": "text"}`, names[i])
	}
	p := newPlanner(t, `{"tables": [{"schema": "public", "name": "wide", "primary_key": ["id"], "columns": [{"name": "id", "type": "text", "is": "text", "not_null": true}`+columns.String()+`]}]}`,
		`tables: {"*": {allow: all, because: RLS decides}}`)
	p.Shapes = plan.NewShapes(p.Set, p.Tables)
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			p := *p
			for i := range names {
				data := make([]upload.Member, 0, len(names))
				for _, name := range names[client*i/4 : i+1] {
					data = append(data, upload.Member{Name: name, Value: []byte("1")})
				}
				_, _, rejection, err := p.Transaction(t.Context(), upload.Transaction{Operations: []upload.Operation{{Op: upload.Put, Table: "wide", ID: "1", Data: data}}})
				if rejection != nil || err != nil || p.Shapes.Bytes() > plan.MaxShapes {
					t.Error(rejection, err, p.Shapes.Bytes())
				}
			}
		})
	}
	clients.Wait()
}
