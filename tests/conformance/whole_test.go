package conformance_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

var wholeRows = `
	truncate orders, lines, staff, seats, tickets, many, leaves;
	insert into orders values ('o1', 80, false), ('o2', 30, false), ('hidden', 10, true);
	insert into lines values ('l1', 'o1', 50), ('l2', 'o1', 30), ('l3', 'o2', 30), ('lh', 'hidden', 1);
	insert into leaves values ('f1', 'oak'), ('f2', 'oak');
	insert into staff values ('` + rig.UserID("boss") + `', 'admin');
	insert into many select gen_random_uuid(), '00000000-0000-4000-8000-000000000001' from generate_series(1, 1001);`

// setupWhole has rules over whole transactions that look at rows as they will be.
func setupWhole(t *testing.T) *testBundle {
	t.Helper()
	return setupSchema(t, `
		create table orders (id text primary key, total numeric not null default 0, secret boolean not null default false);
		create table lines (id text primary key, order_id text references orders on delete cascade, amount numeric not null default 0, gone boolean not null default false);
		create table staff (sub text primary key, role text);
		create table seats (room int, seat int, taken_by text, primary key (room, seat));
		create table tickets (id text primary key, room int, note text);
		create table many (id uuid primary key, of_id uuid);
		create function to_first_room() returns trigger language plpgsql as $$ begin if new.note = 'anywhere' then new.room := 1; end if; return new; end $$;
		create trigger to_first_room before insert or update on tickets for each row execute function to_first_room();
		alter table orders enable row level security;
		create policy visible on orders to authenticated using (not secret);
		grant select, insert, update, delete on orders, lines, seats, tickets, many to authenticated;
		create table leaves (id text primary key, tree text);
		grant select, insert, delete on leaves to authenticated;
		grant select on staff to authenticated;`+wholeRows, `
let:
  me: {lookup: select role from staff where sub = $auth.sub}
tables:
  orders: {allow: all, columns: {sum: total}}
  order_lines: {table: lines, allow: all, columns: {order: order_id}}
  lines: {allow: all, soft_delete: gone}
  seats: {allow: all, id: [room, seat]}
  tickets: {allow: all}
  leaves: {allow: [create, delete]}
  many: {allow: all}
transaction:
  rules:
    - name: lines-add-up
      each: {orders: id, lines: order_id}
      lookup:
        order: select total from orders where id = $each
        lines: {rows: select amount from lines where order_id = $each and not gone}
      check: lookup.order == null || sum(lookup.lines.map(line, line.amount)) == lookup.order.total
      code: SUM_DIFFERS
      message: The lines do not add up to the total
      details: {of: each, lines: "lookup.lines.map(line, line.amount).sort()"}
    - name: three-seats-in-a-room
      when: me == null || me.role != 'admin'
      each: {seats: room, tickets: room}
      lookup: {taken: select (select count(*) from seats where room = $each) + (select count(*) from tickets where room = $each) as n}
      check: lookup.taken.n <= 3
      code: FULL
      message: The room has three seats
      details: {room: each + 0}
    - name: two-seats-each
      when: tx.of('seats').size() > 0
      lookup: {mine: {rows: select room from seats where taken_by = $auth.sub}}
      check: lookup.mine.size() <= 2 && lookup.mine.map(s, s.room).distinct().size() <= 1
      code: TWO_SEATS
      message: You have two seats
    - name: a-tree-has-a-leaf
      each: {leaves: tree}
      lookup: {leaf: select id from leaves where tree = $each}
      check: lookup.leaf != null
      code: BARE
      message: The tree needs a leaf
    - name: few
      each: {many: of_id}
      lookup: {all: {rows: select id from many where of_id = $each}}
      check: lookup.all.size() > 0
      code: NONE
      message: None`)
}

// outcome is success, or the code of a rejection.
func outcome(r rig.Result) string {
	if r.FailedOperation != nil {
		return r.FailedOperation.ErrorCode
	}
	return r.Status
}

