package code_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"keyd/voids/code"
)

func TestRoundTrip(t *testing.T) {
	keys := keysOf(t, newKey(t, 1))
	for n := range uint64(50) {
		want := newCode(t, n)
		p, q := live(t, n), slip(t, n)
		for _, c := range []struct {
			p    *code.Payload
			open func(p *code.Payload) (code.Code, error)
			kind code.Kind
			size int
		}{
			{p, func(p *code.Payload) (code.Code, error) { return p.Verify(keys, want.Audience, now, 0) }, code.Live, code.LiveSize},
			{q, func(p *code.Payload) (code.Code, error) { return p.Reference(want.Audience, now, 0) }, code.Slip, code.SlipSize},
		} {
			if len(c.p.Bytes()) != c.size || c.p.Kind() != c.kind {
				t.Fatalf("%d bytes of kind %v", len(c.p.Bytes()), c.p.Kind())
			}
			address := url(t, c.p, "Void.Example.com:8443")
			for _, text := range []string{c.p.Text(), address, "https://void.EXAMPLE.com:8443" + address[strings.Index(address, "/V/"):]} {
				read, err := code.Scan(text, "other.example", "void.example.COM:8443")
				if err != nil {
					t.Fatalf("%s: %v", text, err)
				}
				if got, err := c.open(read); err != nil || got != want {
					t.Fatalf("%+v, %v, want %+v", got, err, want)
				}
				if read.Text() != c.p.Text() {
					t.Errorf("%s became %s", c.p.Text(), read.Text())
				}
			}
		}
	}
}

// TestKindsAreApart: neither kind is taken for the other.
func TestKindsAreApart(t *testing.T) {
	audience := audienceOf(t, merchant)
	if c, err := slip(t, 0).Verify(keysOf(t, newKey(t, 1)), audience, now, 0); err != code.ErrNoAuthority || c != (code.Code{}) {
		t.Errorf("a slip has authority: %v", err)
	}
	if c, err := live(t, 0).Reference(audience, now, 0); err != code.ErrNoReference || c != (code.Code{}) {
		t.Errorf("a live code is a reference: %v", err)
	}
}

// TestNothingIsPrinted: a code belongs in no log.
func TestNothingIsPrinted(t *testing.T) {
	for _, c := range []struct {
		p    *code.Payload
		want string
	}{{live(t, 0), "void code (LIVE)"}, {slip(t, 0), "void code (SLIP)"}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if got := fmt.Sprintf(verb, c.p); got != c.want {
				t.Errorf("%s prints %q", verb, got)
			}
		}
	}
}

// TestBytesAreACopy: nobody changes a code that was read.
func TestBytesAreACopy(t *testing.T) {
	p := live(t, 0)
	before := p.Text()
	p.Bytes()[1] = byte(code.Slip)
	if p.Text() != before || p.Kind() != code.Live {
		t.Error("a code was changed")
	}
}

func TestMakingRefuses(t *testing.T) {
	key := newKey(t, 1)
	for name, c := range map[string]struct {
		change func(c *code.Code)
		want   error
	}{
		"no identifier": {func(c *code.Code) { c.Identifier = code.Identifier{} }, code.ErrIdentifier},
		"no expiry":     {func(c *code.Code) { c.Expiry = time.Time{} }, code.ErrExpiryRange},
		"1970":          {func(c *code.Code) { c.Expiry = time.Unix(0, 999) }, code.ErrExpiryRange},
		"2106":          {func(c *code.Code) { c.Expiry = time.Unix(1<<32, 0) }, code.ErrExpiryRange},
	} {
		made := newCode(t, 0)
		c.change(&made)
		signed := false
		p, err := code.Sign(&key.PublicKey, func(digest []byte) ([]byte, error) { signed = true; return deterministic(key)(digest) }, made)
		if err != c.want || p != nil || signed {
			t.Errorf("%s: %v, signed %v", name, err, signed)
		}
		if p, err := code.NewSlip(made); err != c.want || p != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	last := newCode(t, 0)
	last.Expiry = time.Unix(1<<32-1, 999)
	p, err := code.NewSlip(last)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Reference(last.Audience, time.Unix(1<<32-2, 0), 0); err != nil || !got.Expiry.Equal(time.Unix(1<<32-1, 0)) {
		t.Errorf("%v, %v", got.Expiry, err)
	}
}

func TestAudiences(t *testing.T) {
	seen := map[code.Audience]string{}
	for _, m := range []string{"m-17", "M-17", "m-18", "m-1", "7", strings.Repeat("a", 64), "a.b_c-d"} {
		a := audienceOf(t, m)
		if other, ok := seen[a]; ok {
			t.Errorf("%s and %s are the same", m, other)
		}
		seen[a] = m
	}
	for _, m := range []string{"", "-a", ".a", "a b", "a\x00", "ü", "a/b", strings.Repeat("a", 65)} {
		if a, err := code.AudienceOf(m); err != code.ErrMerchant || a != (code.Audience{}) {
			t.Errorf("%q: %v", m, err)
		}
	}
}

func TestIdentifiersDiffer(t *testing.T) {
	seen := map[code.Identifier]bool{{}: true}
	for range 1000 {
		id := code.NewIdentifier()
		if seen[id] {
			t.Fatalf("%x came twice", id)
		}
		seen[id] = true
	}
}

// TestGeneralAnswer: a stranger learns one thing, whatever happened.
func TestGeneralAnswer(t *testing.T) {
	if code.General(nil) != nil {
		t.Error("no error is refused")
	}
	errs := []error{
		code.ErrLength, code.ErrAlphabet, code.ErrUnusedBits, code.ErrVersion, code.ErrKind, code.ErrSignatureForm, code.ErrIdentifier, code.ErrScheme, code.ErrHost, code.ErrPath,
		code.ErrForeignHost, code.ErrNoAuthority, code.ErrNoReference, code.ErrUnknownKey, code.ErrSignature, code.ErrForeignCode, code.ErrExpired, code.ErrEndsTooLate,
		code.ErrSkewOutOfRange, code.ErrKey, code.ErrSigner, code.ErrExpiryRange, code.ErrMerchant, code.ErrCharacters, code.ErrTooBig, code.ErrScale, code.ErrColours, errors.New("token is gone"),
	}
	texts := map[string]bool{}
	for _, err := range errs {
		if texts[err.Error()] {
			t.Errorf("%q is said of two faults", err)
		}
		texts[err.Error()] = true
		if got := code.General(err); got != code.ErrRefused || errors.Is(got, err) || errors.Unwrap(got) != nil {
			t.Errorf("%v becomes %v", err, got)
		}
	}
}
