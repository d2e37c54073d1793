package ledger_test

import (
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/upload"
)

// sent is what a digest is made of.
type sent struct {
	who         identity.Identity
	clientID    string
	transaction upload.Transaction
}

func (s sent) digest() ledger.Digest { return ledger.DigestOf(s.who, s.clientID, s.transaction) }

func (s sent) op(n int) *upload.Operation { return &s.transaction.Operations[n] }

// reference is a transaction of two operations. Each call returns one that shares
// nothing with the others.
func reference() *sent {
	return &sent{
		who:      identity.Identity{Issuer: "https://issuer.example.com", Subject: "alice", Role: "authenticated", SessionID: "session"},
		clientID: "device",
		transaction: upload.Transaction{ID: "7", Operations: []upload.Operation{
			{OpID: "8", Op: upload.Put, Table: "lists", ID: "a", Metadata: "note", Data: members("name", `"Groceries"`, "n", `1`, "j", `{"a":[1]}`)},
			{OpID: "9", Op: upload.Patch, Table: "lists", ID: "b", Data: members("n", `null`), Previous: members("n", `2`)},
		}},
	}
}

// members makes a row of names and values in turn.
func members(pairs ...string) (list []upload.Member) {
	for pair := range slices.Chunk(pairs, 2) {
		list = append(list, upload.Member{Name: pair[0], Value: jsontext.Value(pair[1])})
	}
	return list
}

func TestDigestOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*sent)
		same   bool // the change leaves the digest as it is
	}{
		{"Issuer", func(s *sent) { s.who.Issuer += "/" }, false},
		{"Subject", func(s *sent) { s.who.Subject = "bob" }, false},
		{"ClientID", func(s *sent) { s.clientID = "other" }, false},
		{"SessionForClientID", func(s *sent) { s.clientID = "" }, false},
		{"TransactionID", func(s *sent) { s.transaction.ID = "70" }, false},
		{"NoTransactionID", func(s *sent) { s.transaction.ID = "" }, false},
		{"OpID", func(s *sent) { s.op(0).OpID = "80" }, false},
		{"NoOpID", func(s *sent) { s.op(0).OpID = "" }, false},
		{"Op", func(s *sent) { s.op(0).Op = upload.Patch }, false},
		{"Table", func(s *sent) { s.op(0).Table = "todos" }, false},
		{"RowID", func(s *sent) { s.op(0).ID = "A" }, false},
		{"Metadata", func(s *sent) { s.op(0).Metadata = "" }, false},
		{"ColumnName", func(s *sent) { s.op(0).Data[0].Name = "Name" }, false},
		{"ColumnValue", func(s *sent) { s.op(0).Data[0].Value = jsontext.Value(`"groceries"`) }, false},
		{"ColumnLeftOut", func(s *sent) { s.op(1).Data = nil }, false},

		{"PreviousValue", func(s *sent) { s.op(1).Previous[0].Value = jsontext.Value(`3`) }, false},
		{"PreviousAsData", func(s *sent) { s.op(1).Data, s.op(1).Previous = s.op(1).Previous, s.op(1).Data }, false},
		{"OperationOrder", func(s *sent) { slices.Reverse(s.transaction.Operations) }, false},
		{"OperationLeftOut", func(s *sent) { s.transaction.Operations = s.transaction.Operations[:1] }, false},
		{"OperationTwice", func(s *sent) { s.transaction.Operations = append(s.transaction.Operations, *s.op(1)) }, false},
		{"NumberSpelling", func(s *sent) { s.op(0).Data[1].Value = jsontext.Value(`1.0`) }, false},
		{"NumberAsText", func(s *sent) { s.op(0).Data[1].Value = jsontext.Value(`"1"`) }, false},
		{"TextMovedToTheNextField", func(s *sent) { s.op(0).Table, s.op(0).ID = "list", "sa" }, false},
		{"TextMovedToTheNextClaim", func(s *sent) { s.who.Issuer, s.who.Subject = "https://issuer.example.co", "malice" }, false},

		{"Role", func(s *sent) { s.who.Role = "service_role" }, true},
		{"SessionBesideClientID", func(s *sent) { s.who.SessionID = "another" }, true},
		{"OtherTokenOfTheSession", func(s *sent) {
			s.who.KeyID, s.who.Algorithm, s.who.Audience = "k2", "RS256", []string{"b"}
			s.who.IssuedAt, s.who.ExpiresAt, s.who.Claims = time.Unix(2, 0), time.Unix(3, 0), jsontext.Value(`{}`)
		}, true},
		{"ColumnOrder", func(s *sent) { slices.Reverse(s.op(0).Data) }, true},
		{"EscapeInText", func(s *sent) { s.op(0).Data[0].Value = jsontext.Value(`"\u0047roceries"`) }, true},
		{"EscapedSlash", func(s *sent) { s.op(0).Data[2].Value = jsontext.Value(`{"\u0061":[1]}`) }, true},
		{"SpaceInValue", func(s *sent) { s.op(0).Data[2].Value = jsontext.Value("{ \"a\":\n [1 ] }") }, true},
		{"EmptyForNoPrevious", func(s *sent) { s.op(0).Previous = []upload.Member{} }, true},
		{"ClientIDThatIsTheSession", func(s *sent) { s.clientID, s.who.SessionID = "", "device" }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			changed := reference()
			test.change(changed)
			require.Equal(t, test.same, changed.digest().Sum == reference().digest().Sum)
		})
	}

	t.Run("LeavesTheValuesAsTheyAre", func(t *testing.T) {
		t.Parallel()
		s := reference()
		s.op(0).Data[2].Value = jsontext.Value(`{ "a" : 1 }`)
		s.digest()
		require.Equal(t, `{ "a" : 1 }`, string(s.op(0).Data[2].Value))
	})

	// Receipts and rejected writes in the database are found by this sum.
	t.Run("StaysTheSameFromVersionToVersion", func(t *testing.T) {
		t.Parallel()
		sum := reference().digest().Sum
		require.Equal(t, "eacc3f73e7c44ce93962b7348b7e44c8c80944851a09291ffc935eebaf304796", hex.EncodeToString(sum[:]))
	})
}

