package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/identity"
	"postern/service/local"
	"postern/tests/rig"
)

// Users of the hour, as their issuer names them.
const (
	scriptUser    = `<script>alert(1)</script>`
	attributeUser = `" onerror=alert(1) x="`
	turnedUser    = "\u202ebob\u202c@example.com" // is shown as written from right to left
)

var longUser = strings.Repeat("W", 1000)

const notes = `
create table notes (id uuid primary key, text text);
grant select, insert, update on notes to authenticated;
create function arrive() returns trigger language plpgsql as $$
begin
  case new.text
    when 'full' then raise exception 'full' using errcode = '53100';
    when 'slow' then perform pg_sleep(0.3);
    else null;
  end case;
  return new;
end $$;
create trigger arrive before insert on notes for each row execute function arrive();`

// notesPolicies has a rule that cannot be evaluated for the text "number", and one whose
// rejections are held.
const notesPolicies = `tables:
  lists: {allow: all, owner: owner_id}
  notes:
    allow: all
    rules:
      - {name: '` + hostile + `', on: [put], check: "new.text != 'number' || int(new.text) > 0", code: NUMBER, message: A number}
      - {name: held, on: [put], check: "new.text != 'held'", code: HELD, message: The app decides, client: true}
`

// counted is what the console's charts show of a minute.
type counted struct {
	Requests struct {
		Answered int `json:"2"`
		Refused  int `json:"4"`
		Failed   int `json:"5"`
	} `json:"requests"`
	Results struct {
		Applied  int `json:"success"`
		Rejected int `json:"fatal_error"`
		Retried  int `json:"retryable_error"`
	} `json:"results"`
}

type stuckQueue struct {
	Subject string    `json:"subject"`
	Reason  string    `json:"reason"`
	Since   time.Time `json:"since"`
	Last    time.Time `json:"last"`
}

// nowState is what the console's view Now is made of.
type nowState struct {
	Minutes []struct {
		counted
		At     time.Time `json:"at"`
		Median *float64  `json:"median"`
	} `json:"minutes"`
	Stuck    []stuckQueue `json:"stuck"`
	Policies struct {
		Problem string `json:"problem"`
	} `json:"policies"`
}

// device is one whose first transaction fails from a minute on, as often as it is sent.
type device struct {
	user, table, data string
	since             int
}

var devices = []device{
	{scriptUser, "notes", `{"text":"number"}`, 18},
	{attributeUser, "notes", `{"text":"full"}`, 45},
	{turnedUser, "lists", `{"name":"of no UUID"}`, 48},
	{longUser, "notes", `{"text":"full"}`, 49},
	{"dora", "notes", `{"text":"full"}`, 55}, // is not stuck yet
}

// body is the same each time, as a device's is.
func (d device) body() string {
	return oneTransaction(d.user, 1, d.table, uuid.NewSHA1(uuid.NameSpaceOID, []byte(d.user)).String(), d.data)
}

func oneTransaction(client string, id int, table, row, data string) string {
	return fmt.Sprintf(`{"client_id":%s,"transactions":[{"transaction_id":%d,"crud":[{"op":"PUT","table":%s,"id":%s,"op_data":%s,"metadata":%[1]s}]}]}`,
		quoted(client), id, quoted(table), quoted(row), data)
}

func quoted(text string) string {
	value, err := jsontext.AppendQuote(nil, text)
	if err != nil {
		panic(err)
	}
	return string(value)
}

