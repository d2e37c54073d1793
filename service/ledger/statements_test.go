package ledger

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/identity"
	"postern/service/upload"
)

// entry has a digest whose first byte is n.
func entry(n byte, id string, rejection *upload.Rejection) Entry {
	return Entry{Digest: Digest{Sum: [32]byte{n}, Receipt: true}, Transaction: upload.Transaction{ID: id}, Rejection: rejection}
}

// array is the text form of an array of such digests.
func array(digests ...byte) string {
	texts := make([]string, len(digests))
	for i, n := range digests {
		texts[i] = `"\` + Digest{Sum: [32]byte{n}}.bytea() + `"`
	}
	return "{" + strings.Join(texts, ",") + "}"
}

// only is the text form of one such digest.
func only(n byte) string { return Digest{Sum: [32]byte{n}}.bytea() }

func texts(args [][]byte) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		if out[i] = string(arg); arg == nil {
			out[i] = "NULL"
		}
	}
	return out
}

var (
	fatal = &upload.Rejection{Code: upload.CheckViolation}
	held  = &upload.Rejection{Code: upload.CheckViolation, ClientHandling: true}
)

func TestSettle(t *testing.T) {
	t.Parallel()
	without := entry(9, "9", nil)
	without.Digest.Receipt, without.once = false, [32]byte{8}
	for _, test := range []struct {
		name              string
		session, clientID string
		entries           []Entry
		receipts          [2]string // digests and outcomes
		undecided         string
		applied           string
		queue, latest     string
	}{
		{"Applied", "", "c", []Entry{entry(1, "7", nil)}, [2]string{only(1), `applied`}, "{}", array(1), "c", "7"},
		{"Rejected", "", "c", []Entry{entry(1, "7", fatal)}, [2]string{only(1), `rejected`}, "{}", "{}", "c", "7"},
		{"Held", "", "c", []Entry{entry(1, "7", held)}, [2]string{"{}", "{}"}, array(1), "{}", "c", "7"},
		{"WithoutReceipt", "", "c", []Entry{without}, [2]string{only(8), `applied`}, "{}", array(9), "c", "9"},
		{"SortedByDigest", "", "c", []Entry{entry(3, "1", nil), entry(1, "2", fatal), entry(2, "3", nil)}, [2]string{array(1, 2, 3), `{"rejected","applied","applied"}`}, "{}", array(2, 3), "c", "3"},
		{"HighestID", "", "c", []Entry{entry(1, "9", nil), entry(2, "10", fatal), entry(3, "8", nil)}, [2]string{array(1, 2, 3), `{"applied","rejected","applied"}`}, "{}", array(1, 3), "c", "10"},
		{"SessionForClientID", "s", "", []Entry{entry(1, "7", nil)}, [2]string{only(1), `applied`}, "{}", array(1), "s", "7"},
		{"ClientIDBeforeSession", "s", "c", []Entry{entry(1, "7", nil)}, [2]string{only(1), `applied`}, "{}", array(1), "c", "7"},
		{"UnknownQueue", "", "", []Entry{entry(1, "7", nil)}, [2]string{only(1), `applied`}, "{}", array(1), "", "NULL"},
		{"NoTransactionID", "", "c", []Entry{entry(1, "", nil)}, [2]string{only(1), `applied`}, "{}", array(1), "c", "NULL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			who := identity.Identity{Issuer: "issuer", Subject: "alice", SessionID: test.session}
			entries := make([]*Entry, len(test.entries))
			for i := range test.entries {
				entries[i] = &test.entries[i]
			}
			s, ok := Settle(who, test.clientID, entries)
			require.True(t, ok)
			require.Equal(t, []string{test.receipts[0], test.receipts[1], test.undecided, test.applied, "issuer", "alice", test.queue, test.latest}, texts(s.Args))
		})
	}
	_, ok := Settle(identity.Identity{}, "c", nil)
	require.False(t, ok)
}

