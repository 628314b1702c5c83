package terminals

import (
	"context"
	"crypto/x509"
	"sync"
	"testing"

	"keyd/fault"
	"keyd/store"
)

// keySets has another name than its method.
type keySets = store.KeySets

// crowd is a database that hands out no revocation list before everybody has asked which there are.
type crowd struct {
	keySets
	asking sync.WaitGroup

	mu    sync.Mutex
	loads int
}

func (c *crowd) RevocationLists(ctx context.Context) ([]store.RevocationList, error) {
	defer c.asking.Done()
	return c.keySets.RevocationLists(ctx)
}

func (c *crowd) RevocationList(ctx context.Context, issuerKey []byte) (store.RevocationList, error) {
	c.asking.Wait()
	c.mu.Lock()
	c.loads++
	c.mu.Unlock()
	return c.keySets.RevocationList(ctx, issuerKey)
}

// TestManyAskForOneList: a new list is read and parsed once, however many terminals ask at that
// moment. It may have 8 MiB, and more when it is parsed.
func TestManyAskForOneList(t *testing.T) {
	w := newWorld(t)
	id := w.terminal("t-1")
	if _, err := w.SetList(t.Context(), w.list(w.root, 1, moment, 99), nil); err != nil {
		t.Fatal(err)
	}
	const many = 50
	c := &crowd{keySets: w.db}
	c.asking.Add(many)
	w.inventory.revocations.store = c
	chain, anchors := []*x509.Certificate{parsed(t, w.chains[id])}, []*x509.Certificate{w.root.certificate}
	var all sync.WaitGroup
	for range many {
		all.Go(func() {
			if err := w.inventory.Unrevoked(t.Context(), chain, anchors); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if c.loads != 1 {
		t.Errorf("the list was read %d times", c.loads)
	}
	// Who waits for it gives up with its own time.
	w.inventory.revocations.parsed = nil
	w.inventory.revocations.loading <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	c.asking.Add(1)
	gone := make(chan error)
	go func() { gone <- w.inventory.Unrevoked(ctx, chain, anchors) }()
	c.asking.Wait()
	cancel()
	if err := <-gone; err == nil || fault.Of(err).Reason == fault.CertificateRevoked {
		t.Errorf("who gave up: %v", err)
	}
}
