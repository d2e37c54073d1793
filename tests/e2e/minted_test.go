package e2e_test

import (
	"net/http"
	"os/exec"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/service/identity"
	"postern/tests/rig"
)

// A device whose own token the PowerSync Service would refuse syncs with one of
// Postern's, which the Service's library verifies. It uploads with its own.
func TestMintedToken(t *testing.T) {
	needNode(t)
	t.Parallel()
	key, err := identity.NewSigningKey()
	require.NoError(t, err)
	signingKey, err := key.PrivateJWK()
	require.NoError(t, err)
	db := rig.NewDatabase(t)
	stream := newPowerSync(t, db)
	way := newNetwork(t, stream)
	s := rig.NewServiceOn(t, db, rig.DemoPolicies(t), func(c *service.Config) {
		c.PowerSyncURL, c.PowerSyncAudience, c.SigningKey, c.TokenClaims = way.URL, []string{"powersync"}, signingKey, []string{"email"}
	})
	b := newBundle(t, s, way, stream)

	answer := s.Send(t, http.MethodGet, "/api/credentials", "", "Authorization", "Bearer "+s.Token(t, "alice"))
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	var credentials struct {
		Token  string `json:"token"`
		Minted bool   `json:"minted"`
	}
	require.NoError(t, json.Unmarshal([]byte(answer.Body), &credentials))
	require.True(t, credentials.Minted)
	cmd := exec.CommandContext(t.Context(), node, "verify-token.mjs")
	cmd.Env = []string{"TOKEN=" + credentials.Token, "KEY_SET=" + s.URL + "/.well-known/jwks.json", "AUDIENCE=powersync"}
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
	var verified struct {
		Thumbprint string `json:"thumbprint"`
		Claims     struct {
			Subject string `json:"sub"`
			Email   string `json:"email"`
		} `json:"claims"`
	}
	require.NoError(t, json.Unmarshal(output, &verified), "%s", output)
	require.Equal(t, b.alice, verified.Claims.Subject)
	require.Equal(t, "alice@example.com", verified.Claims.Email)
	require.Equal(t, key.ID, verified.Thumbprint, "RFC 7638")

	b.run(t, "writes")
	require.Equal(t, "2", db.Text(t, `select count(*) from lists where owner_id = $1`, b.alice))
	require.Equal(t, []string{b.alice}, stream.users())
}
