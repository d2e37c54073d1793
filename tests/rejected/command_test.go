package rejected_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestListShowExport(t *testing.T) {
	b := setup(t)
	list, record := b.rejectedList(t, "alice", 1)
	_, bobs := b.rejectedList(t, "bob", 1)
	b.One(t, "bob", `{"op":"PUT","table":"nowhere","id":"x","op_data":{"name":"\u001b[31mred"}}`)

	table := mustPostern(t, b.db.LoginURL, "rejected", "list")
	require.Contains(t, table, record)
	require.Contains(t, table, "CHECK_VIOLATION")
	require.Equal(t, 4, strings.Count(table, "\n"), table)
	ids := func(args ...string) (got []string) {
		for line := range strings.Lines(mustPostern(t, b.db.LoginURL, append([]string{"rejected", "list", "--json"}, args...)...)) {
			var r struct {
				ID string `json:"id"`
			}
			unmarshal(t, line, &r)
			got = append(got, r.ID)
		}
		return got
	}
	require.Len(t, ids(), 3)
	require.Equal(t, []string{record}, ids("--user", b.alice))
	require.Equal(t, []string{record, bobs}, ids("--table", "lists"))
	require.Len(t, ids("--code", "UNAUTHORIZED"), 1)
	require.Equal(t, []string{record, bobs}, ids("--since", "1h", "--code", "CHECK_VIOLATION"))
	require.Equal(t, "no rejected writes\n", mustPostern(t, b.db.LoginURL, "rejected", "list", "--older-than", "1h", "--status", "all"))

	// What the terminal would obey is not printed.
	require.NotContains(t, mustPostern(t, b.db.LoginURL, "rejected", "list", "--user", b.bob), "\x1b")

	b.db.Exec(t, `insert into lists (id, name, owner_id) values ($1, 'meanwhile', $2)`, list, b.alice)
	shown := mustPostern(t, b.db.OwnerURL, "rejected", "show", record)
	require.Regexp(t, `0  PUT lists `+list+`   <- rejected\n +COLUMN +WANTED +NOW\n +name +"a+… +"meanwhile"`, shown)
	require.Contains(t, shown, b.alice)
	require.Contains(t, mustPostern(t, b.db.LoginURL, "rejected", "show", record), "DATABASE_URL's role may not read every row of public.lists: use the owner's URL")
	var s struct {
		Operations []struct {
			Now map[string]any `json:"now"`
		} `json:"operations"`
	}
	unmarshal(t, mustPostern(t, b.db.OwnerURL, "rejected", "show", record, "--json"), &s)
	require.Equal(t, "meanwhile", s.Operations[0].Now["name"])

	mustPostern(t, b.db.LoginURL, "rejected", "dismiss", bobs, "--by", "ann", "--note", "a joke")
	exported := mustPostern(t, b.db.LoginURL, "rejected", "export", "--status", "dismissed")
	require.Equal(t, 1, strings.Count(exported, "\n"))
	require.Contains(t, exported, `"note":"a joke"`)
	require.NotContains(t, exported, "claims")
}

// TestUnreadableInCommands has the team look at a rejected write that is not Unicode. A
// replay refuses it and goes on with the others.
func TestUnreadableInCommands(t *testing.T) {
	b := setup(t)
	b.One(t, "alice", `{"op":"PUT","table":"lists","id":"1","op_data":{"name":"caf\ud800"}}`)
	_, record := b.rejectedList(t, "bob", 1)
	b.One(t, "bob", `{"op":"PUT","table":"nowhere","id":"1","op_data":{"json":{"a":1,"a":2}}}`)
	require.Contains(t, mustPostern(t, b.db.LoginURL, "rejected", "export"), `{"a":1,"a":2}`)
	unreadable := b.db.Text(t, `select id::text from postern.rejected_writes where raw is not null`)

	shown := mustPostern(t, b.db.OwnerURL, "rejected", "show", unreadable)
	require.Contains(t, shown, "0  PUT lists 1   <- rejected")
	require.Contains(t, shown, `caf\\ud800`)
	var s struct {
		Raw []byte `json:"raw"`
	}
	unmarshal(t, mustPostern(t, b.db.OwnerURL, "rejected", "show", unreadable, "--json"), &s)
	require.Contains(t, string(s.Raw), `"caf\ud800"`)

	b.db.Exec(t, `alter table lists drop constraint lists_name_check`)
	output, err := postern(t, b.db.OwnerURL, "rejected", "replay", "--all-matching", "--by", "ann")
	require.Error(t, err)
	require.Contains(t, output, unreadable+" not replayed: it cannot be replayed: crud[0].op_data.name: invalid surrogate pair")
	require.Equal(t, "replayed", b.status(t, record))
	require.Equal(t, "open", b.status(t, unreadable))
}

