package code_test

import (
	"bytes"
	"strings"
	"testing"

	"keyd/voids/code"
)

// FuzzParse asserts of any text: no panic, nothing with an error, what is parsed is written as it was,
// and nothing is verified but what was signed.
func FuzzParse(f *testing.F) {
	signed := live(f, 0).Text()
	f.Add(signed)
	f.Add(slip(f, 0).Text())
	f.Add(signed[:156])
	f.Add(strings.ToLower(signed))
	f.Add("AEAQ")
	keys, audience := keysOf(f, newKey(f, 1)), audienceOf(f, merchant)
	f.Fuzz(func(t *testing.T, scanned string) {
		p, err := code.Parse(scanned)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err != nil {
			return
		}
		if p.Text() != scanned {
			t.Fatalf("%q is written as %q", scanned, p.Text())
		}
		c, err := p.Verify(keys, audience, now, code.MaxSkew)
		if err == nil && scanned != signed || err != nil && c != (code.Code{}) {
			t.Fatalf("%q is verified: %+v, %v", scanned, c, err)
		}
		if c, err := p.Reference(audience, now, code.MaxSkew); err == nil {
			again, err := code.NewSlip(c)
			if err != nil {
				t.Fatal(err)
			}
			if again.Text() != scanned {
				t.Fatalf("%q is the slip %q", scanned, again.Text())
			}
		}
	})
}

// FuzzScan asserts that a URL has one form but for the case of scheme and host, and is of a host that
// was asked for.
func FuzzScan(f *testing.F) {
	f.Add(url(f, live(f, 0), host))
	f.Add(strings.Replace(url(f, slip(f, 0), host), "HTTPS://VOID", "https://Void", 1))
	f.Add(url(f, slip(f, 0), "localhost:8443"))
	f.Add("HTTPS://VOID.EXAMPLE.COM:443/V/")
	f.Add(slip(f, 0).Text())
	f.Fuzz(func(t *testing.T, scanned string) {
		p, err := code.Scan(scanned, host, "localhost:8443")
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err != nil || p.Text() == scanned {
			return
		}
		end := len(scanned) - len(p.Text())
		written := strings.ToUpper(scanned[:max(end, 0)]) + scanned[max(end, 0):]
		if written != url(t, p, host) && written != url(t, p, "localhost:8443") {
			t.Fatalf("%q is read", scanned)
		}
		if _, err := code.NewSymbol(written); err != nil {
			t.Fatalf("%q cannot be drawn: %v", written, err)
		}
	})
}

// FuzzSigner asserts that whatever a signer returns, no code comes of it but a good one.
func FuzzSigner(f *testing.F) {
	key := newKey(f, 1)
	f.Add(live(f, 0).Bytes()[34:])
	f.Add([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Add(bytes.Repeat([]byte{0x30}, 64))
	keys, audience := keysOf(f, key), audienceOf(f, merchant)
	c := newCode(f, 0)
	f.Fuzz(func(t *testing.T, signature []byte) {
		p, err := code.Sign(&key.PublicKey, func([]byte) ([]byte, error) { return signature, nil }, c)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err != nil {
			return
		}
		read, err := code.Parse(p.Text())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := read.Verify(keys, audience, now, 0); err != nil {
			t.Fatal(err)
		}
	})
}
