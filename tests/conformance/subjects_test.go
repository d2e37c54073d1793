package conformance_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"postern/service/identity"
	"postern/supabase"
	"postern/tests/rig"
)

// TestSubjectThatIsNoUUID has users of another issuer, whose sub is no UUID, under row-level
// security by auth.uid(), which fails on it. The policies are at fault: no device drops its
// writes, however often they fail.
func TestSubjectThatIsNoUUID(t *testing.T) {
	t.Parallel()
	const subject, state = "auth0|5f7c8ec7c33c6c004bbafe82", `"sqlstate":"22P02"`
	for _, table := range []struct{ name, schema, policies, logged string }{
		{"OwnerIsAUUID", `create table notes (id text primary key, body text, owner uuid default auth.uid());
			create policy own on notes to authenticated using (owner = auth.uid()) with check (owner = auth.uid())`, `tables: {notes: {allow: all}}`, state},
		{"OwnerIsAText", `create table notes (id text primary key, body text, owner text);
			create policy own on notes to authenticated using (owner = auth.uid()::text) with check (owner = (select auth.uid()::text))`, `tables: {notes: {allow: all}}`, state},
		{"OwnerIsSet", `create table notes (id text primary key, body text, owner text);
			create policy own on notes to authenticated using (owner = auth.uid()::text) with check (owner = auth.uid()::text)`, `tables: {notes: {allow: all, owner: owner}}`, state},
		{"OwnerIsSetInAUUID", `create table notes (id text primary key, body text, owner uuid)`, `tables: {notes: {allow: all, owner: owner}}`, "the sub of the user's token is no uuid"},
		{"UnderARule", `create table notes (id text primary key, body text, owner text);
			create policy own on notes to authenticated using (owner = auth.uid()::text) with check (owner = auth.uid()::text)`,
			`tables: {notes: {allow: all, owner: owner, rules: [{name: r, check: old == null || old.body != 'locked', code: LOCKED, message: No}]}}`, state},
	} {
		t.Run(table.name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, "ES256")
			db := rig.NewDatabase(t)
			db.Exec(t, table.schema+`; alter table notes enable row level security; insert into notes values ('stored', 'a', null);
				grant select, insert, update, delete on notes to authenticated`)
			issuer, err := supabase.Issuer(p.URL)
			require.NoError(t, err)
			s := rig.NewServiceFor(t, db, rig.Policies(t, table.policies), []identity.Issuer{issuer})
			token := p.sign(t, "ES256", p.supabase(jwt.MapClaims{"sub": subject}))
			for device, crud := range []string{
				op("PUT", "notes", "new", `"body":"b"`),
				op("PUT", "notes", "stored", `"body":"b"`),
				op("PUT", "notes", "new", `"body":"`+subject+`"`),
				op("PATCH", "notes", "stored", `"body":"b"`),
				op("PATCH", "notes", "stored", `"body":"`+subject+`"`),
				op("DELETE", "notes", "stored", ""),
				op("PATCH", "notes", "stored", `"body":"b"`) + "," + op("DELETE", "notes", "stored", ""),
			} {
				for range 6 {
					answer := s.Send(t, http.MethodPost, "/api/data", fmt.Sprintf(`{"client_id":"%d","transactions":[{"transaction_id":1,"crud":[%s]}]}`, device, crud), "Authorization", "Bearer "+token)
					require.Equal(t, "retryable_error", answer.Results(t)[0].Status, "%s: %s", crud, answer.Body)
					db.Exec(t, `update postern.failures set first_at = first_at - interval '1 hour', last_at = last_at - interval '1 hour'`)
				}
			}
			require.Contains(t, s.Logs.String(), table.logged)
			require.Equal(t, "a", db.Text(t, `select string_agg(body, ' ') from notes`))
		})
	}
}
