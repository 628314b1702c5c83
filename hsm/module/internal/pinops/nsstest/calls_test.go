package nsstest

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"

	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/pinops/pinopstest"
	"keyd/hsm/module/internal/sealedtest"
)

// TestTokenCalls counts what each operation costs the token, once its keys are there, with a PIN of four
// digits: it is what the table in docs/custody.md says, for one operation and for one of a full batch.
func TestTokenCalls(t *testing.T) {
	b := sealedtest.On(t, open(t))
	engine := pinops.NewEngine(b.Keys, nil)
	documented := table(t)
	for _, s := range pinopstest.Samples(b) {
		count := func(operations int) float64 {
			var before, after uint64
			for _, total := range []*uint64{&before, &after} { // the first run brings the keys in
				for _, c := range b.Token.Calls() {
					*total -= c.Count
				}
				ops := make([]*pinops.Operation, operations)
				for i := range ops {
					ops[i] = s.Operation()
				}
				engine.Run(ops...)
				for _, op := range ops {
					if op.Err != nil {
						t.Fatalf("%s: %v", s.Name, op.Err)
					}
				}
				for _, c := range b.Token.Calls() {
					*total += c.Count
				}
			}
			return float64(after) / float64(operations)
		}
		if s.Random {
			continue // it takes as many as it takes
		}
		one := strconv.FormatFloat(count(1), 'f', -1, 64)
		many := strconv.FormatFloat(count(pinops.MaxBatch/2), 'f', 1, 64)
		module := engine
		engine = engine.ByModule()
		m1, m2 := strconv.FormatFloat(count(1), 'f', -1, 64), strconv.FormatFloat(count(pinops.MaxBatch/2), 'f', 1, 64)
		engine = module
		if got, want := strings.Join([]string{one, many, m1, m2}, " "), documented[s.Name]; got != want {
			t.Errorf("%s: %s, documented %q", s.Name, got, want)
		}
	}
}

// table reads the counts of docs/custody.md, by operation.
func table(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open("../../../../../docs/custody.md")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	counts := map[string]string{}
	within := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			within = strings.Contains(line, "Token calls")
		}
		cells := strings.Split(line, "|")
		if !within || len(cells) != 7 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		counts[cells[1]] = strings.Join(cells[2:6], " ")
	}
	return counts
}

// BenchmarkCustody is the same operations with PINs in the token and with PINs in the module's memory, on the same
// token, one at a time and many together.
func BenchmarkCustody(bm *testing.B) {
	b := sealedtest.On(bm, open(bm))
	for _, s := range pinopstest.Samples(b) {
		for name, engine := range map[string]*pinops.Engine{"token": pinops.NewEngine(b.Keys, nil), "module": pinops.NewEngine(b.Keys, nil).ByModule()} {
			for _, together := range []int{1, pinops.MaxBatch / 2} {
				bm.Run(s.Name+"/"+name+"/"+strconv.Itoa(together)+" at once", func(bm *testing.B) {
					ops := make([]*pinops.Operation, together)
					for bm.Loop() {
						for i := range ops {
							ops[i] = s.Operation()
						}
						engine.Run(ops...)
					}
					if ops[0].Err != nil {
						bm.Fatal(ops[0].Err)
					}
					bm.ReportMetric(float64(bm.Elapsed().Nanoseconds())/float64(bm.N*together), "ns/operation")
				})
			}
		}
	}
}
