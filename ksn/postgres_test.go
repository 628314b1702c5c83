package ksn

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"keyd/store"
	"keyd/store/postgrestest"
)

// postgres starts a server, and returns what opens its only database, each time anew.
func postgres(t testing.TB) (server *postgrestest.Server, open func() store.Counters) {
	t.Helper()
	server, err := postgrestest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	name, err := server.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return server, func() store.Counters {
		s, err := store.OpenPostgres(t.Context(), store.PostgresOptions{Hosts: []string{server.SocketDir}, Database: name, User: postgrestest.User})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
}

func TestLedgersOnPostgres(t *testing.T) {
	for name, test := range map[string]func(*testing.T, func() store.Counters){
		"Several": severalLedgers, "RetryAtAnother": retryAtAnother, "IdenticalRequests": identicalRequests,
	} {
		t.Run(name, func(t *testing.T) {
			_, open := postgres(t)
			test(t, open)
		})
	}
}

// The server is killed again and again while two ledgers accept: what was accepted stays so,
// and the identical request gets its answer at either.
func TestLedgersWhileTheServerIsKilled(t *testing.T) {
	server, open := postgres(t)
	ledgers := []*Ledger{openLedger(t, open(), Options{limits: killLimits}), openLedger(t, open(), Options{limits: killLimits})}
	const terminals = 6
	var mu sync.Mutex
	accepted := map[int]uint32{} // the last counter of each terminal
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for terminal := range terminals {
		wait.Go(func() {
			for n := uint32(1); ; n++ {
				request := fmt.Sprintf("request %d %d", terminal, n)
				for try := 0; ; try++ { // as a terminal's retries go, to whichever front
					select {
					case <-stop:
						return
					default:
					}
					got, _, err := ledgers[(terminal+int(n)+try)%2].Accept(t.Context(), []Use{benchUse(terminal, n)}, []byte(request), []byte(request))
					if err == nil && string(got) == request {
						break
					}
					if !errors.Is(err, isUnavailable) {
						t.Errorf("%s, try %d: %q, %v (%v)", request, try, got, err, errors.Unwrap(err))
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
				mu.Lock()
				accepted[terminal] = n
				mu.Unlock()
			}
		})
	}
	least := func() uint32 {
		mu.Lock()
		defer mu.Unlock()
		least := uint32(1 << 30)
		for terminal := range terminals {
			least = min(least, accepted[terminal])
		}
		return least
	}
	for range 3 {
		before := least()
		eventually(t, "all terminals go on", func() bool { return t.Failed() || least() > before+10 })
		if err := errors.Join(server.Kill(), server.Launch()); err != nil {
			t.Fatal(err)
		}
	}
	before := least()
	eventually(t, "all terminals go on after the last kill", func() bool { return t.Failed() || least() > before+3 })
	close(stop)
	wait.Wait()
	for terminal, n := range accepted {
		for _, l := range ledgers {
			for c := uint32(1); c <= n; c++ {
				if _, _, err := l.Accept(t.Context(), []Use{benchUse(terminal, c)}, []byte("another"), nil); !errors.Is(err, isReplay) {
					t.Fatalf("terminal %d counter %d was accepted, and another request for it gets %v", terminal, c, err)
				}
			}
		}
	}
}

// BenchmarkPostgres is BenchmarkAccept on PostgreSQL, by one front and by two.
func BenchmarkPostgres(b *testing.B) {
	for _, p := range []struct{ fronts, callers, sequences int }{{1, 1, 1000}, {1, 128, 1000}, {2, 128, 1000}, {1, 128, 100_000}, {2, 128, 100_000}} {
		b.Run(fmt.Sprintf("fronts=%d/callers=%d/sequences=%d", p.fronts, p.callers, p.sequences), func(b *testing.B) {
			_, open := postgres(b)
			ledgers := make([]*Ledger, p.fronts)
			for i := range ledgers {
				ledgers[i] = openLedger(b, open(), Options{})
			}
			acceptAll(b, ledgers, p.callers, p.sequences)
		})
	}
}
