package ledger_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/ledger"
)

// FuzzParseCursor checks that a client's text is refused, or is a cursor whose String
// parses to the same cursor.
func FuzzParseCursor(f *testing.F) {
	f.Add(ledger.Cursor{}.String())
	f.Add("MTc5NTU1NTU1NTAwMDAwMC4wMDAwMDAwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDE")
	f.Add("")
	f.Add("LTEu")
	f.Fuzz(func(t *testing.T, text string) {
		cursor, err := ledger.ParseCursor(text)
		if err != nil {
			return
		}
		again, err := ledger.ParseCursor(cursor.String())
		require.NoError(t, err)
		require.Equal(t, cursor, again)
	})
}
