package doctor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What no database of the tests can be: with a schema between the first migration and the
// newest.
func TestJudgements(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		judge func(*examination)
		want  []string // "severity: cause"
	}{
		"SchemaBehind":  {func(e *examination) { judgeVersion(e, 1, 2) }, []string{"error: schema postern has version 1, and this program needs 2"}},
		"SchemaAhead":   {func(e *examination) { judgeVersion(e, 3, 2) }, []string{"warning: schema postern has version 3, and this program knows 2"}},
		"SchemaUnknown": {func(e *examination) { judgeVersion(e, 0, 2) }, []string{"error: the login role cannot read the version of schema postern, or it has none"}},
		"SchemaNewest":  {func(e *examination) { judgeVersion(e, 2, 2) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &examination{}
			test.judge(e)
			var found []string
			for _, f := range e.findings {
				require.NotEmpty(t, f.Remedy)
				found = append(found, string(f.Severity)+": "+f.Cause)
			}
			require.Equal(t, test.want, found)
		})
	}
}
