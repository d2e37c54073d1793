package rejected_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/service/identity"
	"postern/service/local"
	"postern/supabase"
	"postern/tests/rig"
)

const (
	playgroundRow  = "11111111-1111-4111-8111-111111111111"
	playgroundCrud = `[{"op":"PUT","table":"lists","id":"` + playgroundRow + `","op_data":{"name":"Groceries"}}]`
)

// TestPlaygroundOfRealUsers is the playground of a service whose users sign in with a
// provider: nobody can write as one of them.
func TestPlaygroundOfRealUsers(t *testing.T) {
	t.Parallel()
	service := ofRealUsers(t)
	b, db := &testBundle{Service: service}, service.Database

	var known struct {
		Users    bool
		Tables   []struct{ Name string }
		Policies []struct{ Path string }
	}
	b.get(t, "/api/playground", &known)
	require.False(t, known.Users)
	require.Len(t, known.Tables, 2)
	require.Len(t, known.Policies, 1)

	claims := fmt.Sprintf(`{"sub":%q}`, rig.UserID("alice"))
	status, answer := b.page(t, http.MethodPost, "/api/playground/try", `{"claims":`+claims+`,"crud":`+playgroundCrud+`}`)
	require.Equal(t, http.StatusOK, status, answer)
	var tried struct {
		Rejection *struct{ Code string }
		Effects   []struct{ Did string }
		SQL       []struct{ SQL string }
	}
	require.NoError(t, json.Unmarshal([]byte(answer), &tried, json.MatchCaseInsensitiveNames(true)))
	require.Nil(t, tried.Rejection, answer)
	require.Equal(t, "inserted", tried.Effects[0].Did)
	require.Contains(t, tried.SQL[0].SQL, "insert into")
	require.Equal(t, "0 0", db.Text(t, `select (select count(*) from lists) || ' ' || (select count(*) from postern.receipts)`), "it is rolled back")

	status, _ = b.page(t, http.MethodPost, "/api/playground/apply", `{"claims":`+claims+`,"crud":`+playgroundCrud+`}`)
	require.Equal(t, http.StatusMethodNotAllowed, status, "there is no such route")
	for body, want := range map[string]string{
		`{"user":"alice","crud":` + playgroundCrud + `}`:                                   "the claims are no JSON object",
		`{"claims":{"sub":"x","role":"service_role"},"crud":` + playgroundCrud + `}`:       `users do not write as role \"service_role\"`,
		`{"claims":` + claims + `,"crud":[]}`:                                              "Write 1 to 100 operations; these are 0.",
		`{"claims":` + claims + `,"crud":[{"op":"PUSH","table":"lists","id":"1"}]}`:        "crud[0].op",
		`{"claims":` + claims + `,"crud":1]},{"crud":` + playgroundCrud + `}`:              "as JSON",
		`{"claims":` + claims + `,"crud":"]}],\"client_id\":\"x\",\"transactions\":[{[" }`: "The transaction:",
		`not JSON`: "as JSON",
	} {
		status, answer := b.page(t, http.MethodPost, "/api/playground/try", body)
		require.Equal(t, http.StatusBadRequest, status, body)
		require.Contains(t, answer, want, body)
	}
}

// ofRealUsers is a service whose users are those of a provider.
func ofRealUsers(t *testing.T) *rig.Service {
	t.Helper()
	issuer := identity.Issuer{Issuer: local.IssuerName, Audience: []string{local.Audience}, Algorithms: []string{"ES256"}, Roles: supabase.Roles}
	keys, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	issuer.KeySetURL = rig.ServeIssuer(t, keys) + "/dev/jwks.json"
	return rig.NewServiceFor(t, rig.NewDatabase(t), rig.DemoPolicies(t), []identity.Issuer{issuer})
}

// TestPlaygroundOfDevelopment applies a write as a user of the development issuer, under
// the policies in force alone.
func TestPlaygroundOfDevelopment(t *testing.T) {
	b := setup(t)
	body := func(more string) string { return `{"user":"alice","crud":` + playgroundCrud + more + `}` }
	edited := `,"policies":[{"path":"policies/demo/lists-and-todos.yaml","text":"tables: {todos: {allow: all}}"}]`
	status, answer := b.page(t, http.MethodPost, "/api/playground/try", body(edited))
	require.Equal(t, http.StatusOK, status, answer)
	require.Contains(t, answer, "no policy names the table")
	status, answer = b.page(t, http.MethodPost, "/api/playground/apply", body(edited))
	require.Equal(t, http.StatusConflict, status, answer)
	status, answer = b.page(t, http.MethodPost, "/api/playground/try", body(`,"policies":[{"path":"../secrets.yaml","text":""}]`))
	require.Equal(t, http.StatusUnprocessableEntity, status, answer)
	require.Equal(t, "0", b.db.Text(t, `select count(*) from lists`))
	status, answer = b.page(t, http.MethodPost, "/api/playground/apply", body(""))
	require.Equal(t, http.StatusOK, status, answer)
	require.Contains(t, answer, `"status":"success"`)
	require.Equal(t, "Groceries "+b.alice, b.db.Text(t, `select name || ' ' || owner_id from lists`))
}

// TestPhonesAreOfDevelopment is that the console's devices exist in dev mode alone, and
// that their stand-in for the PowerSync Service sends nobody another user's rows.
func TestPhonesAreOfDevelopment(t *testing.T) {
	b := setup(t)
	stream := func(authorization string) (status int, answer string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost:9091/phone/sync/stream", nil)
		ctx, cancel := context.WithCancel(r.Context())
		w := &firstLines{ResponseRecorder: httptest.NewRecorder(), enough: cancel}
		r.Header.Set("Authorization", authorization)
		b.Metrics.ServeHTTP(w, r.WithContext(ctx))
		return w.Code, w.Body.String()
	}
	b.db.Exec(t, `insert into lists (name, owner_id) values ('of alice', $1), ('of bob', $2)`, b.alice, b.bob)
	status, answer := stream("Token " + b.Token(t, "alice"))
	require.Equal(t, http.StatusOK, status, answer)
	require.Contains(t, answer, "of alice")
	require.NotContains(t, answer, "of bob")
	for _, authorization := range []string{"", "Token x", "Token " + b.Token(t, "alice") + "x"} {
		status, _ := stream(authorization)
		require.Equal(t, http.StatusUnauthorized, status)
	}

	provider := ofRealUsers(t)
	for _, path := range []string{"/phone/", "/phone/rows", "/console/api/devices"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:9091"+path, nil)
		r.RemoteAddr = "127.0.0.1:50000"
		w := httptest.NewRecorder()
		provider.Metrics.ServeHTTP(w, r)
		require.Equal(t, http.StatusNotFound, w.Code, path)
	}
}

// firstLines ends a stream's request when the first checkpoint is written.
type firstLines struct {
	*httptest.ResponseRecorder
	enough func()
}

func (f *firstLines) Flush() { f.enough() }
