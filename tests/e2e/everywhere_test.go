package e2e_test

import (
	"context"
	"fmt"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// everywhere runs a scenario of scenarios/everywhere as a test for each platform: with
// the SDK for Node.js, and with the one for browsers in a headless Chromium.
func everywhere(t *testing.T, scenario string, setup func(*testing.T) *testBundle, check func(*testing.T, *testBundle, report)) {
	t.Parallel()
	for _, platform := range []string{"node", "web"} {
		t.Run(platform, func(t *testing.T) {
			if platform == "web" {
				needBrowser(t)
			}
			b := setup(t)
			check(t, b, b.runNode(t, "everywhere.mjs", platform, scenario))
		})
	}
}

// chromium is the path of a Chromium, empty if there is none.
func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func needBrowser(t *testing.T) {
	t.Helper()
	if chromium() == "" {
		rig.Missing(t, "there is no Chromium: install the package chromium")
	}
}

// requireLists returns an error if Postgres has lists with other names, while a scenario
// runs.
func (b *testBundle) requireLists(ctx context.Context, want string) error {
	var names string
	err := b.db.Owner.QueryRow(ctx, `select coalesce(string_agg(name, ','), '') from lists`).Scan(&names)
	if err == nil && names != want {
		err = fmt.Errorf("there are %q, and not %q", names, want)
	}
	return err
}

// What is written offline is there when the device comes back, in its order.
func TestOffline(t *testing.T) {
	everywhere(t, "offline", setup, func(t *testing.T, b *testBundle, r report) {
		require.Equal(t, "Food", b.db.Text(t, `select string_agg(name, ',') from lists where owner_id = $1`, b.alice), "Chores was deleted")
		require.Equal(t, "Milk", b.db.Text(t, `select string_agg(description, ',') from todos where list_id = $1`, r.IDs["groceries"]))
		require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
		require.Equal(t, []list{{r.IDs["groceries"], "Food", b.alice}}, r.Lists)
		require.Len(t, r.Todos, 1)
		require.Len(t, r.Uploads, 2, "all that was written offline goes in one request")
	})
}

// A thousand transactions go in twenty requests, each packed.
func TestThousandTransactions(t *testing.T) {
	everywhere(t, "thousand", setup, func(t *testing.T, b *testBundle, r report) {
		require.Equal(t, "1000", b.db.Text(t, `select count(distinct name) from lists where owner_id = $1`, b.alice))
		require.Equal(t, "1000", b.db.Text(t, `select count(*) from postern.receipts`))
		require.Len(t, r.Uploads, 20)
		require.Len(t, r.Lists, 1000)
		for _, upload := range r.Uploads {
			require.True(t, upload.Packed)
		}
	})
}

// README.md says how much shorter the queue is when it is packed.
func TestPackedQueue(t *testing.T) {
	needNode(t)
	t.Parallel()
	type bytes struct {
		JSON int `json:"json"`
		Sent int `json:"sent"`
	}
	var of struct {
		Inserts bytes `json:"inserts"` // of rows with one column
		Updates bytes `json:"updates"` // with the previous values of the whole row
	}
	runDevice(t, "packed-queue", nil, &of, nil)
	t.Logf("%+v", of)
	require.Greater(t, of.Inserts.JSON, 4*of.Inserts.Sent)
	require.Greater(t, of.Updates.JSON, 7*of.Updates.Sent)
}

// A transaction for which a rule cannot be evaluated waits, and so does what is behind
// it, until the team has corrected the rule.
func TestBrokenRule(t *testing.T) {
	setup := func(t *testing.T) *testBundle {
		allows := func(verdict string) string {
			return `create or replace function allows(name text) returns boolean language sql as $$ select ` + verdict + ` $$`
		}
		b := setupWith(t, allows(`case when name = 'Second' then 1 / (length(name) - 6) > 0 else true end`), rig.Policies(t, `
tables:
  lists:
    allow: [put]
    rules:
      - name: allowed-name
        on: [put]
        lookup: {verdict: "select public.allows($new.name) as positive"}
        check: lookup.verdict.positive
        code: NAME_NOT_ALLOWED
        message: Choose another name
`))
		b.on("correct-the-rule", func(ctx context.Context) error {
			if err := b.requireLists(ctx, "First"); err != nil {
				return err
			}
			_, err := b.db.Owner.Exec(ctx, allows(`true`))
			return err
		})
		return b
	}
	everywhere(t, "broken-rule", setup, func(t *testing.T, b *testBundle, r report) {
		require.Equal(t, []string{"success", "retryable_error", "not_attempted"}, statuses(r.Uploads[0]))
		require.Equal(t, "First,Second,Third", b.db.Text(t, `select string_agg(name, ',' order by name) from lists`))
		require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
		require.Empty(t, r.Rejected)
		require.Len(t, r.Lists, 3)
	})
}

// The app keeps a held transaction, and edits it at the next try. Its place in the queue
// stays, and its record is closed.
func TestHeld(t *testing.T) {
	setup := func(t *testing.T) *testBundle {
		return setupWith(t, "", rig.Policies(t, `
tables:
  lists:
    allow: [put]
    rules:
      - name: short-name
        on: [put]
        check: size(new.name) <= 10
        code: NAME_TOO_LONG
        message: A name has at most 10 characters
        client: true
`))
	}
	everywhere(t, "held", setup, func(t *testing.T, b *testBundle, r report) {
		require.Equal(t, []rejected{{2, "NAME_TOO_LONG"}, {2, "NAME_TOO_LONG"}}, r.Held)
		require.Equal(t, []string{"success", "fatal_error", "not_attempted"}, statuses(r.Uploads[0]))
		require.Equal(t, "First,Shorter,Third", b.db.Text(t, `select string_agg(name, ',' order by created_at) from lists`))
		require.Equal(t, "NAME_TOO_LONG dismissed", b.db.Text(t, `select string_agg(code || ' ' || status, ',') from postern.rejected_writes`))
		require.Empty(t, r.Rejected)
		names := []string{}
		for _, list := range r.Lists {
			names = append(names, list.Name)
		}
		require.ElementsMatch(t, []string{"First", "Shorter", "Third"}, names)
	})
}

// What one user wrote is not uploaded as another, in whatever order they sign in.
func TestSwitchUser(t *testing.T) {
	setup := func(t *testing.T) *testBundle {
		b := setup(t)
		b.on("nothing-is-there", func(ctx context.Context) error { return b.requireLists(ctx, "") })
		b.on("hers-is-there", func(ctx context.Context) error { return b.requireLists(ctx, "Alice's") })
		return b
	}
	everywhere(t, "switch-user", setup, func(t *testing.T, b *testBundle, r report) {
		require.Equal(t, "Alice's", b.db.Text(t, `select string_agg(name, ',') from lists where owner_id = $1`, b.alice))
		require.Equal(t, "Bob's", b.db.Text(t, `select string_agg(name, ',') from lists where owner_id = $1`, b.bob))
		require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
		require.Contains(t, r.OtherUsers, otherUser{Owner: b.alice, User: b.bob})
		require.Contains(t, r.OtherUsers, otherUser{Owner: b.bob, User: b.alice})
		users := []string{}
		for _, upload := range r.Uploads {
			users = append(users, upload.Request.UserID)
		}
		require.Equal(t, []string{b.alice, b.bob}, users)
		require.Len(t, r.Lists, 2)
	})
}

// What the app gives up is nowhere, and the other user's writes go on.
func TestDiscard(t *testing.T) {
	everywhere(t, "discard", setup, func(t *testing.T, b *testBundle, r report) {
		require.Equal(t, []otherUser{{Owner: b.alice, User: b.bob}}, r.OtherUsers)
		require.Equal(t, "Bob's", b.db.Text(t, `select string_agg(name, ',') from lists`))
		require.Equal(t, b.bob, b.db.Text(t, `select owner_id::text from lists`))
		require.Len(t, r.Lists, 1)
		require.Equal(t, "Bob's", r.Lists[0].Name)
	})
}
