package plan_test

import (
	"fmt"
	"testing"

	"postern/service/plan"
	"postern/service/upload"
)

// BenchmarkTransaction plans transactions of a thousand operations and more, each of a
// shape whose work could grow faster than its size. ns/operation says whether it does.
func BenchmarkTransaction(b *testing.B) {
	const open = `tables: {"*": {allow: all, because: RLS decides}}`
	for _, shape := range []struct {
		name, tables, policies string
		operation              func(i, n int) upload.Operation
	}{
		{"OneTable", shop, open, func(i, _ int) upload.Operation { return put("notes", fmt.Sprint(i), `{"title": "a", "qty": 1}`) }},
		{"RowsOfOwner", shop, `tables: {notes: {allow: all, owner: owner_id}}`, func(i, _ int) upload.Operation { return patch("notes", fmt.Sprint(i), `{"title": "a"}`) }},
		{"Deletes", tree, open, func(i, _ int) upload.Operation { return remove("books", fmt.Sprint(i)) }},
		{"OneRow", shop, open, func(i, _ int) upload.Operation { return patch("notes", "1", `{"title": "a"}`) }},
		{"ChildrenFirst", tree, open, func(i, n int) upload.Operation {
			if i < n/2 {
				return put("todos", fmt.Sprint(i), fmt.Sprintf(`{"list_id": "%d"}`, i))
			}
			return put("lists", fmt.Sprint(i-n/2), `{}`)
		}},
		{"ChildrenOfOneRow", tree, open, func(i, n int) upload.Operation {
			if i%2 == 0 {
				return put("todos", fmt.Sprint(i), `{"list_id": "1"}`)
			}
			return put("lists", "1", `{}`)
		}},
		{"ParentsInReverse", tree, open, func(i, n int) upload.Operation {
			return put("nodes", fmt.Sprint(i), fmt.Sprintf(`{"parent_id": "%d"}`, i+1))
		}},
		{"ParentsDeletedFirst", tree, open, func(i, n int) upload.Operation {
			if i < n/2 {
				return remove("lists", fmt.Sprint(i))
			}
			return remove("todos", fmt.Sprint(i))
		}},
		{"DeletedAndMoved", tree, open, func(i, n int) upload.Operation {
			if i < n/2 {
				return remove("books", fmt.Sprint(i))
			} else if i < n-1 {
				return put("todos", fmt.Sprint(i), `{"list_id": "1"}`)
			}
			return put("lists", "1", `{}`)
		}},
		{"DeletedAndMadeAgain", tree, open, func(i, n int) upload.Operation {
			switch i % 3 {
			case 0:
				return remove("lists", "1")
			case 1:
				return put("todos", fmt.Sprint(i), `{"list_id": "1"}`)
			}
			return put("lists", "1", `{}`)
		}},
		{"RuleOverWhatWasSent", shop, `tables: {notes: {allow: all, rules: [{name: r, when: has(data.title), check: size(data.title) <= 200 && new.qty >= 0, code: R, message: m}]}}`, func(i, _ int) upload.Operation {
			return put("notes", fmt.Sprint(i), `{"title": "a", "qty": 1}`)
		}},
		{"RuleOverStoredRows", shop, `tables: {notes: {allow: all, rules: [{name: r, check: old.title != new.title, code: R, message: m}]}}`, func(i, _ int) upload.Operation {
			return patch("notes", fmt.Sprint(i), `{"title": "a"}`)
		}},
		{"RuleOverOthers", shop, `tables: {notes: {allow: all, rules: [{name: r, check: "tx.of('notes', 'title', id).size() < 2", code: R, message: m}]}}`, func(i, _ int) upload.Operation {
			return put("notes", fmt.Sprint(i), fmt.Sprintf(`{"title": "%d"}`, i))
		}},
		{"RuleOverTheTransaction", shop, `{transaction: {rules: [{name: r, check: "tx.all(o, o.table == 'notes' && o.data.title == 'a')", code: R, message: m}]}, tables: {notes: {allow: all}}}`, func(i, _ int) upload.Operation {
			return put("notes", fmt.Sprint(i), `{"title": "a"}`)
		}},
	} {
		p := newPlanner(b, shape.tables, shape.policies)
		for _, n := range []int{1_000, 10_000, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", shape.name, n), func(b *testing.B) {
				operations := make([]upload.Operation, n)
				for i := range operations {
					operations[i] = shape.operation(i, n)
				}
				b.ReportAllocs()
				for b.Loop() {
					orders, _, rejection, err := p.Transaction(b.Context(), upload.Transaction{Operations: operations})
					if err != nil || rejection != nil {
						b.Fatal(err, rejection)
					}
					if _, err := plan.LocksOf(b.Context(), orders[:1], nil, nil); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/operation")
			})
		}
	}
}