// TestRowsAsTheyWillBe has transactions that change what belongs together in part. Each test
// finds the rows as they were set up, so they run in turn.
func TestRowsAsTheyWillBe(t *testing.T) {
	t.Parallel()
	newSeat := fmt.Sprintf(`"taken_by":%q`, rig.UserID("a"))
	b := setupWhole(t)
	for _, test := range []struct {
		name, user string
		crud       []string
		outcome    string
	}{
		{"NothingThatCounts", "alice", []string{op("PUT", "staff", "x", "")}, "UNAUTHORIZED"},
		{"OneLine", "alice", []string{op("PATCH", "lines", "l1", `"amount":51`)}, "SUM_DIFFERS"},
		{"OneLineUnderAnotherName", "alice", []string{op("PATCH", "order_lines", "l1", `"amount":51`)}, "SUM_DIFFERS"},
		{"TheTotal", "alice", []string{op("PATCH", "orders", "o1", `"sum":81`)}, "SUM_DIFFERS"},
		{"Both", "alice", []string{op("PATCH", "lines", "l1", `"amount":51`), op("PATCH", "orders", "o1", `"sum":81`)}, "success"},
		{"APutOfALineThatExists", "alice", []string{op("PUT", "lines", "l1", `"amount":51`)}, "SUM_DIFFERS"},
		{"TwoOrdersAndOneOfThemNot", "alice", []string{op("PATCH", "lines", "l1", `"amount":51`), op("PATCH", "orders", "o1", `"sum":81`), op("PATCH", "lines", "l3", `"amount":31`)}, "SUM_DIFFERS"},
		{"ALineMoves", "alice", []string{op("PATCH", "lines", "l2", `"order_id":"o2"`), op("PATCH", "orders", "o2", `"sum":60`)}, "SUM_DIFFERS"},
		{"ALineMovesAndBothAgree", "alice", []string{op("PATCH", "lines", "l2", `"order_id":"o2"`), op("PATCH", "orders", "o2", `"sum":60`), op("PATCH", "orders", "o1", `"sum":50`)}, "success"},
		{"ALineGoesNowhere", "alice", []string{op("PATCH", "lines", "l2", `"order_id":null`)}, "SUM_DIFFERS"},
		{"ALineIsDeleted", "alice", []string{op("DELETE", "order_lines", "l2", "")}, "SUM_DIFFERS"},
		{"ALineIsDeletedSoftly", "alice", []string{op("DELETE", "lines", "l2", "")}, "SUM_DIFFERS"},
		{"AndTheTotalFollows", "alice", []string{op("DELETE", "lines", "l2", ""), op("PATCH", "orders", "o1", `"sum":50`)}, "success"},
		{"TheOrderIsDeleted", "alice", []string{op("DELETE", "orders", "o1", "")}, "success"},
		{"ALineAndItsOrder", "alice", []string{op("PUT", "lines", "n", `"order_id":"new","amount":"0.3"`), op("PUT", "lines", "m", `"order_id":"new","amount":0.1`), op("PUT", "orders", "new", `"sum":0.4`)}, "success"},
		{"ALineOfNoOrder", "alice", []string{op("PUT", "lines", "n", `"order_id":"none"`)}, "FOREIGN_KEY_VIOLATION"},
		{"AnOrderThatIsHidden", "alice", []string{op("PATCH", "lines", "lh", `"amount":2`)}, "success"},
		{"NothingIsChanged", "alice", []string{op("PATCH", "lines", "nowhere", `"amount":2`)}, "success"},
		{"AColumnOfTheKey", "alice", []string{op("PUT", "seats", "1:1", newSeat), op("PUT", "seats", "1:2", newSeat), op("PUT", "seats", "1:3", newSeat)}, "success"},
		{"AColumnOfTheKeyTooOften", "alice", []string{op("PUT", "seats", "1:1", newSeat), op("PUT", "seats", "1:2", newSeat), op("PUT", "seats", "1:3", newSeat), op("PUT", "tickets", "1", `"room":1`)}, "FULL"},
		{"ButForAnAdmin", "boss", []string{op("PUT", "seats", "1:1", newSeat), op("PUT", "seats", "1:2", newSeat), op("PUT", "seats", "1:3", newSeat), op("PUT", "tickets", "1", `"room":1`)}, "success"},
		{"AValueThatATriggerSets", "alice", []string{op("PUT", "seats", "1:1", newSeat), op("PUT", "seats", "1:2", newSeat), op("PUT", "seats", "1:3", newSeat), op("PUT", "tickets", "1", `"room":2,"note":"anywhere"`)}, "FULL"},
		{"WithoutEach", "a", []string{op("PUT", "seats", "1:1", newSeat), op("PUT", "seats", "1:2", newSeat), op("PUT", "seats", "1:3", newSeat)}, "TWO_SEATS"},
		{"WithoutEachAndDistinct", "a", []string{op("PUT", "seats", "1:1", newSeat), op("PUT", "seats", "2:2", newSeat)}, "TWO_SEATS"},
		{"WithoutEachAndMet", "a", []string{op("PUT", "seats", "1:1", newSeat), op("PUT", "seats", "1:2", newSeat)}, "success"},
		{"ADeleteWithoutTheRightToUpdate", "alice", []string{op("DELETE", "leaves", "f1", "")}, "success"},
		{"ADeleteOfAllWithoutTheRightToUpdate", "alice", []string{op("DELETE", "leaves", "f1", ""), op("DELETE", "leaves", "f2", "")}, "BARE"},
		{"TooManyRows", "alice", []string{op("PUT", "many", "00000000-0000-4000-8000-000000000002", `"of_id":"00000000-0000-4000-8000-000000000001"`)}, "RULE_FAILED"},
		{"OneOfEachOfMany", "alice", []string{op("PUT", "many", "00000000-0000-4000-8000-00000000000A", `"of_id":"00000000-0000-4000-8000-00000000000A"`)}, "success"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.db.Exec(t, wholeRows)
			result := b.One(t, test.user, strings.Join(test.crud, ","))
			require.Equal(t, test.outcome, outcome(result), "%+v\n%s", result.FailedOperation, b.Logs)
		})
	}
}

