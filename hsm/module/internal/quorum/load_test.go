package quorum_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"slices"
	"testing"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// Published components give the published key with its check value, and the sealed key
// enciphers as that key does.
func TestComponentsMakeThePublishedKey(t *testing.T) {
	type vector struct {
		ID         string
		Components []string
		Algorithm  string
		Key        string
		KCV        string
	}
	var loaded int
	for _, v := range vectors[vector](t, "../../../../officer/testdata/components.json", 4) {
		t.Run(v.ID, func(t *testing.T) {
			b := newBench(t)
			r := b.mustBegin("dave", &ceremony.Definition{
				Kind: ceremony.Load, Key: spec("zone", "P0", "T", len(v.Key)/2, "B", "N"), Components: len(v.Components), Approvals: 2,
			})
			if r.opening.Need.Components != len(v.Components) {
				t.Fatalf("it takes %d components", r.opening.Need.Components)
			}
			for i, c := range v.Components {
				r.submit(officerNames[i], i+1, unhex(t, c))
			}
			want := checkValue("T", unhex(t, v.Key))
			if v.KCV != "" && want != v.KCV[:6] {
				t.Fatalf("check value %s, published %s", want, v.KCV)
			}
			check, err := r.check()
			if err != nil || check != want {
				t.Fatalf("check value %s, %v, want %s", check, err, want)
			}
			r.approve("alice", "bob")
			out := r.finish()
			works(t, b, *out.Key, unhex(t, v.Key))
			entry := b.entry("zone", 1)
			if entry.Fingerprint != b.fingerprint("T", unhex(t, v.Key)) {
				t.Error("another key was sealed")
			}
			if want := officerNames[:len(v.Components)]; !slices.Equal(entry.Officers, want) {
				t.Errorf("custodians %v, want %v", entry.Officers, want)
			}
			loaded++
		})
	}
	if loaded != 4 {
		t.Errorf("%d keys were loaded, want 4", loaded)
	}
}

// works asserts that a sealed key opens, and enciphers as the clear key does.
func works(t *testing.T, b *bench, key hsm.Key, value []byte) {
	t.Helper()
	b.do(func(s *token.Session) error {
		k, err := b.keys.Open(s, key)
		if err != nil {
			return err
		}
		defer k.Release()
		c := blockCipher(t, k.Header.Algorithm, value)
		want, got := make([]byte, c.BlockSize()), make([]byte, c.BlockSize())
		c.Encrypt(want, want)
		if err := s.Encrypt(k.Mechanism(), k.Object, got, make([]byte, c.BlockSize())); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			t.Error("the key enciphers as another does")
		}
		if k.Header.CheckValue != checkValue(k.Header.Algorithm, value) {
			t.Errorf("check value %s", k.Header.CheckValue)
		}
		return nil
	})
}

func blockCipher(t *testing.T, algorithm string, value []byte) cipher.Block {
	t.Helper()
	var c cipher.Block
	var err error
	if algorithm == "A" {
		c, err = aes.NewCipher(value)
	} else {
		if value = slices.Clone(value); len(value) == 16 {
			value = append(value, value[:8]...)
		}
		c, err = des.NewTripleDESCipher(value)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Keys of every algorithm and size come in by components, in whatever order these arrive.
func TestKeysOfEverySizeAreLoaded(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		name, usage, algorithm, mode string
		sizes                        []int
	}{
		{"p", "P0", "T", "B", []int{16, 24}}, {"q", "P0", "A", "B", []int{16, 24, 32}}, {"h", "M7", "H", "C", []int{16, 17, 32, 64}},
		{"k", "K1", "A", "B", []int{16, 24, 32}}, {"t", "K1", "T", "B", []int{16, 24}}, {"d", "D0", "A", "B", []int{16}}, {"b", "B0", "T", "X", []int{16}},
	} {
		for _, size := range c.sizes {
			value := random(size)
			name := c.name + string(rune('a'+size%26))
			r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec(name, c.usage, c.algorithm, size, c.mode, "N"), Components: 2})
			components := split(value, r.opening.Need.Components)
			for i := len(components) - 1; i >= 0; i-- {
				if check, err := r.check(); err != nil || check != "" {
					t.Fatalf("before all components are there: %q, %v", check, err)
				}
				r.submit(officerNames[i], i+1, components[i])
			}
			r.approve(officerNames[:r.opening.Need.Approvals]...)
			out := r.finish()
			if got := b.entry(name, 1).Fingerprint; got != b.fingerprint(c.algorithm, value) {
				t.Errorf("%s of %d bytes: another key was sealed", c.usage, size)
			}
			if c.usage == "P0" {
				works(t, b, *out.Key, value)
			}
		}
	}
}

// A key that is made here is random, has odd parity, and nobody has approved a check value
// that nobody could know.
func TestCreatedKeysAreFresh(t *testing.T) {
	b := newBench(t)
	seen := make(map[string]bool)
	for i, s := range []*ceremony.KeySpec{
		spec("a", "P0", "T", 16, "B", "N"), spec("b", "P0", "T", 24, "B", "N"), spec("c", "P0", "A", 32, "B", "N"), spec("d", "M7", "H", 48, "C", "N"),
		spec("e", "B0", "T", 16, "X", "N"), spec("f", "K1", "A", 32, "B", "N"), spec("g", "V2", "T", 16, "V", "N"), spec("h", "P0", "T", 16, "B", "E"),
	} {
		out := b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: s})
		entry := b.entry(s.Name, 1)
		if seen[entry.Fingerprint] {
			t.Errorf("key %d was made before", i)
		}
		seen[entry.Fingerprint] = true
		b.do(func(session *token.Session) error {
			k, err := b.keys.Open(session, *out.Key)
			if err == nil {
				if k.Header.Length != s.Length {
					t.Errorf("%d bytes, want %d", k.Header.Length, s.Length)
				}
				k.Release()
			}
			return err
		})
		if s.Exportability != "N" { // what may leave can be read, so that its parity can be seen
			value := make([]byte, 64)
			b.do(func(session *token.Session) error {
				n, err := readable(b).Read(session, out.Key.Sealed, value)
				value = value[:n]
				return err
			})
			for _, octet := range value {
				if ones(octet)%2 == 0 {
					t.Fatalf("byte %02X has even parity", octet)
				}
			}
		}
	}
}

func ones(b byte) (n int) {
	for ; b != 0; b &= b - 1 {
		n++
	}
	return n
}

// Of some usages one officer may make a key alone, where the roster says so; of keys that
// derive, verify or wrap never.
func TestOneOfficerAloneWhereTheRosterSaysSo(t *testing.T) {
	b := newBench(t)
	for usage, want := range map[string]int{"P0": 1, "M1": 1, "D0": 3, "M3": 2, "B0": 2, "V2": 2, "K1": 2} {
		s := spec("k-"+usage, usage, "T", 16, map[string]string{"P0": "B", "D0": "B", "B0": "X", "K1": "B"}[usage], "N")
		if s.Mode == "" {
			s.Mode = "C"
		}
		r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Create, Key: s})
		if r.opening.Need != (ceremony.Need{Approvals: want}) {
			t.Errorf("%s: %+v, want %d approvals", usage, r.opening.Need, want)
		}
		for i := range want {
			_, err := r.carryOut()
			refused(t, err, fault.QuorumMissing)
			r.approve(officerNames[i])
		}
		r.finish()
	}
}

func readable(b *bench) *sealing.Set { return sealing.NewSet(b.masters) }
