package conformance_test

import (
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// people is a schema with one of everything that Postgres rejects, under other names
// than those of clients.
const people = `
create extension if not exists btree_gist;
create domain email_address as text check (value like '%@%');
create domain named as text not null;
create table clubs (
  club_id   text primary key,
  club_name text not null unique,
  private   boolean not null default false
);
create table persons (
  person_id   text primary key,
  full_name   varchar(10) not null default 'x',
  nick        text,
  club_id     text references clubs (club_id),
  later_id    text references clubs (club_id) deferrable initially deferred,
  mail        email_address,
  called      named default 'x',
  born        int check (born > 1900),
  died        int,
  room        int,
  stay        int4range,
  tags        varchar(3)[],
  bits        bit(3),
  doubled     int generated always as (born * 1000000) stored,
  share       int generated always as (100 / room) stored,
  archived    boolean not null default false,
  constraint in_order check (died >= born),
  unique (nick, born),
  exclude using gist (room with =, stay with &&)
);
create unique index persons_lower on persons (lower(nick));
create table visits (id text, at int, who text, primary key (id, at), unique (at, who)) partition by range (at);
create table visits_2026 partition of visits for values from (0) to (1000);
create table audit (id text primary key);
create function check_it() returns trigger language plpgsql as $$
begin
  case new.club_name
    when 'raise' then raise exception 'We are closed' using hint = 'Come back tomorrow';
    when 'raise unique' then raise exception 'This club exists already' using errcode = '23505', detail = 'Since 1900';
    when 'raise not null' then raise not_null_violation using message = 'Give the club a name';
    when 'raise privilege' then raise exception 'Only members may' using errcode = '42501';
    when 'audit' then insert into audit values ('taken');
    when 'cast' then new.private := new.club_name::boolean;
    else null;
  end case;
  return new;
end $$;
create trigger check_it before insert or update on clubs for each row execute function check_it();
grant select, insert, update, delete on clubs, persons, visits, audit to authenticated;
alter table clubs enable row level security;
create policy own on clubs to authenticated using (not private) with check (not private);
alter table persons enable row level security;
create policy all_rows on persons to authenticated using (true) with check (true);
create policy "no archive" on persons as restrictive to authenticated using (true) with check (not archived);
insert into clubs values ('c', 'Chess', false), ('secret', 'Secret', true);
insert into audit values ('taken');
insert into persons (person_id, nick, born, club_id, room, stay) values ('p', 'Ann', 1950, 'c', 1, '[1,5)');
insert into visits values ('v', 1, 'Ann');`

const peoplePolicies = `
tables:
  groups: {table: clubs, allow: all, columns: {title: club_name}}
  members:
    table: persons
    allow: all
    columns: {name: full_name, group_id: club_id, group_later: later_id, email: mail, known_as: nick, year: born}
  strict_members: {table: persons, allow: all, columns: {name: full_name}, conflict: reject}
  visits: {allow: all, id: [id, at], columns: {person: who}}`

// TestConflictInTheClientsNames has the stored row in the details of a conflict.
func TestConflictInTheClientsNames(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, people)
	b := &testBundle{Service: rig.NewServiceOn(t, database, rig.Policies(t, peoplePolicies)), db: database}
	result := b.One(t, "alice", `{"op":"PATCH","table":"strict_members","id":"p","op_data":{"name":"Bea"},"previous_values":{"name":"Amy"}}`)
	require.Equal(t, "CONFLICT", result.FailedOperation.ErrorCode)
	row := result.FailedOperation.Details["row"].(map[string]any)
	require.Equal(t, "x", row["name"])
	require.NotContains(t, row, "full_name")
}

