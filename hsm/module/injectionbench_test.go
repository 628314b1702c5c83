package module

import (
	"crypto/elliptic"
	"encoding/binary"
	"fmt"
	"testing"

	"keyd/ceremony"
	"keyd/hsm"
	"keyd/keyagreement"
)

// BenchmarkInjections gives terminals a master key, a receipt key and one initial key by each
// method, over the client and a real token, each under identifiers and requests of its own.
func BenchmarkInjections(b *testing.B) {
	f := newTokenFactory(b)
	aes := f.key("bdk", 1)
	tdes := f.created(f.bdk("tdes", "T", 16, func(k *ceremony.KeySpec) { k.KSNCheck = "" }))
	var count uint32
	next := func(algorithm string) hsm.InitialKey {
		count++
		if algorithm == "T" {
			id := binary.BigEndian.AppendUint64([]byte{0xFF, 0xFF}, uint64(count)<<21)
			return hsm.InitialKey{Name: "pin", BDK: tdes, ID: id}
		}
		return hsm.InitialKey{Name: "pin", BDK: aes, ID: binary.BigEndian.AppendUint64(nil, uint64(count))}
	}
	device := f.device(elliptic.P256())
	b.Run("key agreement P-256", func(b *testing.B) {
		var requests [][]byte
		for range 256 {
			requests = append(requests, f.begin(device, keyagreement.P256, f.issuer.cert).Request())
		}
		for n := 0; b.Loop(); n++ {
			if n == len(requests) {
				b.StopTimer()
				for range n {
					requests = append(requests, f.begin(device, keyagreement.P256, f.issuer.cert).Request())
				}
				b.StartTimer()
			}
			_, err := f.inject(requests[n], nil, next("A"))
			f.must(err)
		}
	})
	for _, c := range []struct {
		name, algorithm, random string
		device                  *holder
	}{
		{"TR-34 one-pass RSA-2048 TDES", "T", "", f.rsaDevice(16)},
		{"TR-34 two-pass RSA-2048 TDES", "T", "%016d", f.rsaDevice(16)},
		{"TR-34 two-pass RSA-3072 AES", "A", "%016d", f.rsaDevice(0)},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				_, err := f.token34(c.device, func(r *hsm.InjectByToken) {
					r.Master.Algorithm, r.RandomToken = c.algorithm, nil
					if c.random != "" {
						r.RandomToken = f.random(fmt.Sprintf(c.random, count))
					}
				}, next(c.algorithm))
				f.must(err)
			}
		})
	}
	b.Run("session keys", func(b *testing.B) {
		h := f.injected("t-1", hsm.MasterSpec{Algorithm: "T", Length: 16})
		specs := []hsm.SessionKeySpec{f.spec("P0", "T", 16), f.spec("M3", "T", 16)}
		for b.Loop() {
			_, err := f.client.MakeSessionKeys(b.Context(), h.master(), specs)
			f.must(err)
		}
	})
}
