package apply

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"postern/service/identity"
)

// TestShares has alice want all connections of four, of which a user gets two.
func TestShares(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShares(4, 2)
		served := make(chan string, 10)
		free := map[string]chan func(){}
		request := func(name, user string) {
			free[name] = make(chan func(), 1)
			go func() {
				release, err := s.acquire(t.Context(), identity.Identity{Issuer: "i", Subject: user})
				if err == nil {
					served <- name
					free[name] <- release
				}
			}()
			synctest.Wait()
		}
		next := func() (names []string) {
			synctest.Wait()
			for len(served) > 0 {
				names = append(names, <-served)
			}
			return names
		}
		for _, name := range []string{"a1", "a2", "a3", "a4"} {
			request(name, "alice")
		}
		request("b1", "bob")
		request("c1", "carol")
		request("d1", "dave")
		require.Equal(t, []string{"a1", "a2", "b1", "c1"}, next(), "alice has her share, and dave waits for the others")
		(<-free["a2"])()
		require.Equal(t, []string{"d1"}, next(), "who came before alice's third request got its own turn")
		(<-free["a1"])()
		require.Equal(t, []string{"a3"}, next())
		(<-free["b1"])()
		require.Equal(t, []string{"a4"}, next())

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.acquire(ctx, identity.Identity{Issuer: "i", Subject: "bob"})
		require.ErrorIs(t, err, context.Canceled)
		for _, name := range []string{"a3", "a4", "c1", "d1"} {
			(<-free[name])()
		}
		require.Empty(t, s.users, "nothing of those who have gone is remembered")
	})
}

func TestSharesOfASmallPool(t *testing.T) {
	t.Parallel()
	s := newShares(0, 0)
	release, err := s.acquire(t.Context(), identity.Identity{Subject: "alice"})
	require.NoError(t, err)
	release()
}
