package examples_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	ann  = "9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001"
	ben  = "9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0002"
	carl = "9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0003"

	first  = "11111111-0000-4000-8000-000000000001"
	second = "11111111-0000-4000-8000-000000000002"
	third  = "11111111-0000-4000-8000-000000000003"
)

func op(verb, table, id, data, previous string) string {
	crud := fmt.Sprintf(`{"op":%q,"table":%q,"id":%q`, verb, table, id)
	if data != "" {
		crud += `,"op_data":{` + data + `}`
	}
	if previous != "" {
		crud += `,"previous_values":{` + previous + `}`
	}
	return crud + "}"
}

func TestLists(t *testing.T) {
	t.Parallel()
	w := app(t, "lists")
	upload := func(sub, crud string) string {
		code, _ := w.upload(t, as(t, sub, nil), crud)
		return code
	}
	list := op("PUT", "lists", first, `"name":"Groceries"`, "")
	require.Equal(t, "success", upload(ann, list+","+op("PUT", "list_members", first+":"+ben, "", "")))
	require.Equal(t, ann, w.Text(t, `select owner_id::text from task_lists`))
	task := func(title, at string) string {
		return op("PUT", "tasks", second, fmt.Sprintf(`"list_id":%q,"title":%q,"updated_at":%q`, first, title, at), "")
	}
	require.Equal(t, "success", upload(ben, task("Milk", "2026-01-01T10:00:00Z")), "a member")
	require.Equal(t, ben, w.Text(t, `select created_by::text from tasks`))
	require.Equal(t, "UNAUTHORIZED", upload(carl, op("PATCH", "tasks", second, `"done":1,"updated_at":"2026-01-01T11:00:00Z"`, "")), "a stranger")
	require.Equal(t, "success", upload(ann, op("PATCH", "tasks", second, `"done":1,"updated_at":"2026-01-01T11:00:00Z"`, "")))
	require.Equal(t, "success", upload(ben, op("PATCH", "tasks", second, `"title":"late","updated_at":"2026-01-01T10:30:00Z"`, "")))
	require.Equal(t, "Milk true", w.Text(t, `select title || ' ' || done from tasks`))
	require.Equal(t, "CLOCK_AHEAD", upload(ben, op("PATCH", "tasks", second, `"title":"x","updated_at":"2999-01-01T10:30:00Z"`, "")))
	require.Equal(t, "UNAUTHORIZED", upload(ben, op("PATCH", "lists", first, `"name":"Mine"`, "")))
	require.Equal(t, "NAME_LENGTH", upload(ann, op("PATCH", "lists", first, `"name":""`, "")))
	require.Equal(t, "success", upload(ann, op("PATCH", "lists", first, `"archived":1`, "")))
	code, result := w.upload(t, as(t, ben, nil), op("PUT", "tasks", third, fmt.Sprintf(`"list_id":%q,"title":"Tea","updated_at":"2026-01-01T10:00:00Z"`, first), ""))
	require.Equal(t, "LIST_ARCHIVED", code)
	require.True(t, *result.RequiresClientHandling)
	require.Equal(t, "success", upload(ann, op("DELETE", "tasks", second, "", "")+","+op("DELETE", "lists", first, "", "")))
	require.Equal(t, "0 0 0", w.Text(t, `select (select count(*) from tasks) || ' ' || (select count(*) from task_list_members) || ' ' || (select count(*) from task_lists)`))
}

