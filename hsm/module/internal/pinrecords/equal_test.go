package pinrecords

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/pinrecord"
)

// What cannot be tried is asked about with these.
const wrongPIN = "739105"

// spent counts the token's calls during do, kind by kind.
func (b *bench) spent(do func()) map[string]token.Calls {
	before := b.Token.Calls()
	do()
	calls := make(map[string]token.Calls)
	for i, c := range b.Token.Calls() {
		calls[c.Name] = token.Calls{Name: c.Name, Count: c.Count - before[i].Count, Blocks: c.Blocks - before[i].Blocks}
	}
	return calls
}

// untried are the bench's record with another PIN that is alive, and records with which nothing is
// compared.
func (b *bench) untried() (alive []byte, others map[string][]byte) {
	b.Helper()
	changed, err := b.engine.Change(hsm.ChangeRecord{Record: b.record, DatumKey: b.datum, Current: b.typed("A", 17, benchPIN).RecordBlock, New: b.typed("A", 18, "551872").RecordBlock})
	if err != nil || !changed.Verified {
		b.Fatalf("%v, %v", changed.Verified, err)
	}
	decoy := bytes.Clone(changed.Record)
	decoy[len(decoy)-1] ^= 1
	r, _, mac, err := pinrecord.Parse(changed.Record)
	b.must(err)
	r.Version = pinrecord.MaxVersion
	last, err := r.Encode()
	b.must(err)
	return changed.Record, map[string][]byte{"no module's": decoy, "no module's, the last version": append(last, mac...), "dead": b.record}
}

// A record with which nothing is compared costs the token as many calls of each kind as a wrong PIN.
func TestWhatCannotBeTriedCostsAsManyTokenCalls(t *testing.T) {
	b := newBench(t)
	alive, others := b.untried()
	for _, algorithm := range []string{"A", "T"} {
		wrong, other := b.typed(algorithm, 20, wrongPIN), b.typed(algorithm, 24, "402913")
		for name, ask := range map[string]func(record []byte) (bool, error){
			"verified": func(record []byte) (bool, error) {
				return b.engine.Verify(hsm.VerifyRecord{Record: record, DatumKey: b.datum, PIN: wrong.RecordBlock})
			},
			"changed": func(record []byte) (bool, error) {
				answer, err := b.engine.Change(hsm.ChangeRecord{Record: record, DatumKey: b.datum, Current: wrong.RecordBlock, New: other.RecordBlock})
				return answer.Verified || answer.Record != nil, err
			},
			"a void": func(record []byte) (bool, error) {
				r := b.authorization(wrong)
				r.PINs[0].Record.Record = record
				answer, err := b.engine.Authorize(r)
				return answer.Verified || answer.Token != "", err
			},
		} {
			calls := func(record []byte) (spent map[string]token.Calls, yes bool, err error) {
				spent = b.spent(func() { yes, err = ask(record) })
				return spent, yes, err
			}
			if _, yes, err := calls(alive); yes || err != nil { // and all keys are open from here on
				t.Fatalf("%s, %s: %v, %v", algorithm, name, yes, err)
			}
			want, yes, err := calls(alive)
			if yes || err != nil || want["C_Sign"].Count < 2 || algorithm == "A" && want["C_Decrypt CKM_AES_ECB"].Count < 2 {
				t.Fatalf("%s, %s, a wrong PIN: %v, %v, %v", algorithm, name, want, yes, err)
			}
			for kind, record := range others {
				got, yes, err := calls(record)
				if reason := fault.Of(err).Reason; yes || err == nil || (reason == fault.PINRecordEnded) != (kind == "dead") || reason != fault.PINRecordEnded && reason != fault.KeySealInvalid {
					t.Errorf("%s, %s, %s: %v, %v", algorithm, name, kind, yes, err)
				}
				if !maps.Equal(got, want) {
					t.Errorf("%s, %s, %s costs the token\n%v, a wrong PIN\n%v", algorithm, name, kind, got, want)
				}
			}
		}
	}
}

