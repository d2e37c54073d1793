package e2e_test

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/service/doctor"
	"postern/service/identity"
	"postern/service/local"
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

// A real PowerSync Service that has the key set of Postern's signing key takes the tokens
// that Postern mints with it, and no others.
func TestMintedTokenService(t *testing.T) {
	needService(t)
	t.Parallel()
	const audience = "powersync"
	key, second, stranger := newSigningKey(t), newSigningKey(t), newSigningKey(t)
	signingKey, err := key.PrivateJWK()
	require.NoError(t, err)
	secondKey, err := second.PrivateJWK()
	require.NoError(t, err)
	dev := startDev(t, "POSTERN_SIGNING_KEY='"+signingKey+"'", "POSTERN_SECOND_KEY='"+secondKey+"'", "POWERSYNC_AUDIENCE="+audience)
	acceptMinted(t, dev, audience)
	service := startPowerSync(t, dev.config)

	// The development issuer's tokens have another audience and another key.
	var r report
	runDevice(t, "powersync-service", []string{"POSTERN_URL=" + dev.url}, &r, outputs{dev.Process, service})
	require.Equal(t, []list{{r.IDs["accepted"], "Groceries", local.UserID("alice")}}, r.Lists)
	require.Len(t, r.NotAccepted, 1)

	impostor := stranger
	impostor.ID = key.ID
	for _, test := range []struct {
		name   string
		token  string
		answer string // begins so
	}{
		{"TheKey", mint(t, key, audience), `{"checkpoint":`},
		{"TheSecondKey", mint(t, second, audience), `{"checkpoint":`},
		{"AnotherKey", mint(t, stranger, audience), `{"error":{"code":"PSYNC_S2101"`},
		{"AnotherKeyWithTheID", mint(t, impostor, audience), `{"error":{"code":"PSYNC_S2101"`},
		{"AnotherAudience", mint(t, key, "somebody"), `{"error":{"code":"PSYNC_S2105"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, dev.powerSync+"/sync/stream", strings.NewReader(`{"raw_data":true}`))
			require.NoError(t, err)
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Authorization", "Bearer "+test.token)
			response, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			defer response.Body.Close()
			line, _ := bufio.NewReader(response.Body).ReadString('\n') // an error's answer has one, and no end of line
			require.Equal(t, test.answer, line[:min(len(line), len(test.answer))], line)
		})
	}
}

// A real PowerSync Service answers the doctor's trials: it has the key set of one signing
// key, and not that of another.
func TestDoctorPowerSyncService(t *testing.T) {
	needService(t)
	t.Parallel()
	const audience = "powersync"
	key, stranger := newSigningKey(t), newSigningKey(t)
	signingKey, err := key.PrivateJWK()
	require.NoError(t, err)
	dev := startDev(t, "POSTERN_SIGNING_KEY='"+signingKey+"'", "POWERSYNC_AUDIENCE="+audience)
	acceptMinted(t, dev, audience)
	startPowerSync(t, dev.config)

	for name, test := range map[string]struct {
		key   identity.SigningKey
		token string
		url   string
		want  []string // the beginnings of the causes
	}{
		"Accepted":    {key, mint(t, key, audience), dev.powerSync, nil},
		"AnotherKey":  {stranger, "", dev.powerSync, []string{"the PowerSync Service refuses the tokens that Postern mints with POSTERN_SIGNING_KEY"}},
		"UsersToken":  {key, mint(t, stranger, audience), dev.powerSync, []string{"the PowerSync Service refuses the token; Postern mints another one"}},
		"Unreachable": {key, "", "http://" + freeAddress(t), []string{"the PowerSync Service cannot be reached"}},
	} {
		t.Run(name, func(t *testing.T) {
			minter, err := identity.NewMinter(identity.Minting{Keys: []identity.SigningKey{test.key}, Audience: []string{audience}, Lifetime: time.Hour})
			require.NoError(t, err)
			var causes []string
			for _, f := range doctor.Examine(t.Context(), doctor.Setup{PowerSyncURL: test.url, Minter: minter, Token: test.token, Transport: http.DefaultTransport, Now: time.Now}) {
				if f.Check == "powersync" {
					causes = append(causes, f.Cause)
				}
			}
			require.Len(t, causes, len(test.want), causes)
			for i, cause := range causes {
				require.Contains(t, cause, test.want[i])
			}
		})
	}
}

// acceptMinted has the configuration of a PowerSync Service name the key set of minted
// tokens in place of the development issuer's.
func acceptMinted(t *testing.T, dev devMode, audience string) {
	t.Helper()
	config, err := os.ReadFile(dev.config)
	require.NoError(t, err)
	config = regexp.MustCompile(`jwks_uri: .*`).ReplaceAll(config, []byte("jwks_uri: "+dev.url+"/.well-known/jwks.json"))
	config = regexp.MustCompile(`audience: .*`).ReplaceAll(config, []byte("audience: ["+audience+"]"))
	require.NoError(t, os.WriteFile(dev.config, config, 0o600))
}

func newSigningKey(t *testing.T) identity.SigningKey {
	t.Helper()
	key, err := identity.NewSigningKey()
	require.NoError(t, err)
	return key
}

// mint returns a token for alice.
func mint(t *testing.T, key identity.SigningKey, audience string) string {
	t.Helper()
	minter, err := identity.NewMinter(identity.Minting{Keys: []identity.SigningKey{key}, Audience: []string{audience}, Lifetime: time.Hour})
	require.NoError(t, err)
	now := time.Now()
	token, _, err := minter.Mint(identity.Identity{Issuer: local.IssuerName, Subject: local.UserID("alice"), Claims: []byte(`{}`), ExpiresAt: now.Add(time.Hour)}, now)
	require.NoError(t, err)
	return token
}