func TestFieldService(t *testing.T) {
	t.Parallel()
	w := app(t, "fieldservice")
	job := func(name string) map[string]any { return map[string]any{"app_metadata": map[string]any{"job": name}} }
	dispatcher, technician, other := as(t, ann, job("dispatcher")), as(t, ben, job("technician")), as(t, carl, map[string]any{"app_metadata": map[string]any{}})
	outcome := func(crud string) string {
		code, _ := w.upload(t, technician, crud)
		return code
	}
	code, _ := w.upload(t, dispatcher, op("PUT", "work_orders", first, fmt.Sprintf(`"title":"Lift","assignee":%q`, ben), ""))
	require.Equal(t, "success", code)
	code, _ = w.upload(t, other, op("PATCH", "work_orders", first, `"notes":"mine"`, `"notes":null`))
	require.Equal(t, "NOT_YOUR_ORDER", code)

	require.Equal(t, "NOT_A_DISPATCHER", outcome(op("PUT", "work_orders", second, `"title":"x"`, "")))
	code, result := w.upload(t, technician, op("PATCH", "work_orders", first, `"state":"done","signature":"X"`, `"state":"new","signature":null`))
	require.Equal(t, "WRONG_STATE", code)
	require.JSONEq(t, `{"from":"new","to":"done"}`, marshal(t, result.FailedOperation.Details))
	require.Equal(t, "ORDER_NOT_STARTED", outcome(op("PUT", "parts_used", third, fmt.Sprintf(`"order_id":%q,"part":"rope","qty":1`, first), "")))
	require.Equal(t, "success", outcome(
		op("PATCH", "work_orders", first, `"state":"started"`, `"state":"new"`)+","+
			op("PUT", "parts_used", third, fmt.Sprintf(`"order_id":%q,"part":"rope","qty":1`, first), "")))
	w.Exec(t, `update work_orders set title = 'Lift, urgent'`) // the dispatcher, meanwhile
	require.Equal(t, "success", outcome(op("PATCH", "work_orders", first, `"title":"lift","notes":"new rope"`, `"title":"Lift","notes":null`)))
	require.Equal(t, "SIGNATURE_MISSING", outcome(op("PATCH", "work_orders", first, `"state":"done"`, `"state":"started"`)))
	require.Equal(t, "success", outcome(op("PATCH", "work_orders", first, `"state":"done","signature":"Weber"`, `"state":"started","signature":null`)))
	require.Equal(t, "Lift, urgent|done|new rope|Weber", w.Text(t, `select concat_ws('|', title, state, notes, signature) from work_orders`))
	require.Equal(t, "WRONG_STATE", outcome(op("PATCH", "work_orders", first, `"state":"started"`, `"state":"done"`)))
	require.Equal(t, "ROW_NOT_FOUND", outcome(op("PATCH", "work_orders", third, `"notes":"x"`, `"notes":null`)))
	require.Equal(t, `"new">"started", "started">"done"`, w.Text(t, `select string_agg(previous::text || '>' || value::text, ', ' order by n) from work_order_changes where field = 'state' and previous is not null and changed_by = $1`, ben))
}

func TestShop(t *testing.T) {
	t.Parallel()
	w := app(t, "shop")
	w.Exec(t, `insert into products values ($1, 'Tea', 2.50, 10)`, first)
	cashier := as(t, ann, nil)
	sale := func(sale, line string, qty int, price string) string {
		return op("PUT", "sales", sale, `"total":7.50,"sold_at":"2026-01-01T10:00:00Z"`, "") + "," +
			op("PUT", "sale_lines", line, fmt.Sprintf(`"sale_id":%q,"product_id":%q,"qty":%d,"price":%s`, sale, first, qty, price), "") + "," +
			op("PATCH", "products", first, fmt.Sprintf(`"stock":%d`, 8-qty), `"stock":8`) // the till believes in 8
	}
	state := func() string {
		return w.Text(t, `select (select stock from products) || ' ' || (select count(*) from sales) || ' ' || (select count(*) from sale_lines)`)
	}
	for _, step := range []struct{ crud, code, state string }{
		{sale(second, second, 3, "2.50"), "success", "7 1 1"},
		{sale(second, second, 3, "2.50"), "UNIQUE_VIOLATION", "7 1 1"},
		{sale(third, third, 3, "2.00"), "PRICE_CHANGED", "7 1 1"},
		{sale(third, third, 8, "2.50"), "OUT_OF_STOCK", "7 1 1"},
		{op("PUT", "sales", third, `"total":7.50,"sold_at":"2026-01-01T10:00:00Z"`, ""), "EMPTY_SALE", "7 1 1"},
		{op("PATCH", "products", first, `"price":0.01`, ""), "UNAUTHORIZED", "7 1 1"},
		{op("PATCH", "products", first, `"stock":7`, ""), "INVALID_DATA", "7 1 1"},
		{sale(third, third, 7, "2.50"), "success", "0 2 2"},
	} {
		code, result := w.upload(t, cashier, step.crud)
		require.Equal(t, step.code, code, "%s %+v %s", step.crud, result.FailedOperation, w.logs)
		require.Equal(t, step.state, state(), step.crud)
	}
}