// TestConsoleNow is the console's view Now in a browser, after a busy hour among 100,000
// rejected writes. All of it happened, while the service's clock was moved.
func TestConsoleNow(t *testing.T) {
	t.Parallel()
	needBrowser(t)
	h := newHour(t)
	for minute := range 60 {
		h.pass(t, minute)
	}
	h.writePolicies(t, `tables: {notes: {allow: all, "`+hostile+`": 1}}`)
	require.Eventually(t, func() bool { return h.now(t).Policies.Problem != "" }, time.Minute, 20*time.Millisecond)

	now := h.now(t)
	require.Equal(t, []stuckQueue{
		{scriptUser, filepath.Join(h.folder, "notes.yaml:6:9 "+hostile), h.at(18), h.at(59)},
		{attributeUser, "53100", h.at(45), h.at(59)},
		{turnedUser, "owner of public.lists", h.at(48), h.at(59)},
		{longUser, "53100", h.at(49), h.at(59)},
	}, now.Stuck)
	require.Len(t, now.Minutes, 60)
	for i, minute := range now.Minutes {
		require.Equal(t, h.at(i), minute.At)
		require.Equal(t, h.minutes[i], minute.counted, "minute %d", i)
	}
	require.Nil(t, now.Minutes[20].Median, "nothing was uploaded")
	require.Greater(t, *now.Minutes[30].Median, .25, "each upload took 0.3 s")
	expected, err := json.Marshal(map[string]any{"minutes": h.minutes, "stuck": now.Stuck, "users": []string{scriptUser, attributeUser, turnedUser, longUser}})
	require.NoError(t, err)
	driveConsole(t, "now.mjs", h.Service, "EXPECTED="+string(expected))

	h.recover(t)
	driveConsole(t, "now-recovered.mjs", h.Service)
}

// hour is the last hour of a service.
type hour struct {
	*rig.Service
	folder  string        // of the policies
	keys    *local.Issuer // of the issuer that cannot be reached
	begun   time.Time
	clock   *rig.Clock
	sent    int // notes
	minutes []counted
}

const (
	hostileIssuer = "https://auth.example.com/" + hostile
	issuerSecret  = "a secret of 32 bytes or more, as HS256 needs"
)

// newHour is a service at the beginning of the hour. Others have rejected writes already,
// which it has counted.
func newHour(t *testing.T) *hour {
	t.Helper()
	keys, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	begun := time.Now().UTC().Truncate(time.Minute).Add(-59 * time.Minute)
	h := &hour{folder: filepath.Join(t.TempDir(), hostile), keys: keys, begun: begun, clock: rig.NewClock(begun)}
	require.NoError(t, os.Mkdir(h.folder, 0o700))
	h.writePolicies(t, notesPolicies)
	db := rig.NewDatabase(t)
	db.Exec(t, notes)
	load := func() *policies.Live {
		live, err := policies.Load(h.folder)
		require.NoError(t, err)
		return live
	}
	before := rig.NewServiceOn(t, db, load())
	rejectMany(t, before)
	require.Equal(t, "fatal_error", before.One(t, "alice", `{"op":"PUT","table":"notes","id":"11111111-1111-4111-8111-111111111111","op_data":{"text":"held"}}`).Status)

	issuer := identity.Issuer{
		Issuer: hostileIssuer, KeySetURL: rig.ServeIssuer(t, keys) + "/dev/jwks.json", Audience: []string{"app"}, Algorithms: []string{"ES256"},
		Roles: []string{"authenticated"}, Role: "authenticated", Secret: []byte(issuerSecret),
	}
	unreachable := issuer
	unreachable.Issuer, unreachable.KeySetURL = local.IssuerName, "http://127.0.0.1:1/keys"
	h.Service = rig.NewServiceFor(t, db, load(), []identity.Issuer{issuer, unreachable})
	h.minutes = []counted{{}}
	h.put(t, "first")
	h.AwaitTidy(t)
	h.SetClock(h.clock.Now)
	h.minutes = nil
	return h
}

// at is when a minute of the hour begins.
func (h *hour) at(minute int) time.Time { return h.begun.Add(time.Duration(minute) * time.Minute) }