func TestDismissByTheTeam(t *testing.T) {
	b := setup(t)
	_, first := b.rejectedList(t, "alice", 1)
	_, second := b.rejectedList(t, "alice", 2)
	mustPostern(t, b.db.LoginURL, "rejected", "dismiss", first, "--by", "ann")
	require.Equal(t, "dismissed by ann", b.actions(t, first))
	output, err := postern(t, b.db.LoginURL, "rejected", "dismiss", first, "--by", "ann")
	require.Error(t, err)
	require.Contains(t, output, "closed already: it is dismissed")
	mustPostern(t, b.db.LoginURL, "rejected", "dismiss", "--all-matching", "--older-than", "0h", "--expire", "--by", "ann")
	require.Equal(t, "expired", b.status(t, second))
	require.Equal(t, "expired by ann", b.actions(t, second))
}

func TestRejectedRefusesWhatItCannotDo(t *testing.T) {
	b := setup(t)
	for _, test := range []struct {
		args    []string
		message string
	}{
		{[]string{"list", "--since", "yesterday"}, `--since="yesterday": write how long ago`},
		{[]string{"list", "--status", "lost"}, `--status: "lost" is not one of open, held`},
		{[]string{"show", uuid.NewString()}, "there is no rejected write with this id"},
		{[]string{"show", "x"}, `there is no rejected write with this id: "x"`},
		{[]string{"replay"}, "give the ids"},
		{[]string{"dismiss", "x", "--all-matching"}, "not both"},
		{[]string{"replay", "x", "--as", "me"}, `--as="me" is neither user nor service`},
		{[]string{"dismiss", "x", "--by", ""}, "--by: say who does it"},
	} {
		output, err := postern(t, b.db.LoginURL, append([]string{"rejected"}, test.args...)...)
		require.Error(t, err, "%v", test.args)
		require.Contains(t, output, test.message)
	}
	output, err := postern(t, "", "rejected", "list")
	require.Error(t, err)
	require.Contains(t, output, "DATABASE_URL is not set")
}

func (b *testBundle) names(t *testing.T, list string) string {
	t.Helper()
	return b.db.Text(t, `select coalesce(string_agg(length(name) || ' of ' || owner_id, ','), 'none') from lists where id = $1::uuid`, list)
}

func TestReplay(t *testing.T) {
	b := setup(t)
	list, record := b.rejectedList(t, "alice", 1)
	aLongOne := fmt.Sprintf("201 of %s", b.alice)

	output, err := postern(t, b.db.LoginURL, "rejected", "replay", record, "--by", "ann")
	require.Error(t, err)
	require.Contains(t, output, record+" not replayed: CHECK_VIOLATION")
	require.Equal(t, "open", b.status(t, record))
	require.Equal(t, "replay failed by ann", b.actions(t, record))

	b.fix(t)
	require.Contains(t, mustPostern(t, b.db.LoginURL, "rejected", "replay", record, "--dry-run"), record+" would be replayed")
	require.Equal(t, "none", b.names(t, list))
	require.Equal(t, "open", b.status(t, record))

	require.Contains(t, mustPostern(t, b.db.LoginURL, "rejected", "replay", record, "--by", "ann"), record+" replayed")
	require.Equal(t, aLongOne, b.names(t, list), "under Alice's own rights and name")
	require.Equal(t, "replayed", b.status(t, record))
	require.Equal(t, "replay failed by ann, replayed by ann", b.actions(t, record))

	output, err = postern(t, b.db.LoginURL, "rejected", "replay", record)
	require.Error(t, err)
	require.Contains(t, output, "not replayed: it is closed")

	// Its device has not heard the first answer, and comes again: now it is applied.
	body := fmt.Sprintf(`{"client_id":"phone","transactions":[{"transaction_id":1,"crud":[{"op_id":1,"op":"PUT","table":"lists","id":%q,"op_data":{"name":%q}}]}]}`, list, tooLong)
	require.Equal(t, "success", b.Upload(t, "alice", body).Results(t)[0].Status)
	require.Equal(t, aLongOne, b.names(t, list))
}

