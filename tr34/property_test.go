package tr34

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var entropy = rand.Reader

// What a host writes in any shape, a device reads, whatever shape it would write itself.
func TestKeysArrive(t *testing.T) {
	w := theWorld()
	rapid.Check(t, func(t *rapid.T) {
		p := Profile{
			OAEP:        rapid.SampledFrom([]crypto.Hash{0, crypto.SHA1, crypto.SHA256}).Draw(t, "oaep"),
			MGF:         rapid.SampledFrom([]crypto.Hash{0, crypto.SHA1, crypto.SHA256}).Draw(t, "mgf"),
			Content:     rapid.SampledFrom([]Cipher{AES128CBC, AES192CBC, AES256CBC, TDESCBC}).Draw(t, "content"),
			SampleOrder: rapid.Bool().Draw(t, "order"), BareContent: rapid.Bool().Draw(t, "bare"),
			ContentInAlgorithm: rapid.Bool().Draw(t, "inside"), UntaggedOAEP: rapid.Bool().Draw(t, "untagged"),
			SignedVersion1: rapid.Bool().Draw(t, "version1"), AnnexDKeyBlock: rapid.Bool().Draw(t, "annex D"),
		}
		header, size := "D0000K1AB00E0000", 16
		if p.Content == TDESCBC || rapid.Bool().Draw(t, "tdes") {
			header, size = "B0000K1TB00N0100KS0C01234567", rapid.SampledFrom([]int{16, 24}).Draw(t, "size")
		}
		clear := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "key")
		fresh, expect := Freshness{}, Expectation{Host: w.host.certificate, CRLs: [][]byte{w.crl}, Now: now}
		if rapid.Bool().Draw(t, "two-pass") {
			fresh.Random = rapid.SliceOfN(rapid.Byte(), MinRandom, MaxRandom).Draw(t, "random")
			expect.Random = fresh.Random
		} else {
			fresh.Time, fresh.CRL = now.Add(time.Duration(rapid.IntRange(1, 1e6).Draw(t, "seconds"))*time.Second), w.crl
			expect.After = now
		}
		working, kept := scratch(), bytes.Clone(clear)
		token, err := w.sender(p).KeyToken(entropy, w.to(), Key{header, clear}, fresh, working)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(clear, kept) || !bytes.Equal(working, scratch()) || bytes.Contains(token, clear) {
			t.Fatal("the key was changed or left behind")
		}
		reading := Profile{OAEP: p.OAEP, MGF: p.MGF}
		out := make([]byte, size)
		received, err := w.receiver(reading).OpenKeyToken(token, expect, working, out)
		if err != nil {
			t.Fatal(err)
		}
		if received.Header != header || received.Size != size || !bytes.Equal(out, clear) || !received.Time.Equal(fresh.Time) {
			t.Fatalf("%+v came with %x", received, out)
		}
		if !bytes.Equal(working, scratch()) {
			t.Fatal("scratch was not cleared")
		}
		// Anything else than the hashes that were agreed on is refused.
		oaep, mgf, _ := p.hashes()
		for _, other := range []Profile{{OAEP: crypto.SHA256}, {OAEP: crypto.SHA1}, {OAEP: crypto.SHA256, MGF: crypto.SHA1}, {OAEP: crypto.SHA1, MGF: crypto.SHA256}} {
			if a, b, _ := other.hashes(); a == oaep && b == mgf {
				continue
			}
			if _, err := w.receiver(other).OpenKeyToken(token, expect, working, out); err != ErrAlgorithm {
				t.Fatalf("read with %v: %v", other, err)
			}
		}
	})
}

// Credentials, random numbers and the tokens that end a binding survive both ways.
func TestTokensArrive(t *testing.T) {
	w := theWorld()
	rapid.Check(t, func(t *rapid.T) {
		p := Profile{SampleOrder: rapid.Bool().Draw(t, "order"), BareContent: rapid.Bool().Draw(t, "bare"), SignedVersion1: rapid.Bool().Draw(t, "version1")}
		random := rapid.SliceOfN(rapid.Byte(), MinRandom, MaxRandom).Draw(t, "random")
		token, err := RandomToken(random)
		if err != nil {
			t.Fatal(err)
		}
		if read, err := ReadRandomToken(token); err != nil || !bytes.Equal(read, random) {
			t.Fatalf("%x read as %x, %v", random, read, err)
		}
		token, err = CredentialToken(w.host.certificate, w.crl)
		if err != nil {
			t.Fatal(err)
		}
		bound, err := w.trust.OpenCredential(token, HostRole, nil, now)
		if err != nil || !bound.Certificate.Equal(w.host.certificate) || len(bound.CRLs) != 1 || !bytes.Equal(bound.CRLs[0], w.crl) {
			t.Fatalf("bound to %+v, %v", bound, err)
		}
		host, device := w.sender(p), w.receiver(Profile{})
		fresh := Freshness{Random: random, CRL: w.crl}
		expect := Expectation{Host: bound.Certificate, Now: now, Random: random}
		if token, err = host.RebindToken(w.to(), w.other.certificate, fresh); err != nil {
			t.Fatal(err)
		}
		next, err := device.OpenRebindToken(token, expect)
		if err != nil || !next.Certificate.Equal(w.other.certificate) || len(next.CRLs) != 1 {
			t.Fatalf("rebound to %+v, %v", next, err)
		}
		if token, err = host.UnbindToken(w.to(), fresh); err != nil {
			t.Fatal(err)
		}
		if err := device.OpenUnbindToken(token, expect); err != nil {
			t.Fatal(err)
		}
	})
}