// TestMemberOrder has one nested value in two orders: dictionaries of Swift, Kotlin and
// Dart have no stable order.
func TestMemberOrder(t *testing.T) {
	t.Parallel()
	digest := func(value string) ledger.Digest {
		s := reference()
		s.op(0).Data[2].Value = jsontext.Value(value)
		return s.digest()
	}
	require.Equal(t, digest(`{"n":1,"m":{"b":"a/b","a":"é"}}`), digest(`{ "m": {"a":"\u00e9","b":"a\/b"}, "n":1}`))
	require.NotEqual(t, digest(`[1,2]`), digest(`[2,1]`))
	require.NotEqual(t, digest(`{"n":9007199254740993}`), digest(`{"n":9007199254740992}`), "every digit counts")
	require.NotEqual(t, digest(`{"n":1}`), digest(`{"n":1.0}`))
}

// TestQueues is the table of README.md: what happens if a device sends a transaction
// again, and if another queue sends one with the same number and content.
func TestQueues(t *testing.T) {
	t.Parallel()
	const fresh, named = "3f2a8c1e-9d4b-4c6a-8e7f-1a2b3c4d5e6f", "6fa459ea-ee8a-3ca4-894e-db77e160355e" // UUIDs of version 4 and 3
	put := upload.Operation{Op: upload.Put, Table: "lists", ID: fresh, Data: members("name", `"a"`)}
	putNamed, putText := put, put
	putNamed.ID, putText.ID = named, "settings"
	patch := upload.Operation{Op: upload.Patch, Table: "lists", ID: fresh, Data: members("name", `"a"`)}
	remove := upload.Operation{Op: upload.Delete, Table: "lists", ID: fresh}
	increment := upload.Operation{Op: upload.Patch, Table: "lists", ID: fresh, Data: members("n", `5`), Previous: members("n", `4`)}
	type client struct{ clientID, session string }
	// How a second arrival from another client relates to the first.
	again := func(a, b client, op upload.Operation) string {
		of := func(c client) ledger.Digest {
			return sent{identity.Identity{Issuer: "i", Subject: "alice", SessionID: c.session}, c.clientID, upload.Transaction{ID: "1", Operations: []upload.Operation{op}}}.digest()
		}
		switch first, second := of(a), of(b); {
		case !first.Receipt || !second.Receipt:
			return "no receipt"
		case first.Sum == second.Sum:
			return "the same"
		}
		return "another"
	}
	for _, test := range []struct {
		name          string
		first, second client
		put, other    string // a PUT of a fresh row; any other operation
	}{
		{"ClientID/Retry", client{"c", "s"}, client{"c", "s"}, "the same", "the same"},
		{"ClientID/RetryAfterSignIn", client{"c", "s"}, client{"c", "s2"}, "the same", "the same"},
		{"ClientID/OtherDevice", client{"c", "s"}, client{"d", "s"}, "another", "another"},
		{"ClientID/Reinstall", client{"c", "s"}, client{"d", "s2"}, "another", "another"},
		{"Session/Retry", client{"", "s"}, client{"", "s"}, "the same", "the same"},
		{"Session/RetryAfterSignIn", client{"", "s"}, client{"", "s2"}, "the same", "another"},
		{"Session/OtherDevice", client{"", "s"}, client{"", "s2"}, "the same", "another"}, // another device makes up another UUID
		{"Neither/Retry", client{}, client{}, "the same", "no receipt"},
		{"Neither/OtherDevice", client{}, client{}, "the same", "no receipt"}, // likewise
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.put, again(test.first, test.second, put), "PUT of a fresh row")
			for name, op := range map[string]upload.Operation{"PATCH": patch, "DELETE": remove, "increment": increment, "PUT under a name": putText, "PUT under a name's UUID": putNamed} {
				require.Equal(t, test.other, again(test.first, test.second, op), name)
			}
		})
	}
	t.Run("RestoredBackup", func(t *testing.T) {
		t.Parallel()
		// It repeats ids with other content.
		s := reference()
		s.op(0).Data[0].Value = jsontext.Value(`"Other"`)
		require.NotEqual(t, reference().digest(), s.digest())
	})
}

