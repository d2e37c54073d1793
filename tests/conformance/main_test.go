// Package conformance sends bytes to the whole service and reads what comes
// back, and what is then in Postgres. Every exchange is held against the
// contract, openapi.yaml.
package conformance_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"postern/service/local"
	"postern/tests/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// testBundle is a running service with the demo's tables and policies.
type testBundle struct {
	*rig.Service
	db    *rig.Database
	alice string // her sub
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	s := rig.NewService(t, rig.DemoPolicies(t))
	return &testBundle{Service: s, db: s.Database, alice: local.UserID("alice")}
}

// list makes one list as a user, and returns its id.
func (b *testBundle) list(t *testing.T, user, name string) string {
	t.Helper()
	id := uuid.NewString()
	b.succeed(t, user, fmt.Sprintf(`{"op":"PUT","table":"lists","id":%q,"op_data":{"name":%q}}`, id, name))
	return id
}

func (b *testBundle) succeed(t *testing.T, user, crud string) {
	t.Helper()
	if result := b.One(t, user, crud); result.Status != "success" {
		t.Fatalf("%+v", result)
	}
}
