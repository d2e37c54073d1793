package e2e_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

// supabaseAuth stands in for Supabase Auth: it signs alice in, and refreshes her token.
type supabaseAuth struct {
	b         *testBundle
	refreshes atomic.Int32
}

// ServeHTTP answers with a session. The password says whether its token has expired.
func (a *supabaseAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var form struct {
		Password string `json:"password"`
	}
	if err := json.UnmarshalRead(r.Body, &form); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	issued := time.Now()
	if form.Password == "expired" {
		issued = issued.Add(-time.Hour - 2*time.Minute) // a minute more than the leeway
	}
	if r.URL.Query().Get("grant_type") == "refresh_token" {
		a.refreshes.Add(1)
	}
	token, err := a.b.Issuer.Token("alice", issued)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.MarshalWrite(w, map[string]any{
		"access_token": token, "token_type": "bearer", "expires_in": 3600, "expires_at": issued.Add(time.Hour).Unix(),
		"refresh_token": "refresh", "user": map[string]string{"id": a.b.alice},
	})
}

// A device's clock that is wrong by hours stops no upload. A token is refreshed because
// the server refused it, and not because of the clock.
func TestSlowClock(t *testing.T) {
	everywhere(t, "slow-clock", setup, func(t *testing.T, b *testBundle, _ report) {
		require.Equal(t, "2", b.db.Text(t, `select count(*) from lists where owner_id = $1`, b.alice))
		require.Contains(t, b.Logs.String(), `"reason":"expired token"`)
		require.Positive(t, b.supabase.refreshes.Load())
	})
}

func TestFastClock(t *testing.T) {
	everywhere(t, "fast-clock", setup, func(t *testing.T, b *testBundle, _ report) {
		require.Equal(t, "2", b.db.Text(t, `select count(*) from lists where owner_id = $1`, b.alice))
		require.NotContains(t, b.Logs.String(), "token refused")
		require.Zero(t, b.supabase.refreshes.Load())
	})
}
