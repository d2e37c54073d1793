package e2e_test

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/identity"
	"postern/service/local"
	"postern/tests/rig"
)

// The console's playground in a browser. What is tried out leaves no trace; what is
// applied is one row.
func TestPlayground(t *testing.T) {
	t.Parallel()
	needBrowser(t)
	set, err := policies.LoadFS(fstest.MapFS{"lists.yaml": {Data: []byte(`tables:
  lists:
    allow: [create, update]
    rules:
      - name: name-length
        check: size(new.name) > 0 && size(new.name) <= 10
        code: NAME_LENGTH
        message: "A list's name has 1 to 10 characters"
      - name: few-lists
        on: [put]
        lookup: {mine: select count(*) as n from lists where owner_id = $auth.sub}
        check: lookup.mine.n < 3
        code: TOO_MANY
        message: You have three lists
  todos:
    allow: all
`)}}, "policies")
	require.NoError(t, err)
	s := rig.NewService(t, set)
	rejectMany(t, s)
	driveConsole(t, "playground.mjs", s)
	require.Equal(t, "Food "+rig.UserID("bob"), s.Database.Text(t, `select string_agg(name || ' ' || owner_id, ', ') from lists`))
	require.Equal(t, "100001", s.Database.Text(t, `select count(*) from postern.rejected_writes`))
}

// The playground of a service whose users are a provider's takes pasted claims, and writes
// nothing.
func TestPlaygroundClaims(t *testing.T) {
	t.Parallel()
	needBrowser(t)
	keys, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	s := rig.NewServiceFor(t, rig.NewDatabase(t), rig.Policies(t, `tables: {lists: {allow: all, rules: [{name: team, check: "auth.claims.team == new.name", code: TEAM, message: m}]}}`), []identity.Issuer{{
		Issuer: local.IssuerName, KeySetURL: rig.ServeIssuer(t, keys) + "/dev/jwks.json",
		Audience: []string{local.Audience}, Algorithms: []string{"ES256"}, Roles: []string{"authenticated"},
	}})
	s.Issuer = keys
	rejectMany(t, s)
	driveConsole(t, "playground-claims.mjs", s, "USER_ID="+rig.UserID("alice"))
	require.Equal(t, "0", s.Database.Text(t, `select count(*) from lists`))
	require.Equal(t, "100001", s.Database.Text(t, `select count(*) from postern.rejected_writes`))
}
