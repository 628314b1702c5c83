package nsstest

import (
	"sync"
	"testing"

	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/pinops/pinopstest"
	"keyd/hsm/module/internal/sealedtest"
)

// TestTogether: batches on several sessions are carried out at once, while the token loses its objects again and again.
func TestTogether(t *testing.T) {
	b := sealedtest.On(t, open(t))
	engine := pinops.NewEngine(b.Keys, nil)
	samples := pinopstest.Samples(b)
	var group sync.WaitGroup
	for worker := range 6 {
		group.Go(func() {
			for round := range 6 {
				var ops []*pinops.Operation
				for i := range samples {
					ops = append(ops, samples[(i+worker)%len(samples)].Operation())
				}
				engine.Run(ops...)
				for i, op := range ops {
					if custody := op.Translated.Custody + op.Verified.Custody + op.Generated.Custody; op.Err != nil || custody != hsm.InToken {
						t.Errorf("round %d, %s: %v, %v", round, samples[(i+worker)%len(samples)].Name, custody, op.Err)
					}
				}
			}
		})
	}
	done := make(chan struct{})
	var renewals sync.WaitGroup
	renewals.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				b.Renew()
			}
		}
	})
	group.Wait()
	close(done)
	renewals.Wait()
}
