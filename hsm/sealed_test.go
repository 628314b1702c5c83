package hsm_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"keyd/hsm"
)

func sample() *hsm.Header {
	return &hsm.Header{
		Name: "pvk", Version: 1, Generation: 1, Usage: "V1", Algorithm: "T", Length: 16, Mode: "V", Exportability: "N",
		CheckValue: "08D7B4", Fingerprint: strings.Repeat("A", 32), Custody: hsm.CustodyToken, Direction: hsm.DirectionBoth,
		Peers: []string{"*"}, IBM3624: &hsm.IBM3624Rule{DecimalizationTable: "0123456789012345", Length: 12, Pad: "F"},
	}
}

func encoded(t testing.TB, h *hsm.Header, wrapped ...[]byte) []byte {
	t.Helper()
	body, err := hsm.SealedBody(h, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	return append(body, make([]byte, hsm.MACSize)...)
}

func TestParseSealedTakesWhatWasSealedAndNothingElse(t *testing.T) {
	part := make([]byte, 24)
	good := encoded(t, sample(), part)
	s, err := hsm.ParseSealed(good)
	if err != nil || s.Header.Name != "pvk" || len(s.Wrapped) != 1 || !bytes.Equal(slices.Concat(s.Body, s.MAC), good) {
		t.Fatalf("%+v, %v", s, err)
	}
	for n := 1; n <= 3; n++ { // a TDES key block protection key has three parts
		parts := slices.Repeat([][]byte{part}, n)
		if s, err := hsm.ParseSealed(encoded(t, sample(), parts...)); err != nil || len(s.Wrapped) != n {
			t.Errorf("%d parts: %v, %v", n, s, err)
		}
	}
	held := sample() // it lies in the token itself
	held.Object = "keyd key pair"
	if s, err := hsm.ParseSealed(encoded(t, held)); err != nil || len(s.Wrapped) != 0 {
		t.Errorf("a key in the token: %v, %v", s, err)
	}
	body := good[:len(good)-hsm.MACSize]
	replaced := func(old, fresh string) []byte {
		if len(old) != len(fresh) || !bytes.Contains(good, []byte(old)) {
			t.Fatalf("bad replacement %q", old)
		}
		return bytes.Replace(good, []byte(old), []byte(fresh), 1)
	}
	for name, bad := range map[string][]byte{
		"empty":                                  nil,
		"a MAC alone":                            make([]byte, 16),
		"other magic":                            append([]byte("kSK2"), good[4:]...),
		"a byte more":                            append(slices.Clone(body), make([]byte, hsm.MACSize+1)...),
		"no part":                                encoded(t, sample()),
		"a part of a key that lies in the token": encoded(t, held, part),
		"four parts":                             encoded(t, sample(), part, part, part, part),
		"a part of odd length":                   encoded(t, sample(), make([]byte, 23)),
		"a part too short":                       encoded(t, sample(), make([]byte, 8)),
		"an unknown field":                       replaced(`"version"`, `"versiom"`),
		"another case":                           replaced(`"usage"`, `"Usage"`),
		"white space":                            replaced(`"version":1,`, `"version": 1`),
		"larger than any":                        make([]byte, hsm.MaxSealedSize+1),
	} {
		if s, err := hsm.ParseSealed(bad); !errors.Is(err, hsm.ErrSealed) || s != nil {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	for n := range good {
		if _, err := hsm.ParseSealed(good[:n]); err == nil {
			t.Errorf("cut at %d: accepted", n)
		}
	}
}

func TestValidityAndPeers(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	h := &hsm.Header{NotBefore: 100, NotAfter: 200}
	for s, want := range map[int64]bool{99: false, 100: true, 199: true, 200: false} {
		if h.ValidAt(at(s)) != want {
			t.Errorf("at %d: %v", s, !want)
		}
	}
	if !(&hsm.Header{}).ValidAt(at(0)) {
		t.Error("a key without limits is not valid")
	}
	for _, c := range []struct {
		a, b []string
		want bool
	}{
		{nil, nil, false}, {[]string{"*"}, nil, false}, {nil, []string{"*"}, false}, {[]string{"*"}, []string{"x"}, true},
		{[]string{"x"}, []string{"y"}, false}, {[]string{"x", "y"}, []string{"y"}, true},
	} {
		if got := (&hsm.Header{Peers: c.a}).SharesPeers(&hsm.Header{Peers: c.b}); got != c.want {
			t.Errorf("%v and %v: %v", c.a, c.b, got)
		}
	}
}

func FuzzParseSealed(f *testing.F) {
	f.Add(encoded(f, sample(), make([]byte, 24)))
	f.Add(encoded(f, sample(), make([]byte, 24), make([]byte, 24)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := hsm.ParseSealed(b)
		if err != nil {
			if s != nil {
				t.Error("a result beside an error")
			}
			return
		}
		body, err := hsm.SealedBody(s.Header, s.Wrapped)
		if err != nil || !bytes.Equal(slices.Concat(body, s.MAC), b) {
			t.Error("parsing and encoding is not the identity")
		}
	})
}
