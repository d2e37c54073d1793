package conformance_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/service/local"
)

// TestMessages has the policy's own words for what rejects a write, whichever way it is
// found: by the planner, by a constraint at once or at the end, or by a guard.
func TestMessages(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create extension if not exists btree_gist;
		create table rooms (id uuid primary key, name text unique, owner_id uuid, kind text, seats int constraint some_seats check (seats > 0));
		create unique index rooms_lower on rooms (lower(name));
		create table slots (id uuid primary key, room uuid references rooms, later uuid constraint later_room references rooms deferrable initially deferred,
		  at int4range, exclude using gist (room with =, at with &&));
		grant select, insert, update, delete on rooms, slots to authenticated`, `
tables:
  rooms:
    allow: all
    owner: owner_id
    immutable: [kind]
    messages:
      rooms_name_key: {code: NAME_TAKEN, message: A room has this name already, client: true}
      rooms_lower: {message: A room has almost this name already}
      some_seats: {code: NO_SEATS, message: A room has seats}
      owner: {code: NOT_YOURS, message: Only who made a room changes it}
      immutable: {message: A room stays what it is, client: true}
  booked:
    table: slots
    allow: all
    messages:
      slots_room_at_excl: {code: BOOKED, message: The room is taken at that time}
      slots_room_fkey: {code: ROOM_GONE, message: The room is gone or in use}
      later_room: {message: There is no later room}
`)
	room, slot, bobs := uuid.NewString(), uuid.NewString(), uuid.NewString()
	b.succeed(t, "alice", op("PUT", "rooms", room, `"name":"Blue","seats":4,"kind":"a"`))
	b.succeed(t, "bob", op("PUT", "rooms", bobs, `"name":"Bob's"`))
	b.succeed(t, "alice", op("PUT", "booked", slot, `"room":"`+room+`","at":"[1,5)"`))
	for _, test := range []struct {
		name, crud, code, message string
		client                    bool
	}{
		{"Unique", op("PUT", "rooms", uuid.NewString(), `"name":"Blue"`), "NAME_TAKEN", "A room has this name already", true},
		{"UniqueIndexOfAnExpression", op("PUT", "rooms", uuid.NewString(), `"name":"BLUE"`), "UNIQUE_VIOLATION", "A room has almost this name already", false},
		{"Check", op("PATCH", "rooms", room, `"seats":0`), "NO_SEATS", "A room has seats", false},
		{"Exclusion", op("PUT", "booked", uuid.NewString(), `"room":"`+room+`","at":"[4,6)"`), "BOOKED", "The room is taken at that time", false},
		{"ForeignKey", op("PUT", "booked", uuid.NewString(), `"room":"`+uuid.NewString()+`"`), "ROOM_GONE", "The room is gone or in use", false},
		{"ForeignKeyOfAnotherTable", op("DELETE", "rooms", room, ""), "ROOM_GONE", "The room is gone or in use", false},
		{"DeferredForeignKey", op("PUT", "booked", uuid.NewString(), `"later":"`+uuid.NewString()+`"`), "FOREIGN_KEY_VIOLATION", "There is no later room", false},
		{"OwnerSent", op("PUT", "rooms", uuid.NewString(), `"owner_id":"`+local.UserID("bob")+`"`), "NOT_YOURS", "Only who made a room changes it", false},
		{"OwnerOfTheRow", op("PATCH", "rooms", bobs, `"seats":9`), "NOT_YOURS", "Only who made a room changes it", false},
		{"ImmutablePatch", op("PATCH", "rooms", room, `"kind":"b"`), "IMMUTABLE_COLUMN", "A room stays what it is", true},
		{"ImmutablePut", op("PUT", "rooms", room, `"kind":"b"`), "IMMUTABLE_COLUMN", "A room stays what it is", true},
		{"WithoutOwnWords", op("PUT", "booked", slot, `"id":"`+uuid.NewString()+`"`), "INVALID_DATA", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			result := b.One(t, "alice", test.crud)
			require.Equal(t, "fatal_error", result.Status)
			require.Equal(t, test.code, result.FailedOperation.ErrorCode)
			if test.message != "" {
				require.Equal(t, test.message, result.Message)
			}
			require.Equal(t, test.client, *result.RequiresClientHandling)
			require.Equal(t, test.code+" "+result.Message, b.db.Text(t, `select code || ' ' || message from postern.rejected_writes order by first_at desc limit 1`))
			if test.client { // the device goes on
				b.db.Exec(t, `update postern.rejected_writes set status = 'dismissed', closed_at = now() where status = 'held'`)
			}
		})
	}
}