// So does a pending record with whose code nothing is compared.
func TestWhatCannotBeSetCostsAsManyTokenCalls(t *testing.T) {
	b := newBench(t)
	set := func(pending []byte) (spent map[string]token.Calls, verified bool, err error) {
		code, pin := b.typed("A", 20, "00000000"), b.typed("A", 24, "402913")
		spent = b.spent(func() {
			var answer hsm.SetRecord
			answer, err = b.engine.Set(hsm.SetPIN{Pending: pending, DatumKey: b.datum, Code: code.RecordBlock, PIN: pin.RecordBlock})
			verified = answer.Verified
		})
		return spent, verified, err
	}
	first := pendingOf(b.begun(pinrecord.Reset, 2))
	alive := pendingOf(b.begun(pinrecord.Reset, 3))
	if _, verified, err := set(alive); verified || err != nil {
		t.Fatal(verified, err)
	}
	want, verified, err := set(alive)
	if verified || err != nil || want["C_Sign"].Count < 2 {
		t.Fatal(want, verified, err)
	}
	decoy := bytes.Clone(alive)
	decoy[len(decoy)-1] ^= 1
	for name, pending := range map[string][]byte{"no module's": decoy, "dead": first} {
		got, verified, err := set(pending)
		if verified || err == nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, %v, costs the token\n%v, a wrong code\n%v", name, verified, err, got, want)
		}
	}
}

func pendingOf(pending []byte, _ string) []byte { return pending }

// Master keys of two generations make a MAC each, whichever has made the record's.
func TestEachGenerationIsTried(t *testing.T) {
	b := newBench(t)
	b.must(b.Token.Do(func(s *token.Session) error { return sealing.CreateMasters(s, 2) }))
	b.decided.epoch.Generation = 2
	old := b.record
	anew, err := b.engine.Reseal(old)
	b.must(err)
	if bytes.Equal(old, anew) {
		t.Fatal("it is not sealed anew")
	}
	decoy := bytes.Clone(old)
	decoy[len(decoy)-1] ^= 1
	typed := b.typed("A", 20, wrongPIN)
	var want map[string]token.Calls
	for _, record := range [][]byte{old, old, anew, decoy} {
		got := b.spent(func() {
			_, err = b.engine.Verify(hsm.VerifyRecord{Record: record, DatumKey: b.datum, PIN: typed.RecordBlock})
		})
		if err != nil && !strings.Contains(err.Error(), "PIN record") {
			t.Fatal(err)
		}
		if want != nil && got["C_Sign"] != want["C_Sign"] {
			t.Errorf("%v, want %v", got, want)
		}
		want = got
	}
}

// BenchmarkWhatCannotBeTried takes the median of each kind, one after the other in turns, so that
// what else the machine does meets them alike.
func BenchmarkWhatCannotBeTried(bench *testing.B) {
	for name, algorithm := range map[string]string{"AES": "A", "TDES": "T"} {
		bench.Run(name, func(t *testing.B) {
			b := newBench(t)
			alive, others := b.untried()
			typed := b.typed(algorithm, 20, wrongPIN)
			kinds := []struct {
				name   string
				record []byte
				took   []time.Duration
			}{{name: "wrong-PIN", record: alive}, {name: "no-record", record: others["no module's"]}, {name: "dead", record: others["dead"]}}
			for t.Loop() {
				b.engine.tries.ResetRecord(b.subject.Digest())
				for i := range kinds {
					k, from := &kinds[i], time.Now()
					verified, err := b.engine.Verify(hsm.VerifyRecord{Record: k.record, DatumKey: b.datum, PIN: typed.RecordBlock})
					k.took = append(k.took, time.Since(from))
					if verified || (err == nil) != (i == 0) {
						t.Fatalf("%s: %v, %v", k.name, verified, err)
					}
				}
			}
			t.ReportMetric(0, "ns/op") // of all three, which says nothing
			for _, k := range kinds {
				slices.Sort(k.took)
				t.ReportMetric(float64(k.took[len(k.took)/2].Microseconds()), k.name+"-µs")
			}
		})
	}
}
