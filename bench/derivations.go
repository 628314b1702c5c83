package main

import (
	"math/bits"
	"math/rand/v2"
	"time"

	"keyd/dukpt"
	"keyd/dukpt/software"
)

// derivationRates are DUKPT derivations a second: from the BDK to the PIN key of a
// random counter, with nothing kept from one to the next, on one processor.
type derivationRates struct {
	TDES     float64 `json:"tdes_software_per_second"`
	AES      float64 `json:"aes_software_per_second"`
	AESToken float64 `json:"aes_token_per_second"` // by calls that derive and destroy a key for each step
	TDESBits float64 `json:"tdes_mean_one_bits"`
	AESSteps float64 `json:"aes_mean_steps"`
}

// measureDerivations measures the rates in software for length in all; that of the token
// follows from the cost of its call.
func measureDerivations(length time.Duration, costs tokenCosts) (r derivationRates, err error) {
	const n = 4096
	tdes, err := randomKSNs(tdesToZone, n)
	if err != nil {
		return r, err
	}
	for _, k := range tdes {
		r.TDESBits += float64(bits.OnesCount32(k.Counter())) / n
	}
	bdk := keyValue("derivations")
	key := make([]byte, 16)
	r.TDES, err = perSecond(length/2, func(i int) error {
		k := tdes[i%n]
		if err := software.TDESInitialKey(key, bdk, k); err != nil {
			return err
		}
		if err := software.TDESTransactionKey(key, key, k); err != nil {
			return err
		}
		return software.TDESWorkingKey(key, key, dukpt.VariantPIN)
	})
	if err != nil {
		return r, err
	}
	aes, err := randomKSNs(aesToZone, n)
	if err != nil {
		return r, err
	}
	for _, k := range aes {
		r.AESSteps += float64(2+bits.OnesCount32(k.Counter())) / n // initial key, one for each one-bit, working key
	}
	r.AES, err = perSecond(length/2, func(i int) error {
		path, err := dukpt.NewPath(aes[i%n], dukpt.AES128, dukpt.UsagePIN, dukpt.AES128)
		if err != nil {
			return err
		}
		return software.AESDerive(key, bdk, path)
	})
	r.AESToken = costs.rate(tokenCalls{Derive: r.AESSteps})
	return r, err
}

// randomKSNs returns key serial numbers with counters from the whole range that a scheme
// has.
func randomKSNs(o operation, n int) ([]dukpt.KSN, error) {
	w := &workload{operation: o}
	random := rand.New(rand.NewPCG(3, uint64(o)))
	ksns := make([]dukpt.KSN, 0, n)
	for len(ksns) < n {
		initial, err := w.initialKSN(random.Uint32N(maxTerminals))
		if err != nil {
			return nil, err
		}
		counter := random.Uint32() >> (32 - initial.Scheme().CounterBits())
		if ksn, err := initial.WithCounter(counter); err == nil { // not too many one-bits
			ksns = append(ksns, ksn)
		}
	}
	return ksns, nil
}

func perSecond(length time.Duration, do func(i int) error) (float64, error) {
	began := time.Now()
	n := 0
	for n == 0 || time.Since(began) < length {
		for range 64 { // looking at the clock would be part of what is measured
			if err := do(n); err != nil {
				return 0, err
			}
			n++
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}
