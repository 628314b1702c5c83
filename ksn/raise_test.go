package ksn

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/store"
)

// counterOf makes a sequence by its initial key ID.
func counterOf(id byte, counter uint32) store.Counter {
	q := sequence{byte(PINIncoming), 0xab}
	q[sequenceSize-1] = id
	return store.Counter{Sequence: q[:], Counter: counter, Receipt: []byte("receipt"), AcceptedAt: time.Unix(1, 0).UTC()}
}

func raised(t *testing.T, r *Raised, from ...store.Counter) (list []store.Counter) {
	t.Helper()
	next := r.Counters(func() (store.Counter, error) {
		if len(from) == 0 {
			return store.Counter{}, io.EOF
		}
		c := from[0]
		from = from[1:]
		return c, nil
	})
	for {
		c, err := next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
}

// What a backup has and what is known besides come out as one, in order, each at its highest,
// without receipts.
func TestRaised(t *testing.T) {
	asItIs := func(_ string, c uint32) uint32 { return c }
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		r := NewRaised(time.Unix(2, 0).UTC(), asItIs)
		want := map[byte]uint32{}
		var from []store.Counter
		for id := range byte(20) {
			if random.IntN(2) == 0 {
				from = append(from, counterOf(id, random.Uint32N(9)))
				want[id] = from[len(from)-1].Counter
			}
			for random.IntN(2) == 0 {
				c := counterOf(id, random.Uint32N(9))
				if err := r.Least(c.Sequence, c.Counter); err != nil {
					t.Fatal(err)
				}
				want[id] = max(want[id], c.Counter)
			}
		}
		got := raised(t, r, from...)
		if len(got) != len(want) {
			t.Fatalf("%d counters, want %d", len(got), len(want))
		}
		for i, c := range got {
			if i > 0 && bytes.Compare(got[i-1].Sequence, c.Sequence) >= 0 {
				t.Fatal("out of order")
			}
			if c.Counter != want[c.Sequence[sequenceSize-1]] || len(c.Receipt) != 0 {
				t.Fatalf("%v, want %v", c, want)
			}
		}
	}
}

func TestRaisedRefuses(t *testing.T) {
	r := NewRaised(time.Now(), func(_ string, c uint32) uint32 { return c })
	for _, name := range [][]byte{nil, {1, 2}, make([]byte, sequenceSize), bytes.Repeat([]byte{7}, sequenceSize)} {
		if err := r.Least(name, 1); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%x: %v", name, err)
		}
		next := r.Counters(func() (store.Counter, error) { return store.Counter{Sequence: name}, nil })
		if _, err := next(); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%x: %v", name, err)
		}
	}
	broken := errors.New("broken")
	if _, err := r.Counters(func() (store.Counter, error) { return store.Counter{}, broken })(); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := Advances(1, []byte("no row"), func([]byte, uint32) { t.Error("called") }); !errors.Is(err, store.ErrCorrupt) {
		t.Error(err)
	}
}

// A ledger over raised counters accepts what is above them, and nothing else; over exhausted
// ones nothing at all, of either scheme. What was accepted last is no retry any more.
func TestLedgerOverRaisedCounters(t *testing.T) {
	for scheme, size := range map[dukpt.Scheme]int{dukpt.TDES: dukpt.TDESKSNSize, dukpt.AES: dukpt.AESKSNSize} {
		initial, err := dukpt.ParseInitialKSN(make([]byte, size))
		if err != nil {
			t.Fatal(err)
		}
		use := func(counter uint32) []Use {
			k, err := initial.WithCounter(counter)
			if err != nil {
				t.Fatal(err)
			}
			return []Use{{Fingerprint: strings.Repeat("AB", fingerprintSize), KSN: k, Class: PINIncoming}}
		}
		highest, ok := scheme.Advance(0, map[dukpt.Scheme]uint64{dukpt.TDES: 1_048_575, dukpt.AES: 2_448_023_842}[scheme])
		if !ok || Margin(scheme, highest, 1) != Exhausted {
			t.Errorf("%s: the last counter is %d, %t", scheme, highest, ok)
		}
		for how, raise := range map[string]func(string, uint32) uint32{
			"exhausted": func(string, uint32) uint32 { return Exhausted },
			"margin": func(fingerprint string, c uint32) uint32 {
				if fingerprint != strings.Repeat("ab", fingerprintSize) {
					t.Errorf("fingerprint %s", fingerprint)
				}
				return Margin(scheme, c, 3)
			},
		} {
			r := NewRaised(time.Now(), raise)
			if err := r.Used(use(7)[0]); err != nil {
				t.Fatal(err)
			}
			s := openStore(t, filepath.Join(t.TempDir(), "keyd.db"))
			for _, c := range raised(t, r) {
				if err := s.Fold(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			l, err := Open(t.Context(), s, Options{MaxJump: 1<<32 - 1})
			if err != nil {
				t.Fatal(err)
			}
			for counter, fresh := range map[uint32]bool{7: false, 10: false, 11: how == "margin", highest: how == "margin"} {
				_, err := l.Look(t.Context(), use(counter), []byte("request"))
				if (err == nil) != fresh || err != nil && fault.Of(err).Reason != fault.KSNReplayed {
					t.Errorf("%s, %s, counter %d: %v", scheme, how, counter, err)
				}
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
