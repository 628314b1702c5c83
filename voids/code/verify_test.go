package code_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"keyd/voids/code"
)

// text writes bytes as a code would be, whatever they are.
func text(b []byte) string { return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b) }

// TestEveryTurnedBitIsFound turns each bit of a live code. Each has its own reason.
func TestEveryTurnedBitIsFound(t *testing.T) {
	keys := keysOf(t, newKey(t, 1))
	good := live(t, 0).Bytes()
	reasons := map[error]int{}
	for i := range len(good) * 8 {
		changed := bytes.Clone(good)
		changed[i/8] ^= 0x80 >> (i % 8)
		p, err := code.Parse(text(changed))
		if err == nil {
			var c code.Code
			if c, err = p.Verify(keys, audienceOf(t, merchant), now, 0); c != (code.Code{}) {
				t.Errorf("bit %d: %+v beside %v", i, c, err)
			}
		} else if p != nil {
			t.Errorf("bit %d: a code beside an error", i)
		}
		want := []error{code.ErrSignature, code.ErrSignatureForm}
		switch {
		case i < 8:
			want = []error{code.ErrVersion}
		case i < 16:
			want = []error{code.ErrKind}
		case i < 6*8:
			want = []error{code.ErrUnknownKey}
		case i < 34*8:
			want = []error{code.ErrSignature}
		}
		if !slices.Contains(want, err) {
			t.Errorf("bit %d: %v", i, err)
		}
		reasons[err]++
	}
	if reasons[code.ErrSignatureForm] == 0 || reasons[code.ErrSignature] < 28*8 {
		t.Errorf("%v", reasons)
	}
	// The unused bit of the text.
	whole := live(t, 0).Text()
	last := bytes.IndexByte([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), whole[len(whole)-1])
	if p, err := code.Parse(whole[:len(whole)-1] + "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[last^1:last^1+1]); err != code.ErrUnusedBits || p != nil {
		t.Errorf("unused bit: %v", err)
	}
}

// TestKindIsSigned: a live code whose kind is changed to a slip's, and a slip that is called live.
func TestKindIsSigned(t *testing.T) {
	b := live(t, 0).Bytes()
	b[1] = byte(code.Slip)
	if p, err := code.Parse(text(b)); err != code.ErrLength || p != nil {
		t.Errorf("%v", err)
	}
	b = slip(t, 0).Bytes()
	b[1] = byte(code.Live)
	if p, err := code.Parse(text(b)); err != code.ErrLength || p != nil {
		t.Errorf("%v", err)
	}
}

func TestExpiry(t *testing.T) {
	keys := keysOf(t, newKey(t, 1))
	c := newCode(t, 0)
	for _, x := range []struct {
		at   time.Duration // after the expiry
		skew time.Duration
		want error
	}{
		{-time.Minute, 0, nil}, {-1, 0, nil}, {0, 0, code.ErrExpired}, {1, 0, code.ErrExpired},
		{0, time.Second, nil}, {time.Second - 1, time.Second, nil}, {time.Second, time.Second, code.ErrExpired},
		{code.MaxSkew - 1, code.MaxSkew, nil}, {code.MaxSkew, code.MaxSkew, code.ErrExpired},
		{100 * 365 * 24 * time.Hour, code.MaxSkew, code.ErrExpired},
		{-time.Minute, -1, code.ErrSkewOutOfRange}, {-time.Minute, code.MaxSkew + 1, code.ErrSkewOutOfRange},
	} {
		at := c.Expiry.Add(x.at)
		for kind, open := range map[string]func() (code.Code, error){
			"live": func() (code.Code, error) { return live(t, 0).Verify(keys, c.Audience, at, x.skew) },
			"slip": func() (code.Code, error) { return slip(t, 0).Reference(c.Audience, at, x.skew) },
		} {
			if got, err := open(); err != x.want || err == nil && got != c || err != nil && got != (code.Code{}) {
				t.Errorf("%s, %v after the end, skew %v: %v", kind, x.at, x.skew, err)
			}
		}
	}
	for _, x := range []struct {
		before time.Duration
		skew   time.Duration
		live   error
		slip   error
	}{
		{code.LongestLive, 0, nil, nil}, {code.LongestLive + 1, 0, code.ErrEndsTooLate, nil}, {code.LongestLive + time.Second, time.Second, nil, nil},
		{code.LongestLive + time.Second + 1, time.Second, code.ErrEndsTooLate, nil},
		{code.LongestSlip, 0, code.ErrEndsTooLate, nil}, {code.LongestSlip + 1, 0, code.ErrEndsTooLate, code.ErrEndsTooLate},
	} {
		at := c.Expiry.Add(-x.before)
		if _, err := live(t, 0).Verify(keys, c.Audience, at, x.skew); err != x.live {
			t.Errorf("live, %v before the end: %v", x.before, err)
		}
		if _, err := slip(t, 0).Reference(c.Audience, at, x.skew); err != x.slip {
			t.Errorf("slip, %v before the end: %v", x.before, err)
		}
	}
}