func TestReplayAsSomebodyElse(t *testing.T) {
	b := setup(t)
	// Alice may not touch Bob's list; the team lets her.
	bobs := uuid.NewString()
	b.db.Exec(t, `insert into lists (id, name, owner_id) values ($1, 'his', $2)`, bobs, b.bob)
	result := b.One(t, "alice", fmt.Sprintf(`{"op":"PATCH","table":"lists","id":%q,"op_data":{"name":"ours"}}`, bobs))
	require.Equal(t, "UNAUTHORIZED", result.FailedOperation.ErrorCode)
	record := b.db.Text(t, `select id::text from postern.rejected_writes`)

	output, err := postern(t, b.db.OwnerURL, "rejected", "replay", record)
	require.Error(t, err)
	require.Contains(t, output, "UNAUTHORIZED", "the owner's connection does not give Alice more rights")
	output, err = postern(t, b.db.LoginURL, "rejected", "replay", record, "--as", "service")
	require.Error(t, err)
	require.Contains(t, output, "cannot become service_role; use the owner's URL")
	b.db.Exec(t, `alter table lists add column last_role text;
create function note() returns trigger language plpgsql as $$ begin new.last_role := auth.role() || ' ' || auth.uid(); return new; end $$;
create trigger note before update on lists for each row execute function note()`)
	mustPostern(t, b.db.OwnerURL, "rejected", "replay", record, "--as", "service")
	require.Equal(t, "ours", b.db.Text(t, `select name from lists where id = $1`, bobs))
	require.Equal(t, "service_role "+b.alice, b.db.Text(t, `select last_role from lists where id = $1`, bobs))
}

func TestReplayWithoutPolicies(t *testing.T) {
	b := setup(t)
	b.db.Exec(t, `create table notes (id text primary key); grant select, insert, update on notes to authenticated`)
	b.One(t, "alice", `{"op":"PUT","table":"notes","id":"n"}`)
	record := b.db.Text(t, `select id::text from postern.rejected_writes`)
	output, err := postern(t, b.db.LoginURL, "rejected", "replay", record, "--no-policies")
	require.Error(t, err)
	require.Contains(t, output, `writes to table "notes" are not allowed`, "where it would be is not known")
}

func TestReplayEdited(t *testing.T) {
	b := setup(t)
	list, record := b.rejectedList(t, "alice", 1)
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no JSON", []string{record, "--set", "name=Short"}, `the edit is impossible: the value of name is not JSON: write "text" in quotes`},
		{"no value", []string{record, "--set", "name"}, `--set="name" is not COLUMN=JSON`},
		{"another operation", []string{record, "--set", `name="Short"`, "--operation", "7"}, "there is no operation 7"},
		{"many writes", []string{"--all-matching", "--set", `name="Short"`}, "--set edits one write: give one id"},
	} {
		t.Run(test.name, func(t *testing.T) {
			output, err := postern(t, b.db.LoginURL, append([]string{"rejected", "replay"}, test.args...)...)
			require.Error(t, err)
			require.Contains(t, output, test.want)
			require.Equal(t, "open", b.status(t, record))
		})
	}
	mustPostern(t, b.db.LoginURL, "rejected", "replay", record, "--set", `name="Short"`, "--by", "ann")
	require.Equal(t, "Short", b.db.Text(t, `select name from lists where id = $1`, list))
	output := mustPostern(t, b.db.OwnerURL, "rejected", "show", record)
	require.Contains(t, output, "replayed by ann")
	require.Contains(t, output, `edited: {"transaction_id":1,"crud":[{"op_id":1,"id":"`+list+`","op":"PUT","table":"lists","op_data":{"name":"Short"}}]}`)
	require.Contains(t, output, "WANTED")
	require.Contains(t, output, tooLong[:50])
}