// TestRejectionsOfWholeTransactions has a request in which others go on: each transaction
// is judged by the rows as it alone leaves them.
func TestRejectionsOfWholeTransactions(t *testing.T) {
	t.Parallel()
	b := setupWhole(t)
	body := `{"transactions":[` + strings.Join([]string{
		`{"transaction_id":1,"crud":[` + op("PATCH", "lines", "l3", `"amount":20`) + "," + op("PATCH", "orders", "o2", `"sum":20`) + `]}`,
		`{"transaction_id":2,"crud":[` + op("PATCH", "lines", "l1", `"amount":51`) + "," + op("PATCH", "lines", "l3", `"amount":1`) + `]}`,
		`{"transaction_id":3,"crud":[` + op("PATCH", "orders", "o1", `"sum":81`) + `]}`,
		`{"transaction_id":4,"crud":[` + op("PUT", "seats", "1:1", "") + `]}`,
	}, ",") + `]}`
	results := b.Upload(t, "alice", body).Results(t)
	var outcomes []string
	for _, r := range results {
		outcomes = append(outcomes, outcome(r))
	}
	require.Equal(t, []string{"success", "SUM_DIFFERS", "SUM_DIFFERS", "success"}, outcomes)
	failed := results[1].FailedOperation
	require.Equal(t, map[string]any{"of": "o1", "lines": []any{30.0, 51.0}}, failed.Details)
	require.Nil(t, failed.OperationIndex)
	require.Equal(t, "The lines do not add up to the total", failed.Message)
	require.Equal(t, "20 20 50 80", b.db.Text(t, `select concat_ws(' ', (select total from orders where id = 'o2'), (select amount from lines where id = 'l3'), (select amount from lines where id = 'l1'), (select total from orders where id = 'o1'))`))
	require.Equal(t, "2", b.db.Text(t, `select count(*)::text from postern.rejected_writes where rule = 'lines-add-up'`))

	b.db.Exec(t, `insert into many select gen_random_uuid(), ('10000000-0000-4000-8000-0000000000' || g)::uuid from generate_series(10, 20) g, generate_series(1, 999)`)
	var groups []string
	for g := 10; g <= 20; g++ {
		groups = append(groups, op("PUT", "many", fmt.Sprintf("20000000-0000-4000-8000-0000000000%d", g), fmt.Sprintf(`"of_id":"10000000-0000-4000-8000-0000000000%d"`, g)))
	}
	require.Equal(t, "success", outcome(b.One(t, "alice", groups[0])))
	require.Equal(t, "RULE_FAILED", outcome(b.One(t, "alice", strings.Join(groups, ","))), "each has 1,000 rows, and all together have too many")
	many := b.One(t, "alice", op("PUT", "many", "00000000-0000-4000-8000-000000000002", `"of_id":"00000000-0000-4000-8000-000000000001"`))
	require.Equal(t, "this change concerns more rows than can be checked", many.FailedOperation.Message)
	require.Equal(t, map[string]any{"reason": "lookup all of rule few has more than 1000 rows"}, many.FailedOperation.Details)
}