func TestAudience(t *testing.T) {
	keys := keysOf(t, newKey(t, 1))
	for _, other := range []code.Audience{{}, audienceOf(t, "m-18"), audienceOf(t, "M-17")} {
		if c, err := live(t, 0).Verify(keys, other, now, 0); err != code.ErrForeignCode || c != (code.Code{}) {
			t.Errorf("%x: %v", other, err)
		}
		if c, err := slip(t, 0).Reference(other, now, 0); err != code.ErrForeignCode || c != (code.Code{}) {
			t.Errorf("%x: %v", other, err)
		}
	}
	// Of a forged code nothing is told, not even that it is another merchant's or has expired.
	b := live(t, 0).Bytes()
	b[30] ^= 1
	p, err := code.Parse(text(b))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Verify(keys, audienceOf(t, merchant), now.Add(time.Hour), 0); err != code.ErrSignature {
		t.Errorf("%v", err)
	}
}

func TestForeignKeys(t *testing.T) {
	audience := audienceOf(t, merchant)
	for name, keys := range map[string]code.Keys{"none": {}, "an empty set": keysOf(t), "others": keysOf(t, newKey(t, 2), newKey(t, 3))} {
		if c, err := live(t, 0).Verify(keys, audience, now, 0); err != code.ErrUnknownKey || c != (code.Code{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := live(t, 0).Verify(keysOf(t, newKey(t, 3), newKey(t, 2), newKey(t, 1)), audience, now, 0); err != nil {
		t.Errorf("one of three: %v", err)
	}
	// Another's signature under a known key's identifier.
	other := newKey(t, 2)
	forged, err := code.Sign(&other.PublicKey, deterministic(other), newCode(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	b := forged.Bytes()
	copy(b[2:6], live(t, 0).Bytes()[2:6])
	p, err := code.Parse(text(b))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Verify(keysOf(t, newKey(t, 1), other), audience, now, 0); err != code.ErrSignature {
		t.Errorf("forged: %v", err)
	}
}

func TestKeys(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]*ecdsa.PublicKey{
		"nothing": nil, "empty": {}, "without a point": {Curve: elliptic.P256()}, "P-384": &p384.PublicKey,
		"off the curve": {Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)},
	} {
		if id, err := code.IDOf(key); err != code.ErrKey || id != (code.KeyID{}) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := code.NewKeys(&newKey(t, 1).PublicKey, key); err != code.ErrKey {
			t.Errorf("%s: %v", name, err)
		}
		if p, err := code.Sign(key, deterministic(newKey(t, 1)), newCode(t, 0)); err != code.ErrKey || p != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range byte(5) {
		key := newKey(t, n+1)
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(der)
		if id, err := code.IDOf(&key.PublicKey); err != nil || !bytes.Equal(id[:], sum[:4]) {
			t.Errorf("%x, want %x: %v", id, sum[:4], err)
		}
	}
}

var order = elliptic.P256().Params().N

func der(r, s *big.Int) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(r)
		b.AddASN1BigInt(s)
	})
	return b.BytesOrPanic()
}

func raw(r, s *big.Int) []byte {
	b := make([]byte, 64)
	r.FillBytes(b[:32])
	s.FillBytes(b[32:])
	return b
}

// TestSignersForms: whatever form a token's signature has, the code is the same.
func TestSignersForms(t *testing.T) {
	key := newKey(t, 1)
	want := live(t, 0).Text()
	rs := func(digest []byte) (r, s *big.Int) {
		signature, err := deterministic(key)(digest)
		if err != nil {
			t.Fatal(err)
		}
		r, s = new(big.Int), new(big.Int)
		input := cryptobyte.String(signature)
		var inner cryptobyte.String
		if !input.ReadASN1(&inner, asn1.SEQUENCE) || !inner.ReadASN1Integer(r) || !inner.ReadASN1Integer(s) {
			t.Fatal("signature is malformed")
		}
		return r, s
	}
	for name, sign := range map[string]code.Signer{
		"DER":      func(d []byte) ([]byte, error) { return der(rs(d)), nil },
		"raw":      func(d []byte) ([]byte, error) { return raw(rs(d)), nil },
		"DER, n-s": func(d []byte) ([]byte, error) { r, s := rs(d); return der(r, s.Sub(order, s)), nil },
		"raw, n-s": func(d []byte) ([]byte, error) { r, s := rs(d); return raw(r, s.Sub(order, s)), nil },
		"digest overwritten": func(d []byte) ([]byte, error) {
			signature, err := deterministic(key)(bytes.Clone(d))
			clear(d)
			return signature, err
		},
	} {
		p, err := code.Sign(&key.PublicKey, sign, newCode(t, 0))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.Text() != want {
			t.Errorf("%s: another code", name)
		}
	}
	// The other form of a signature in a code is refused, though it verifies.
	b := live(t, 0).Bytes()
	s := new(big.Int).SetBytes(b[66:])
	s.Sub(order, s).FillBytes(b[66:])
	if p, err := code.Parse(text(b)); err != code.ErrSignatureForm || p != nil {
		t.Errorf("high s: %v", err)
	}
	// Half of the signatures of a signer have a high s.
	for n := range uint64(64) {
		p, err := code.Sign(&key.PublicKey, code.SignerOf(key), newCode(t, n))
		if err != nil {
			t.Fatal(err)
		}
		if new(big.Int).Lsh(new(big.Int).SetBytes(p.Bytes()[66:]), 1).Cmp(order) > 0 {
			t.Fatal("s is high")
		}
		if _, err := p.Verify(keysOf(t, key), audienceOf(t, merchant), now, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSignersFaults(t *testing.T) {
	key := newKey(t, 1)
	gone := errors.New("token is gone")
	one := big.NewInt(1)
	for name, c := range map[string]struct {
		sign code.Signer
		want error
	}{
		"fails":            {func([]byte) ([]byte, error) { return nil, gone }, gone},
		"returns nothing":  {func([]byte) ([]byte, error) { return nil, nil }, code.ErrSigner},
		"another key":      {deterministic(newKey(t, 2)), code.ErrSigner},
		"another digest":   {func([]byte) ([]byte, error) { return deterministic(key)(make([]byte, 32)) }, code.ErrSigner},
		"zeros":            {func([]byte) ([]byte, error) { return make([]byte, 64), nil }, code.ErrSigner},
		"the order":        {func([]byte) ([]byte, error) { return raw(order, order), nil }, code.ErrSigner},
		"ones":             {func([]byte) ([]byte, error) { return der(one, one), nil }, code.ErrSigner},
		"negative":         {func([]byte) ([]byte, error) { return der(big.NewInt(-1), one), nil }, code.ErrSigner},
		"a long number":    {func([]byte) ([]byte, error) { return der(new(big.Int).Lsh(one, 4000), one), nil }, code.ErrSigner},
		"something behind": {func(d []byte) ([]byte, error) { b, err := deterministic(key)(d); return append(b, 0), err }, code.ErrSigner},
	} {
		p, err := code.Sign(&key.PublicKey, c.sign, newCode(t, 0))
		if !errors.Is(err, c.want) || p != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDomain: what the key signs elsewhere is no code, and a code's signature covers the domain.
func TestDomain(t *testing.T) {
	key := newKey(t, 1)
	b := live(t, 0).Bytes()
	for name, domain := range map[string]string{"none": "", "without its end": "keyd void code 1", "another": "keyd void code 2\x00"} {
		digest := sha256.Sum256(append([]byte(domain), b[:34]...))
		if ecdsa.VerifyASN1(&key.PublicKey, digest[:], der(new(big.Int).SetBytes(b[34:66]), new(big.Int).SetBytes(b[66:]))) {
			t.Errorf("domain %s verifies", name)
		}
	}
	digest := sha256.Sum256(append([]byte("keyd void code 1\x00"), b[:34]...))
	if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], der(new(big.Int).SetBytes(b[34:66]), new(big.Int).SetBytes(b[66:]))) {
		t.Error("the domain is not the documented one: " + hex.EncodeToString(digest[:]))
	}
}
