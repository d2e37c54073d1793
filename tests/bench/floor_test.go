package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/service/ledger"
	"postern/tests/rig"
)

func TestMain(m *testing.M) {
	beFloor()
	rig.Main(m)
}

// TestSameStatements keeps the floor honest: for every shape of request it sends
// the messages that Postern sends, each as long.
func TestSameStatements(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	through := func() (*rig.Recorder, string) {
		u, err := url.Parse(db.LoginURL)
		require.NoError(t, err)
		recorded := &rig.Recorder{}
		proxied, err := rig.NewProxy(t, u.Host, rig.ProxyOptions{Requests: recorded}).URL(db.LoginURL + "&pool_max_conns=1")
		require.NoError(t, err)
		return recorded, proxied
	}
	fromPostern, posternURL := through()
	s := rig.NewServiceOn(t, db, rig.DemoPolicies(t), func(c *service.Config) { c.DatabaseURL = posternURL })
	fromFloor, floorURL := through()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	f, err := newFloor(ctx, floorURL, rig.ServeIssuer(t, s.Issuer)+"/dev/jwks.json")
	require.NoError(t, err)
	t.Cleanup(f.db.Close)
	app := f.app()
	token := s.Token(t, "alice")
	send := func(shape shape) {
		body := shape.body(nil)
		answer := s.Send(t, http.MethodPost, "/api/data", string(body), "Authorization", "Bearer "+token)
		require.Equal(t, http.StatusOK, answer.Status)
		request := httptest.NewRequest(http.MethodPost, "/api/data", bytes.NewReader(body))
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := app.Test(request, -1)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode)
		response.Body.Close()
	}
	send(shape{1, 1}) // the connections are made
	s.AwaitTidy(t)
	require.Subset(t, fromPostern.Parsed(t), []string{f.setup, ledger.SettleOneSQL, roleSQL, putSQL})
	fromFloor.Reset()
	for _, shape := range shapes {
		send(shape)
		fromPostern.Reset()
		fromFloor.Reset()
		send(shape)
		require.Equal(t, fromPostern.Messages(t), fromFloor.Messages(t), "%v", shape)
	}
}