// TestWritersOfOneWhole has devices change what belongs together at the same time. A
// transaction that sees a line too few, because another device's is not committed yet, would
// break the rule.
func TestWritersOfOneWhole(t *testing.T) {
	t.Parallel()
	const writers = 20
	for _, test := range []struct {
		name, setup string
		crud        func(i int) string
		outcomes    map[string]int
		rows        string
	}{
		{"Create", "", func(i int) string { return op("PUT", "tickets", fmt.Sprint(i), `"room":7`) }, map[string]int{"success": 3, "FULL": writers - 3}, "count(*) = 3 from tickets where room = 7"},
		{"Move", `insert into tickets select n::text, 100 + n from generate_series(0, 19) n`, func(i int) string { return op("PATCH", "tickets", fmt.Sprint(i), `"room":7`) }, map[string]int{"success": 3, "FULL": writers - 3}, "count(*) = 3 from tickets where room = 7"},
		{"Delete", `insert into leaves select n::text, 'elm' from generate_series(0, 19) n`, func(i int) string { return op("DELETE", "leaves", fmt.Sprint(i), "") }, map[string]int{"success": writers - 1, "BARE": 1}, "count(*) = 1 from leaves where tree = 'elm'"},
		{"TwoAtATimeInEitherOrder", "", func(i int) string {
			rooms := []string{op("PUT", "tickets", fmt.Sprint("a", i), `"room":7`), op("PUT", "tickets", fmt.Sprint("b", i), `"room":8`)}
			if i%2 == 0 {
				rooms[0], rooms[1] = rooms[1], rooms[0]
			}
			return strings.Join(rooms, ",")
		}, map[string]int{"success": 3, "FULL": writers - 3}, "count(*) = 6 from tickets where room in (7, 8)"},
		{"TheSameLineInOrdersOfTheirOwn", "", func(i int) string {
			return op("PUT", "orders", fmt.Sprint("n", i), `"sum":1`) + "," + op("PUT", "lines", "same", fmt.Sprintf(`"order_id":"n%d","amount":1`, i))
		}, map[string]int{"success": 1, "SUM_DIFFERS": writers - 1}, "count(*) = 1 from orders where id like 'n%'"},
		{"OneLineAndTheTotal", "", func(i int) string {
			if i%2 == 0 {
				return op("PUT", "lines", fmt.Sprint("x", i), `"order_id":"o1","amount":0`) + "," + op("PATCH", "lines", "l1", fmt.Sprintf(`"amount":%d`, 50+i)) + "," + op("PATCH", "orders", "o1", fmt.Sprintf(`"sum":%d`, 80+i))
			}
			return op("PATCH", "lines", "l2", `"amount":30`) + "," + op("DELETE", "lines", fmt.Sprint("x", i-1), "")
		}, map[string]int{"success": writers}, "sum(amount) = (select total from orders where id = 'o1') from lines where order_id = 'o1' and not gone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setupWhole(t)
			b.db.Exec(t, test.setup)
			require.Equal(t, test.outcomes, atOnce(t, b, writers, test.crud))
			require.Equal(t, "true", b.db.Text(t, "select (select "+test.rows+")::text"))
		})
	}

	// Requests of several transactions hold locks while they go on.
	b := setupWhole(t)
	b.db.Exec(t, `insert into tickets select n::text, 100 + n from generate_series(0, 19) n`)
	outcomes := requestsAtOnce(t, b, writers, func(i int) string {
		first, second := op("PATCH", "tickets", fmt.Sprint(i), `"room":7`), op("PATCH", "tickets", fmt.Sprint((i+1)%writers), `"room":8`)
		if i%2 == 0 {
			first, second = second, first
		}
		return fmt.Sprintf(`{"client_id":"%d","transactions":[{"transaction_id":1,"crud":[%s]},{"transaction_id":2,"crud":[%s]}]}`, i, first, second)
	})
	require.Equal(t, 2*writers, outcomes["success"]+outcomes["FULL"], "%v", outcomes)
	require.Equal(t, "true", b.db.Text(t, `select (count(*) filter (where room = 7) <= 3 and count(*) filter (where room = 8) <= 3)::text from tickets`))
}
