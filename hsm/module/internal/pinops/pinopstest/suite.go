// Package pinopstest is what every engine of package pinops has to do, whatever token it has and
// wherever it keeps clear values: random PIN operations are compared with a reference that is written
// from the standards in plain Go. It is for tests only.
//
// KEYD_CASES is the number of random operations, KEYD_SEED what they follow from; a failure prints it.
package pinopstest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"keyd/fault"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/sealedtest"
	"keyd/hsm/module/internal/token"
)

// defaultCases are for every run of the tests; thousands are for whoever changes an engine.
const defaultCases = 1500

// Suite tries an engine with a fresh token, which it gives master keys. What the random fill of the
// blocks that leave looks like is judged where there are enough of them.
func Suite(t *testing.T, tok *token.Token) {
	seed := number(t, "KEYD_SEED", rand.Uint64())
	t.Logf("KEYD_SEED=%d", seed)
	b := newBench(t, sealedtest.On(t, tok), seed)
	b.composes = tok.Steps().Missing(token.StepXOR, token.StepExtract, token.StepAppend) == nil
	t.Run("vectors", func(t *testing.T) { b.at(t).vectors() })
	t.Run("malformed blocks", func(t *testing.T) { b.at(t).everyMalformed() })
	t.Run("PINs that are not decimal", func(t *testing.T) { b.at(t).crafted() })
	t.Run("generated PINs", func(t *testing.T) { b.at(t).generated() })
	t.Run("random operations", func(t *testing.T) { b.at(t).any(int(number(t, "KEYD_CASES", defaultCases))) })
}

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// at is the bench for a part of the suite.
func (b *bench) at(t *testing.T) *bench {
	part, keys := *b, *b.Bench
	keys.TB, part.Bench = t, &keys
	return &part
}

// trial is an operation, and what is to come of it.
type trial struct {
	name  string
	op    *pinops.Operation
	check func() // reports what is wrong
}

// maxBatch is how many lanes a batch takes but the last operation's second.
const maxBatch = pinops.MaxBatch

// run carries trials out in batches of any size, in their order.
func (b *bench) run(trials []trial) {
	for len(trials) > 0 {
		most, n, lanes := 1+b.random.IntN(maxBatch), 0, 0
		var ops []*pinops.Operation
		for n < len(trials) && lanes < most {
			lanes += trials[n].op.Lanes()
			ops = append(ops, trials[n].op)
			n++
		}
		b.engine.Run(ops...)
		for _, tried := range trials[:n] {
			tried.check()
			b.custody(tried.name, tried.op)
		}
		trials = trials[n:]
	}
}

// outcome compares an operation's error with the reason that it must have, or 0 for none, and
// reports whether there is an answer to look at.
func (b *bench) outcome(name string, op *pinops.Operation, want fault.Reason) bool {
	b.Helper()
	switch {
	case want == 0 && op.Err != nil:
		b.Errorf("%s: %v", name, op.Err)
	case want != 0 && op.Err == nil:
		b.Errorf("%s: carried out; want %v", name, want)
	case want != 0 && fault.Of(op.Err).Reason != want:
		b.Errorf("%s: %v; want %v", name, op.Err, want)
	}
	return want == 0 && op.Err == nil
}

// any runs random operations of every kind.
func (b *bench) any(cases int) {
	fills := newFills()
	trials := make([]trial, cases)
	for i := range trials {
		switch b.random.IntN(8) {
		case 0, 1, 2, 3:
			trials[i] = b.translation(fills)
		case 4, 5:
			trials[i] = b.verification()
		case 6:
			trials[i] = b.generation(4+b.random.IntN(9), fills, nil)
		default:
			trials[i] = b.change()
		}
		if b.random.IntN(4) == 0 {
			trials[i] = b.demanding(trials[i])
		}
	}
	b.run(trials)
	fills.judge(b)
}
