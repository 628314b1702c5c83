package pinblock

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestParsePAN(t *testing.T) {
	for length := range 22 {
		s := "1234567890123456789012"[:length]
		p, err := ParsePAN(s)
		if valid := length >= 1 && length <= 19; valid != (err == nil) {
			t.Errorf("%d digits: %v", length, err)
		} else if valid && (p.Digits() != s || p.Len() != length) {
			t.Errorf("%q became %q", s, p.Digits())
		}
	}
	for c := range 256 {
		if c >= '0' && c <= '9' {
			continue
		}
		for at := range 16 {
			s := []byte(testPAN)
			s[at] = byte(c)
			p, err := ParsePAN(string(s))
			if err != ErrPAN || p != (PAN{}) {
				t.Fatalf("byte %#x at %d: %v", c, at, err)
			}
		}
	}
	for _, s := range []string{"４111111111111111", " 411", "+411", "4-11", "4 11"} {
		if _, err := ParsePAN(s); err != ErrPAN {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// TestAccount: the rightmost digits before the check digit, zeros before them.
func TestAccount(t *testing.T) {
	for _, c := range []struct{ pan, account11, account12 string }{
		{"1", "00000000000", "000000000000"},
		{"12", "00000000001", "000000000001"},
		{"12345678901", "01234567890", "001234567890"},
		{"123456789012", "12345678901", "012345678901"},
		{"1234567890123", "23456789012", "123456789012"},
		{"1234567890123456789", "89012345678", "789012345678"},
	} {
		p := mustPAN(t, c.pan)
		for _, want := range []string{c.account11, c.account12} {
			got := make([]byte, len(want))
			p.Account(got)
			for i := range got {
				got[i] += '0'
			}
			if string(got) != want {
				t.Errorf("%s: %s, want %s", c.pan, got, want)
			}
		}
		if field := p.Field(); fmt.Sprintf("%X", field[:]) != "0000"+c.account12 {
			t.Errorf("%s: field %X", c.pan, field)
		}
		for i := -2; i < 22; i++ {
			want := byte(0)
			if i >= 0 && i < len(c.pan) {
				want = c.pan[i] - '0'
			}
			if p.Digit(i) != want {
				t.Errorf("%s: digit %d is %d", c.pan, i, p.Digit(i))
			}
		}
	}
}

// TestPANIsMasked: no way to print a PAN shows more than its last four digits.
func TestPANIsMasked(t *testing.T) {
	for pan, want := range map[string]string{
		"5432101234567890": "************7890", "12345": "*2345", "1234": "****", "1": "*",
	} {
		for _, out := range printed(t, mustPAN(t, pan)) {
			if !strings.Contains(out, want) || strings.Contains(out, pan) {
				t.Errorf("%s: printed as %s", pan, out)
			}
		}
	}
}

// printed returns v in every way that the standard library prints.
func printed(t *testing.T, v any) []string {
	t.Helper()
	var out []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%20v", "% x"} {
		out = append(out, fmt.Sprintf(verb, v))
	}
	j, err := json.Marshal(map[string]any{"v": v})
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, string(j))
	var text, js bytes.Buffer
	options := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{} // its digits are not those of the value
		}
		return a
	}}
	slog.New(slog.NewTextHandler(&text, options)).Info("m", "v", v)
	slog.New(slog.NewJSONHandler(&js, options)).Info("m", "v", v)
	return append(append(out, text.String(), js.String()), called(t, v)...)
}

// called returns what v's own methods give, for callers other than fmt.
func called(t *testing.T, v any) (out []string) {
	t.Helper()
	if s, ok := v.(fmt.Stringer); ok {
		out = append(out, s.String())
	}
	if s, ok := v.(fmt.GoStringer); ok {
		out = append(out, s.GoString())
	}
	if m, ok := v.(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	return out
}