func TestRejected(t *testing.T) {
	t.Parallel()
	who := identity.Identity{Issuer: "issuer", Subject: "alice", SessionID: "s", Role: "authenticated", Claims: []byte(`{"sub":"alice"}`)}
	transaction := upload.Transaction{ID: "7", Operations: []upload.Operation{
		{Op: upload.Delete, Table: "b\x00", ID: "1"}, {Op: upload.Delete, Table: "a", ID: "2"}, {Op: upload.Delete, Table: "a", ID: "3"},
	}}
	full := Entry{Digest: Digest{Sum: [32]byte{1}}, Transaction: transaction, Rejection: &upload.Rejection{
		Code: "TOO_LONG", Message: "the title a\x00 is too long", Details: map[string]any{"max": 3}, Operation: 1, ClientHandling: true, Rule: "title-length",
	}}
	bare := Entry{Digest: Digest{Sum: [32]byte{1}}, Rejection: &upload.Rejection{Code: "X", Operation: -1}}
	sum := Digest{Sum: [32]byte{1}}.bytea()
	unreadable := Entry{Digest: Digest{Sum: [32]byte{1}}, Rejection: &upload.Rejection{Code: "X", Operation: -1}, Transaction: upload.Transaction{
		Operations: []upload.Operation{{Op: upload.Put, Table: "a", ID: "1"}}, Unreadable: &upload.Unreadable{Sent: []byte("\xff")},
	}}
	for _, test := range []struct {
		name     string
		who      identity.Identity
		clientID string
		entry    Entry
		args     []string
	}{
		{
			"Full", who, "c", full,
			[]string{
				sum, "issuer", "alice", "c", "c", "7",
				`{"transaction_id":7,"crud":[{"id":"1","op":"DELETE","table":"b\u0000"},{"id":"2","op":"DELETE","table":"a"},{"id":"3","op":"DELETE","table":"a"}]}`,
				"{\"b\uFFFD\",\"a\"}", "TOO_LONG", "the title a\uFFFD is too long", `{"max":3}`, "1", "true", "title-length", "sha", "authenticated", `{"sub":"alice"}`, "false", "NULL", "true", "338",
			},
		},
		{
			"Bare", identity.Identity{Issuer: "issuer", Subject: "alice", SessionID: "s", Role: "authenticated"}, "", bare,
			[]string{sum, "issuer", "alice", "", "s", "NULL", `{"crud":[]}`, "{}", "X", "", "NULL", "NULL", "false", "", "sha", "authenticated", "{}", "false", "NULL", "false", "125"},
		},
		{
			"Unreadable", who, "c", unreadable,
			[]string{
				sum, "issuer", "alice", "c", "c", "NULL", `{"crud":[{"id":"1","op":"PUT","table":"a"}]}`, `{"a"}`, "X", "", "NULL", "NULL", "false", "", "sha",
				"authenticated", `{"sub":"alice"}`, "false", "/w==", "true", "178",
			},
		},
	} {
		for _, announce := range []bool{false, true} {
			t.Run(test.name+map[bool]string{true: "Announced"}[announce], func(t *testing.T) {
				t.Parallel()
				s, err := (&Ledger{Announce: announce}).Rejected(test.who, test.clientID, "sha", test.entry)
				require.NoError(t, err)
				require.Equal(t, test.args, texts(s.Args))
				require.Equal(t, announce, strings.Contains(s.SQL, "postern.river_job"))
			})
		}
	}
}

func TestReplaying(t *testing.T) {
	t.Parallel()
	record, by := Record{ID: "id"}, By{Who: "ann", Note: "why"}
	digest := Digest{Sum: [32]byte{1}, Receipt: true}
	statements := Replaying(record, digest, by, []byte(`{}`))
	require.Len(t, statements, 2)
	require.Equal(t, []string{digest.bytea(), StateClosed}, texts(statements[0].Args))
	require.Equal(t, []string{"id", "ann", "why", StateClosed, "{}"}, texts(statements[1].Args))

	digest.Receipt = false
	require.Equal(t, statements[1:], Replaying(record, digest, by, []byte(`{}`)), "no receipt")
}

// BenchmarkRejected stores transactions whose operations each name another table.
func BenchmarkRejected(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		e := Entry{Rejection: &upload.Rejection{}, Transaction: upload.Transaction{Operations: make([]upload.Operation, n)}}
		for i := range e.Transaction.Operations {
			e.Transaction.Operations[i] = upload.Operation{Op: upload.Delete, Table: fmt.Sprint("table", i), ID: "1"}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				_ = DigestOf(identity.Identity{}, "device", e.Transaction)
				if _, err := (&Ledger{}).Rejected(identity.Identity{}, "device", "", e); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/operation")
		})
	}
}
