package identity_test

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/service/identity"
)

func TestOfClaims(t *testing.T) {
	t.Parallel()
	roles := []string{"authenticated", "anon"}
	who, err := identity.OfClaims(jsontext.Value(`{"sub":"u","session_id":"s","iss":"i","team":7}`), roles)
	require.NoError(t, err)
	require.Equal(t, identity.Identity{Issuer: "i", Subject: "u", Role: "authenticated", SessionID: "s", Claims: jsontext.Value(`{"iss":"i","session_id":"s","sub":"u","team":7}`)}, who)
	for claims, want := range map[string]string{
		`{"sub":"u","role":"postgres"}`: `users do not write as role "postgres"`,
		`{"role":"anon"}`:               "the claims have no sub, so they name no user",
		`{"sub":7}`:                     "claim sub is no text",
		`[]`:                            "the claims are no JSON object",
	} {
		_, err := identity.OfClaims(jsontext.Value(claims), roles)
		require.ErrorContains(t, err, want)
	}
}
