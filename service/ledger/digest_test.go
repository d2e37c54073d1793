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
		{"ColumnOrder", func(s *sent) { slices.Reverse(s.op(0).Data) }, false},
		{"PreviousValue", func(s *sent) { s.op(1).Previous[0].Value = jsontext.Value(`3`) }, false},
		{"PreviousAsData", func(s *sent) { s.op(1).Data, s.op(1).Previous = s.op(1).Previous, s.op(1).Data }, false},
		{"OperationOrder", func(s *sent) { slices.Reverse(s.transaction.Operations) }, false},
		{"OperationLeftOut", func(s *sent) { s.transaction.Operations = s.transaction.Operations[:1] }, false},
		{"OperationTwice", func(s *sent) { s.transaction.Operations = append(s.transaction.Operations, *s.op(1)) }, false},
		{"NumberSpelling", func(s *sent) { s.op(0).Data[1].Value = jsontext.Value(`1.0`) }, false},
		{"NumberAsText", func(s *sent) { s.op(0).Data[1].Value = jsontext.Value(`"1"`) }, false},
		{"EscapeInText", func(s *sent) { s.op(0).Data[0].Value = jsontext.Value(`"\u0047roceries"`) }, false},
		{"TextMovedToTheNextField", func(s *sent) { s.op(0).Table, s.op(0).ID = "list", "sa" }, false},
		{"TextMovedToTheNextClaim", func(s *sent) { s.who.Issuer, s.who.Subject = "https://issuer.example.co", "malice" }, false},

		{"Role", func(s *sent) { s.who.Role = "service_role" }, true},
		{"SessionBesideClientID", func(s *sent) { s.who.SessionID = "another" }, true},
		{"OtherTokenOfTheSession", func(s *sent) {
			s.who.KeyID, s.who.Algorithm, s.who.Audience = "k2", "RS256", []string{"b"}
			s.who.IssuedAt, s.who.ExpiresAt, s.who.Claims = time.Unix(2, 0), time.Unix(3, 0), jsontext.Value(`{}`)
		}, true},
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
		require.Equal(t, "d924918b877aade18edc3fe3144c5ed00d0be116b6b6c68e9d592c679a3f477f", hex.EncodeToString(sum[:]))
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
		require.True(t, sent{transaction: upload.Transaction{ID: "7"}}.digest().Receipt)
		require.False(t, sent{clientID: "device"}.digest().Receipt)
	})
}