func TestReplayAllMatching(t *testing.T) {
	b := setup(t)
	// A child of a list that was rejected; each user's in their order.
	list, parent := b.rejectedList(t, "alice", 1)
	todo := uuid.NewString()
	result := b.Upload(t, "alice", fmt.Sprintf(`{"client_id":"phone","transactions":[{"transaction_id":2,"crud":[{"op":"PUT","table":"todos","id":%q,"op_data":{"list_id":%q,"description":"x"}}]}]}`, todo, list)).Results(t)[0]
	require.Equal(t, "fatal_error", result.Status)
	for i := range 5 {
		b.rejectedList(t, fmt.Sprint("user", i), 1)
	}
	b.fix(t)
	mustPostern(t, b.db.LoginURL, "rejected", "replay", "--all-matching", "--code", "CHECK_VIOLATION", "--user", b.alice)
	require.Equal(t, "replayed", b.status(t, parent))
	require.Contains(t, mustPostern(t, b.db.LoginURL, "rejected", "replay", "--all-matching"), "6 replayed")
	require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes where status <> 'replayed'`))
	require.Equal(t, "6", b.db.Text(t, `select count(*) from lists`))
	require.Equal(t, list, b.db.Text(t, `select list_id::text from todos where id = $1::uuid`, todo))
}

// Two of the team at once, and the device besides: the row is there once.
func TestReplayedOnceByTwo(t *testing.T) {
	b := setup(t)
	b.db.Exec(t, `create table effects (id uuid); create function effect() returns trigger language plpgsql security definer as $$
begin insert into public.effects values (new.id); return null; end $$;
create trigger effect after insert or update on lists for each row execute function effect()`)
	const many = 40
	transactions := make([]string, many)
	for i := range many {
		list, _ := b.rejectedList(t, "alice", i)
		transactions[i] = fmt.Sprintf(`{"transaction_id":%d,"crud":[{"op_id":%[1]d,"op":"PUT","table":"lists","id":%q,"op_data":{"name":%q}}]}`, i, list, tooLong)
	}
	all := `{"client_id":"phone","transactions":[` + strings.Join(transactions, ",") + `]}`
	b.fix(t)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() { _, _ = postern(t, b.db.LoginURL, "rejected", "replay", "--all-matching") })
	}
	for range 5 {
		b.Upload(t, "alice", all)
	}
	group.Wait()
	for _, result := range b.Upload(t, "alice", all).Results(t) {
		require.Equal(t, "success", result.Status, "%+v", result)
	}
	require.Equal(t, fmt.Sprint(many), b.db.Text(t, `select count(*) from postern.rejected_writes where status = 'replayed'`))
	require.Equal(t, fmt.Sprint(many), b.db.Text(t, `select count(*) from effects`))
	require.Equal(t, fmt.Sprint(many), b.db.Text(t, `select count(*) from postern.rejected_actions where action = 'replayed'`))
}

func TestMigratePrints(t *testing.T) {
	b := setup(t)
	printed := mustPostern(t, b.db.OwnerURL, "migrate", "--print")
	for _, line := range []string{
		"row-level security  on", "may be read by      authenticated", "replication roles   none may read it",
		"publication         not in publication powersync: run the statements below",
	} {
		require.Contains(t, printed, line)
	}

	b.db.Exec(t, `create role replica login replication`)
	t.Cleanup(func() { _, _ = b.db.Owner.Exec(context.Background(), `drop owned by replica; drop role replica`) })
	b.db.Exec(t, `grant usage on schema postern to replica; grant select on postern.rejected_writes to replica`)
	require.Contains(t, mustPostern(t, b.db.OwnerURL, "migrate", "--print"), "replication roles   replica (row-level security hides every row from it: run alter role replica bypassrls)\n")
	b.db.Exec(t, `alter role replica bypassrls; create publication powersync for table lists; alter publication powersync add table postern.rejected_writes`)
	printed = mustPostern(t, b.db.OwnerURL, "migrate", "--print")
	require.Contains(t, printed, "replication roles   replica\n")
	require.Contains(t, printed, "publication         in publication powersync\n")
}
