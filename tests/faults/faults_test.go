package faults_test

import (
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/tests/rig"
)

var users = []string{"alice", "bob", "carol"}

// testBundle is a service between two proxies, which let everything pass until
// they are armed.
type testBundle struct {
	*rig.Service
	db               *rig.Database
	database, client *rig.Proxy // from the service to its database, from the devices to the service
	url              string     // through the client proxy
	seed             uint64
	arm              func(database, client func() rig.Fate) // ends the connections from before, too
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	return setupOn(t, rig.NewDatabase(t))
}

func setupOn(t *testing.T, db *rig.Database) *testBundle {
	t.Helper()
	b := &testBundle{db: db, seed: seed(t)}
	setUp(t, b.db, users...)
	var fates atomic.Pointer[[2]func() rig.Fate]
	ask := func(which int) func() rig.Fate {
		return func() rig.Fate {
			if armed := fates.Load(); armed != nil {
				return armed[which]()
			}
			return rig.Fate{}
		}
	}
	b.database = rig.NewProxy(t, host(t, b.db.LoginURL), rig.ProxyOptions{Fate: ask(0)})
	b.Service = rig.NewServiceOn(t, b.db, rig.Policies(t, policies), func(c *service.Config) {
		through, err := b.database.URL(c.DatabaseURL)
		require.NoError(t, err)
		c.DatabaseURL = through + "&pool_max_conns=8"
	})
	b.client = rig.NewProxy(t, host(t, b.URL), rig.ProxyOptions{Fate: ask(1)})
	b.url = "http://" + b.client.Address
	b.arm = func(database, client func() rig.Fate) {
		fates.Store(&[2]func() rig.Fate{database, client})
		b.database.Cut()
		b.client.Cut()
	}
	return b
}

// world is devices that upload through the client proxy.
func (b *testBundle) world(t *testing.T, devices, transactions int) *world {
	return newWorld(b.seed, func(user string) string { return b.Token(t, user) }, users, devices, transactions)
}

func (b *testBundle) through() string { return b.url }

func host(t *testing.T, of string) string {
	t.Helper()
	u, err := url.Parse(of)
	require.NoError(t, err)
	return u.Host
}

// logEnds says what the proxies did.
func (b *testBundle) logEnds(t *testing.T) {
	t.Logf("ended connections: to the database %d cut and %d dropped, of the devices %d cut and %d dropped",
		b.database.Cuts(), b.database.Drops(), b.client.Cuts(), b.client.Drops())
}

// TestCutConnections is the exactly-once test: more than 10,000 transactions,
// while connections to the database and those of the devices break at any byte, in
// either direction.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	const devices = 8
	each, databaseEnds, deviceEnds := 1300, 300, 200
	if testing.Short() {
		each, databaseEnds, deviceEnds = 130, 10, 10
		t.Log("short: a tenth of the transactions")
	}
	b := setup(t)
	w := b.world(t, devices, each)
	b.arm(
		rig.RandomFates(b.seed, 300, 150_000, rig.CutRequest, rig.CutAnswer, rig.DropAnswer),
		rig.RandomFates(b.seed, 100, 8_000, rig.DropAnswer, rig.CutAnswer, rig.CutRequest))
	w.upload(t.Context(), b.through)
	w.await(t)
	b.logEnds(t)
	w.verify(t, b.db)
	require.GreaterOrEqual(t, w.done.Load(), int64(devices*each))
	require.GreaterOrEqual(t, b.database.Cuts()+b.database.Drops(), int64(databaseEnds), "ended connections to the database")
	require.GreaterOrEqual(t, b.client.Cuts()+b.client.Drops(), int64(deviceEnds), "ended connections of the devices")
}

// TestSameRequestAtOnce has each request sent by 2 to 8 connections at the same
// time, each until it is answered for good, while connections are cut.
func TestSameRequestAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.world(t, 3, 100)
	b.arm(
		rig.RandomFates(b.seed, 300, 100_000, rig.CutRequest, rig.CutAnswer, rig.DropAnswer),
		rig.RandomFates(b.seed, 100, 4_000, rig.DropAnswer, rig.CutAnswer, rig.CutRequest))
	for _, d := range w.devices {
		d.most, d.senders = 5, 8
	}
	w.upload(t.Context(), b.through)
	w.await(t)
	b.logEnds(t)
	w.verify(t, b.db)
	require.GreaterOrEqual(t, b.database.Cuts()+b.database.Drops(), int64(50), "ended connections to the database")
}