// pass is what happens in a minute.
func (h *hour) pass(t *testing.T, minute int) {
	t.Helper()
	if minute > 0 {
		h.clock.Advance(time.Minute)
	}
	h.now(t)
	h.minutes = append(h.minutes, counted{})
	switch minute {
	case 20: // nobody is there
		return
	case 30:
		h.put(t, "slow")
		return
	}
	for range minute%5 + 1 {
		h.put(t, "fine")
	}
	for _, d := range devices {
		if minute >= d.since {
			require.Equal(t, "retryable_error", h.send(t, tokenOf(t, d.user), d.body()))
		}
	}
	if minute%3 == 0 {
		text := devices[minute/3%4].user
		column := quoted(text) + ":" + quoted(text)
		if minute/12%2 == 1 { // cannot be read, because a name appears twice
			column += "," + column
		}
		require.Equal(t, "fatal_error", h.send(t, tokenOf(t, text), oneTransaction(text, 1000+minute, text, text, "{"+column+"}")))
	}
	if minute%10 == 5 {
		require.Equal(t, "401", h.send(t, "x", devices[0].body()))
	}
	if minute > 40 && minute < 44 {
		token, err := h.keys.Token("alice", time.Now()) // of the issuer that cannot be reached
		require.NoError(t, err)
		require.Equal(t, "503", h.send(t, token, devices[0].body()))
	}
}

// recover corrects what was wrong. Devices that send their transaction again are no longer
// stuck, and those that have gone are not shown.
func (h *hour) recover(t *testing.T) {
	t.Helper()
	h.Database.Exec(t, `drop trigger arrive on notes`)
	h.writePolicies(t, `tables: {notes: {allow: all}}`)
	require.Eventually(t, func() bool { return h.now(t).Policies.Problem == "" }, time.Minute, 20*time.Millisecond)
	for _, d := range devices {
		if d.table == "notes" {
			require.Equal(t, "success", h.send(t, tokenOf(t, d.user), d.body()))
		}
	}
	require.Equal(t, []stuckQueue{{turnedUser, "owner of public.lists", h.at(48), h.at(59)}}, h.now(t).Stuck)
	h.clock.Advance(6 * time.Minute)
	require.Empty(t, h.now(t).Stuck)
}

func (h *hour) writePolicies(t *testing.T, yaml string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(h.folder, "notes.yaml"), []byte(yaml), 0o600))
}

// put uploads a new note.
func (h *hour) put(t *testing.T, text string) {
	t.Helper()
	h.sent++
	require.Equal(t, "success", h.send(t, tokenOf(t, "alice"), oneTransaction("phone", h.sent, "notes", uuid.NewString(), `{"text":"`+text+`"}`)))
}

// send uploads a transaction, and counts the answer in the current minute. It returns the
// transaction's status, or else HTTP's.
func (h *hour) send(t *testing.T, token, body string) string {
	t.Helper()
	answer := h.Send(t, http.MethodPost, "/api/data", body, "Authorization", "Bearer "+token)
	m := &h.minutes[len(h.minutes)-1]
	switch answer.Status {
	case http.StatusUnauthorized:
		m.Requests.Refused++
		return "401"
	case http.StatusServiceUnavailable:
		m.Requests.Failed++
		return "503"
	}
	m.Requests.Answered++
	status := answer.Results(t)[0].Status
	switch status {
	case "success":
		m.Results.Applied++
	case "fatal_error":
		m.Results.Rejected++
	case "retryable_error":
		m.Results.Retried++
	}
	return status
}

// tokenOf is a token of the hostile issuer.
func tokenOf(t *testing.T, user string) string {
	t.Helper()
	now := time.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": hostileIssuer, "sub": user, "aud": "app", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}).SignedString([]byte(issuerSecret))
	require.NoError(t, err)
	return token
}

// now is the view's state at the clock's time, as the page asks for it.
func (h *hour) now(t *testing.T) (state nowState) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:9091/console/api/now", nil)
	r.RemoteAddr = "127.0.0.1:50000"
	w := httptest.NewRecorder()
	h.Metrics.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &state))
	return state
}
