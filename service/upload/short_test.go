package upload_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/upload"
)

func TestShort(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"Empty", "", ""},
		{"AsLongAsAllowed", strings.Repeat("é", 100), strings.Repeat("é", 100)},
		{"Longer", strings.Repeat("é", 101), strings.Repeat("é", 100) + "…"},
		{"NotUTF8", strings.Repeat("\xff", 101), strings.Repeat("\xff", 100) + "…"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, upload.Short(test.text))
		})
	}
}