func TestDigestGetsAReceipt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                string
		transactionID, opID string // the op id is the second operation's
		want                bool
	}{
		{"BothIDs", "7", "9", true},
		{"TransactionIDAlone", "7", "", true},
		{"OpIDAlone", "", "9", true},
		{"NoID", "", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := reference()
			s.transaction.ID, s.op(0).OpID, s.op(1).OpID = test.transactionID, "", test.opID
			require.Equal(t, test.want, s.digest().Receipt)
		})
	}

	t.Run("NoOperations", func(t *testing.T) {
		t.Parallel()
		require.True(t, sent{clientID: "device", transaction: upload.Transaction{ID: "7"}}.digest().Receipt)
		require.False(t, sent{transaction: upload.Transaction{ID: "7"}}.digest().Receipt, "nothing names the queue")
		require.False(t, sent{clientID: "device"}.digest().Receipt)
	})
}

// TestDigestOfUnreadable covers the bytes of a transaction that cannot be read, so that
// its record is stored once.
func TestDigestOfUnreadable(t *testing.T) {
	t.Parallel()
	digest := func(clientID, id, bytes string) ledger.Digest {
		return ledger.DigestOf(identity.Identity{Issuer: "i", Subject: "alice"}, clientID, upload.Transaction{ID: id, Unreadable: &upload.Unreadable{Sent: []byte(bytes)}})
	}
	first := digest("device", "7", "\xff")
	require.True(t, first.Receipt)
	require.Equal(t, first, digest("device", "7", "\xff"))
	require.NotEqual(t, first.Sum, digest("device", "7", "\xfe").Sum)
	require.NotEqual(t, first.Sum, digest("other", "7", "\xff").Sum)
	require.False(t, digest("", "7", "\xff").Receipt, "no queue is known")
	require.False(t, digest("device", "", "\xff").Receipt, "two writes may have the same bytes")
}