// TestWordsForPeople has what a device's user reads for each class of errors, and what the
// app finds in the details.
func TestWordsForPeople(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, people)
	b := &testBundle{Service: rig.NewServiceOn(t, database, rig.Policies(t, peoplePolicies)), db: database}
	type details = map[string]any
	constraint := func(state, table, name string) details {
		return details{"sqlstate": state, "table": table, "constraint": name}
	}
	member := func(data string) string { return op("PUT", "members", "1", data) }
	group := func(title string) string { return op("PUT", "groups", "1", `"title":"`+title+`"`) }
	for _, test := range []struct {
		name, op, code, message string
		details                 details
	}{
		{"NotNull", member(`"name":null`), "NOT_NULL_VIOLATION", "members.name must have a value",
			details{"sqlstate": "23502", "table": "members", "column": "name"}},
		{"NotNullOfADomain", member(`"called":null`), "NOT_NULL_VIOLATION", "members.called must have a value",
			details{"sqlstate": "23502", "table": "members"}},
		{"ForeignKey", member(`"group_id":"none"`), "FOREIGN_KEY_VIOLATION", "members.group_id refers to a row of groups that does not exist",
			constraint("23503", "members", "persons_club_id_fkey")},
		{"DeferredForeignKey", member(`"group_later":"none"`), "FOREIGN_KEY_VIOLATION", "members.group_later refers to a row of groups that does not exist",
			constraint("23503", "members", "persons_later_id_fkey")},
		{"StillReferenced", op("DELETE", "groups", "c", ""), "FOREIGN_KEY_VIOLATION", "other rows of members still refer to this one: change or delete them first",
			constraint("23503", "members", "persons_club_id_fkey")},
		{"Unique", group("Chess"), "UNIQUE_VIOLATION", "another row of groups already has this title",
			constraint("23505", "groups", "clubs_club_name_key")},
		{"UniqueAmongHiddenRows", group("Secret"), "UNIQUE_VIOLATION", "another row of groups already has this title",
			constraint("23505", "groups", "clubs_club_name_key")},
		{"UniqueOfTwo", member(`"known_as":"Ann","year":1950`), "UNIQUE_VIOLATION", "another row of members already has this known_as and year",
			constraint("23505", "members", "persons_nick_born_key")},
		{"UniqueOfAnExpression", member(`"known_as":"ANN"`), "UNIQUE_VIOLATION", "another row of members already has the same value",
			constraint("23505", "members", "persons_lower")},
		{"UniqueOfAPartition", op("PUT", "visits", "w:1", `"person":"Ann"`), "UNIQUE_VIOLATION", "another row of visits already has the same value",
			constraint("23505", "visits", "visits_2026_at_who_key")},
		{"Check", member(`"year":5`), "CHECK_VIOLATION", "members.year has a value that is not allowed",
			constraint("23514", "members", "persons_born_check")},
		{"CheckOfTwo", member(`"year":1950,"died":1940`), "CHECK_VIOLATION", "this row of members has values of died and year that are not allowed together",
			constraint("23514", "members", "in_order")},
		{"CheckOfADomain", member(`"email":"ann"`), "CHECK_VIOLATION", "members.email has a value that is not allowed",
			constraint("23514", "members", "email_address_check")},
		{"Exclusion", member(`"room":1,"stay":{"lower":2,"upper":3}`), "CONSTRAINT_VIOLATION", "this row of members conflicts with another one in its room and stay",
			constraint("23P01", "members", "persons_room_stay_excl")},

		{"RowLevelSecurity", op("PUT", "groups", "1", `"title":"New","private":true`), "UNAUTHORIZED", "you are not allowed to write this row of groups",
			details{"sqlstate": "42501", "table": "groups"}},
		{"RestrictivePolicy", member(`"archived":true`), "UNAUTHORIZED", "you are not allowed to write this row of members",
			details{"sqlstate": "42501", "table": "members", "rule": "no archive"}},
		{"HiddenFromPut", op("PUT", "groups", "secret", `"title":"Mine"`), "UNAUTHORIZED", "you are not allowed to write this row of groups",
			details{"sqlstate": "42501", "table": "groups"}},
		{"HiddenFromPatch", op("PATCH", "groups", "secret", `"title":"Mine"`), "UNAUTHORIZED", "the row exists and is not yours to change",
			details{"table": "groups"}},
		{"HiddenFromDelete", op("DELETE", "groups", "secret", ""), "UNAUTHORIZED", "the row exists and is not yours to change",
			details{"table": "groups"}},

		{"Length", member(`"name":"01234567890"`), "INVALID_DATA", `members.name cannot hold "01234567890": send at most 10 characters`,
			details{"table": "members", "column": "name", "type": "character varying(10)", "value": `"01234567890"`}},
		{"LengthInAnArray", member(`"tags":["long"]`), "INVALID_DATA", "a value cannot be stored: it is longer than 3 characters",
			details{"sqlstate": "22001", "table": "members", "reason": "value too long for type character varying(3)"}},
		{"LengthOfBits", member(`"bits":"10101"`), "INVALID_DATA", "a value cannot be stored: bit string length 5 does not match type bit(3)",
			details{"sqlstate": "22026", "table": "members", "reason": "bit string length 5 does not match type bit(3)"}},
		{"OutOfRange", member(`"year":99999999999`), "INVALID_DATA", "members.year cannot hold 99999999999: send a whole number from -2147483648 to 2147483647",
			details{"table": "members", "column": "year", "type": "integer", "value": "99999999999"}},
		{"OutOfRangeOfAGeneratedColumn", member(`"year":2147483`), "INVALID_DATA", "a value cannot be stored: it is too large or too small",
			details{"sqlstate": "22003", "table": "members", "reason": "integer out of range"}},
		{"DivisionInAGeneratedColumn", member(`"room":0`), "INVALID_DATA", "a value cannot be stored: it leads to a division by zero",
			details{"sqlstate": "22012", "table": "members", "reason": "division by zero"}},
		{"NotOfItsType", member(`"stay":"five"`), "INVALID_DATA", `members.stay cannot hold "five": it is not of the column's type`,
			details{"sqlstate": "22P02", "table": "members", "column": "stay", "type": "int4range", "value": `"five"`, "reason": `malformed range literal: "five"`}},
		{"InTheWrongOrder", member(`"stay":"[5,1]"`), "INVALID_DATA", "a value cannot be stored: range lower bound must be less than or equal to range upper bound",
			details{"sqlstate": "22000", "table": "members", "reason": "range lower bound must be less than or equal to range upper bound"}},
		{"UnknownColumn", member(`"colour":"red"`), "SCHEMA_MISMATCH", `table members has no column "colour"`, nil},
		{"ColumnUnderTheDatabasesName", member(`"full_name":"Ann"`), "SCHEMA_MISMATCH", `clients know column "full_name" of table members as "name": send it under that name`, nil},

		{"Raise", group("raise"), "REJECTED_BY_DATABASE", "We are closed", details{"sqlstate": "P0001", "hint": "Come back tomorrow"}},
		{"RaiseAsUnique", group("raise unique"), "UNIQUE_VIOLATION", "This club exists already", details{"sqlstate": "23505", "detail": "Since 1900"}},
		{"RaiseAsNotNull", group("raise not null"), "NOT_NULL_VIOLATION", "Give the club a name", details{"sqlstate": "23502"}},
		{"RaiseAsPrivilege", group("raise privilege"), "UNAUTHORIZED", "Only members may", details{"sqlstate": "42501"}},
		{"UniqueInATrigger", group("audit"), "UNIQUE_VIOLATION", "another row already has the same value", constraint("23505", "audit", "audit_pkey")},
		{"DataInATrigger", group("cast"), "REJECTED_BY_DATABASE", "the database cannot work with a value of this write", details{"sqlstate": "22P02"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			user := "reader of " + test.name
			result := b.One(t, user, test.op)
			require.Equal(t, "fatal_error", result.Status, "%+v", result)
			require.Equal(t, test.code, result.FailedOperation.ErrorCode, "%+v", result.FailedOperation)
			require.Equal(t, test.message, result.FailedOperation.Message)
			require.Equal(t, test.message, result.Message)
			require.Equal(t, test.details, result.FailedOperation.Details)
			require.Equal(t, 0, *result.FailedOperation.OperationIndex)

			// The same is in the record that apps sync.
			require.Equal(t, test.message, b.db.Text(t, `select message from postern.rejected_writes where subject = $1`, rig.UserID(user)))
			stored := b.db.Text(t, `select details::text from postern.rejected_writes where subject = $1`, rig.UserID(user))
			if test.details == nil {
				require.Equal(t, "<null>", stored)
				return
			}
			want, err := json.Marshal(test.details)
			require.NoError(t, err)
			require.JSONEq(t, string(want), stored)
		})
	}
}
