package receipt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"testing"

	"keyd/ceremony"
)

const later = 1_800_000_060

func identity(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t)
}

func TestStatementsAreVerified(t *testing.T) {
	key := identity(t)
	b := must(Sign(key, example(), answer(), later))(t)
	said := must(Open(b))(t)
	if !said.Identity.Equal(key.Public()) || said.At != later || said.Record.Terminal != "t-1" || !bytes.Equal(said.Receipt.MAC, answer().MAC) {
		t.Errorf("%+v", said)
	}
	for name, sign := range map[string]func() ([]byte, error){
		"before its record": func() ([]byte, error) { return Sign(key, example(), answer(), example().At-1) },
		"of other keys": func() ([]byte, error) {
			r := answer()
			r.CheckValues[0] = "000000"
			return Sign(key, example(), r, later)
		},
		"of fewer keys": func() ([]byte, error) {
			r := answer()
			r.CheckValues = r.CheckValues[:2]
			return Sign(key, example(), r, later)
		},
		"of half a MAC": func() ([]byte, error) { r := answer(); r.MAC = r.MAC[:8]; return Sign(key, example(), r, later) },
		"of no record":  func() ([]byte, error) { return Sign(key, &Record{}, answer(), later) },
		"of no receipt": func() ([]byte, error) { return Sign(key, example(), &Receipt{}, later) },
	} {
		if b, err := sign(); err == nil || b != nil {
			t.Errorf("%s: %s, %v", name, b, err)
		}
	}
}

// A statement that was altered, or made of the parts of others, is none, whoever has signed it.
func TestStatementsThatAreNone(t *testing.T) {
	key, other := identity(t), identity(t)
	good := must(Sign(key, example(), answer(), later))(t)
	in := must(ceremony.Decode[signed](good, MaxStatement))(t)
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		if said, err := Open(b); err == nil || said != nil {
			t.Fatalf("a bit of byte %d", i)
		}
	}
	signedBy := func(key *ecdsa.PrivateKey, purpose ceremony.Purpose, change func(*statement)) []byte {
		s := must(ceremony.Decode[statement](in.Statement, MaxStatement))(t)
		change(s)
		out := signed{Statement: must(ceremony.Encode(s))(t), Identity: must(x509.MarshalPKIXPublicKey(key.Public()))(t)}
		out.Signature = must(ceremony.Sign(key, purpose, out.Statement))(t)
		return must(ceremony.Encode(&out))(t)
	}
	encoded := func(change func(*Record)) []byte {
		r := example()
		change(r)
		return must(ceremony.Encode(r))(t)
	}
	swapped := *in
	swapped.Identity = must(x509.MarshalPKIXPublicKey(other.Public()))(t)
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":                   {nil, ErrStatement},
		"too long":                  {make([]byte, MaxStatement+1), ErrStatement},
		"a statement alone":         {in.Statement, ErrStatement},
		"of another identity":       {must(ceremony.Encode(&swapped))(t), ceremony.ErrSignature},
		"signed for something else": {signedBy(key, ceremony.OfRecord, func(*statement) {}), ceremony.ErrSignature},
		"before its record":         {signedBy(key, ceremony.OfInjection, func(s *statement) { s.At = example().At - 1 }), ErrStatement},
		"of other keys":             {signedBy(key, ceremony.OfInjection, func(s *statement) { s.Record = encoded(func(r *Record) { r.Keys[0].CheckValue = "000000" }) }), ErrStatement},
		"of half a MAC":             {signedBy(key, ceremony.OfInjection, func(s *statement) { s.Record = encoded(func(r *Record) { r.Keys[1].Algorithm = "T" }) }), ErrStatement},
		"without a record":          {signedBy(key, ceremony.OfInjection, func(s *statement) { s.Record = nil }), ErrStatement},
		"without a receipt":         {signedBy(key, ceremony.OfInjection, func(s *statement) { s.Receipt = nil }), ErrStatement},
		"of a record that is none":  {signedBy(key, ceremony.OfInjection, func(s *statement) { s.Record = encoded(func(r *Record) { r.Host = "" }) }), ErrStatement},
	} {
		if said, err := Open(c.b); !errors.Is(err, c.want) || said != nil {
			t.Errorf("%s: %v, %v", name, said, err)
		}
	}
	if said := must(Open(signedBy(key, ceremony.OfInjection, func(*statement) {})))(t); said.At != later {
		t.Error("what they are compared with is no statement either")
	}
}

// FuzzParseRecord asserts for any bytes: no panic, nothing returned with an error, and that what is
// accepted is the one encoding of what it says.
func FuzzParseRecord(f *testing.F) {
	f.Add(must(example().Encode())(f))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			if r != nil || !errors.Is(err, ErrRecord) {
				t.Fatal(r, err)
			}
			return
		}
		if again, err := r.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s: %v", again, err)
		}
		if _, err := Text([IDSize]byte{}, r.CheckValues()); err != nil {
			t.Fatal("a record has no text")
		}
	})
}

// FuzzParse asserts the same of receipts.
func FuzzParse(f *testing.F) {
	f.Add(must(answer().Encode())(f))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			if r != nil || !errors.Is(err, ErrReceipt) {
				t.Fatal(r, err)
			}
			return
		}
		if again, err := r.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

// FuzzOpen asserts of any statement that a module's identity signs, and of any that it does not:
// no panic, and nothing returned with an error.
func FuzzOpen(f *testing.F) {
	key := identity(f)
	good := must(Sign(key, example(), answer(), later))(f)
	in := must(ceremony.Decode[signed](good, MaxStatement))(f)
	f.Add(good)
	f.Add(in.Statement)
	f.Add([]byte("{}"))
	der := must(x509.MarshalPKIXPublicKey(key.Public()))(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if said, err := Open(b); (err == nil) != (said != nil) {
			t.Fatal(said, err)
		}
		signature, err := ceremony.Sign(key, ceremony.OfInjection, b)
		if err != nil {
			return
		}
		whole, err := ceremony.Encode(&signed{Statement: b, Identity: der, Signature: signature})
		if err != nil {
			return
		}
		said, err := Open(whole)
		if (err == nil) != (said != nil) {
			t.Fatal(said, err)
		}
		if said != nil && (said.At < said.Record.At || !said.Identity.Equal(key.Public())) {
			t.Fatalf("%+v", said)
		}
	})
}
