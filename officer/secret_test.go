package officer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"
)

func TestSecretPrintsAsNothing(t *testing.T) {
	s, err := NewSecret(8)
	must(t, err)
	defer s.Destroy()
	copy(s.Bytes(), "hush1234")
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p"} {
		fmt.Fprintf(&out, verb+verb+verb+verb, s, *s, struct{ S *Secret }{s}, []Secret{*s})
	}
	fmt.Fprint(&out, s.String(), s.GoString(), errors.New(s.String()))
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "s", s, "v", *s)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "s", s, "v", *s, slog.Any("g", map[string]any{"s": s}))
	text, err := json.Marshal(map[string]any{"p": s, "v": *s})
	must(t, err)
	out.Write(text)
	for _, leak := range []string{"hush", "68757368", "68 75", "104 117", "aHVzaA"} {
		if strings.Contains(strings.ToLower(out.String()), strings.ToLower(leak)) {
			t.Errorf("%q is in %s", leak, out.String())
		}
	}
	if got := string(text); got != `{"p":"[redacted]","v":"[redacted]"}` {
		t.Errorf("%s", got)
	}
}

func TestSecretIsDestroyed(t *testing.T) {
	s, err := Random(16)
	must(t, err)
	same := *s
	if len(s.Bytes()) != 16 || cap(s.Bytes()) != 16 || bytes.Equal(s.Bytes(), make([]byte, 16)) {
		t.Errorf("%d random bytes: %X", len(s.Bytes()), s.Bytes())
	}
	s.Destroy()
	s.Destroy()
	if s.Bytes() != nil || same.Bytes() != nil {
		t.Error("there is still something")
	}
	if _, err := Groups(s); err == nil {
		t.Error("a destroyed secret was shown")
	}
	var none *Secret
	none.Destroy()
	if none.Bytes() != nil || fmt.Sprint(none) == "" {
		t.Error("nil is something")
	}
	for _, bytes := range []int{-1, 0, 1025} {
		if _, err := NewSecret(bytes); err == nil {
			t.Errorf("a secret of %d bytes", bytes)
		}
	}
}

func TestGroups(t *testing.T) {
	s, err := NewSecret(20)
	must(t, err)
	defer s.Destroy()
	for i := range s.Bytes() {
		s.Bytes()[i] = byte(i*13 + 0xA0)
	}
	text, err := Groups(s)
	must(t, err)
	defer text.Destroy()
	want := fmt.Sprintf("A0AD BAC7 D4E1 EEFB  %02X\n0815 222F 3C49 5663  %02X\n707D 8A97  %02X\n",
		lineCheck(1, s.Bytes()[:8]), lineCheck(2, s.Bytes()[8:16]), lineCheck(3, s.Bytes()[16:]))
	if string(text.Bytes()) != want {
		t.Errorf("%q, want %q", text.Bytes(), want)
	}
	for size := 1; size <= 66; size++ {
		s, err := Random(size)
		must(t, err)
		text, err := Groups(s)
		must(t, err)
		if got := text.Bytes(); got[len(got)-1] != '\n' || bytes.IndexByte(got, 0) >= 0 {
			t.Errorf("%d bytes: %q", size, got)
		}
		text.Destroy()
		s.Destroy()
	}
}

// The check notices what people do wrong with certainty, and is the well-known CRC-8 but
// for where it begins.
func TestLineCheck(t *testing.T) {
	if got := lineCheck(0, []byte("123456789")); got != 0xF4 {
		t.Errorf("the CRC-8 of 123456789 is %02X, want F4", got)
	}
	line := []byte{0x1F, 0x2A, 0x77, 0xB0, 0x00, 0x42, 0x99, 0xC3}
	digit := func(line []byte, i int) byte { return line[i/2] >> (4 * (1 - i%2)) & 15 }
	set := func(line []byte, i int, v byte) {
		line[i/2] = line[i/2]&(0xF0>>(4*(1-i%2))) | v<<(4*(1-i%2))
	}
	check := lineCheck(1, line)
	if check == lineCheck(2, line) {
		t.Error("the number of the line does not count")
	}
	for i := range 16 {
		for v := range byte(16) {
			other := bytes.Clone(line)
			set(other, i, v)
			if v != digit(line, i) && lineCheck(1, other) == check {
				t.Errorf("digit %d as %X is not noticed", i, v)
			}
		}
		for j := range i {
			other := bytes.Clone(line)
			set(other, i, digit(line, j))
			set(other, j, digit(line, i))
			if j == i-1 && !bytes.Equal(other, line) && lineCheck(1, other) == check {
				t.Errorf("digits %d and %d swapped are not noticed", j, i)
			}
		}
	}
}

func TestHexDigits(t *testing.T) {
	for i := range byte(16) {
		if got := string(digit(i)); got != fmt.Sprintf("%X", i) {
			t.Errorf("%d is %s", i, got)
		}
	}
	for c := range 256 {
		v, ok := nibble(byte(c))
		if ok != strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) || ok && !strings.EqualFold(string(digit(v)), string(rune(c))) {
			t.Errorf("%q is %d, %v", rune(c), v, ok)
		}
	}
}

func TestReadSecretFrom(t *testing.T) {
	for _, text := range []string{digits32, digits32 + "\n", " 0123 4567\t89ab cdef\r\nFEDC BA98 7654 3210 \n", strings.Repeat(" ", 4096) + digits32} {
		for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text)), iotest.DataErrReader(strings.NewReader(text))} {
			s, err := ReadSecretFrom(r, 16)
			wantSecret(t, s, err, digits32)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "short": digits32[1:], "long": digits32 + "0", "longer": strings.Repeat(digits32, 100), "a letter": digits32[1:] + "g",
		"0x": "0x" + digits32, "binary": "\x00" + digits32, "colons": strings.Repeat("01:", 16), "white space": strings.Repeat(" ", 4097) + digits32,
	} {
		s, err := ReadSecretFrom(strings.NewReader(text), 16)
		if err == nil || s != nil {
			t.Errorf("%s: taken", name)
			continue
		}
		if strings.Contains(err.Error(), "0123") {
			t.Errorf("%s: the error tells it: %v", name, err)
		}
	}
	if _, err := ReadSecretFrom(iotest.ErrReader(io.ErrClosedPipe), 16); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	if _, err := ReadSecretFrom(strings.NewReader(""), 0); err == nil {
		t.Error("a component of no bytes")
	}
}

func FuzzReadSecretFrom(f *testing.F) {
	f.Add([]byte(digits32), 16)
	f.Add([]byte("01 23\n"), 2)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		s, err := ReadSecretFrom(bytes.NewReader(text), size)
		if err != nil {
			if s != nil {
				t.Error("a secret and an error")
			}
			return
		}
		defer s.Destroy()
		plain := strings.ToLower(strings.Join(strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(" \t\r\n", r) }), ""))
		if len(s.Bytes()) != size || fmt.Sprintf("%x", s.Bytes()) != plain {
			t.Errorf("%q is %X", text, s.Bytes())
		}
	})
}

func TestPassphraseFrom(t *testing.T) {
	for text, want := range map[string]string{
		"one": "one", "one\n": "one", "one\r\n": "one", " one two \n": " one two ", "hörse\n": "hörse", strings.Repeat("x", 512) + "\r\n": strings.Repeat("x", 512),
	} {
		if got, err := PassphraseFrom(iotest.OneByteReader(strings.NewReader(text))); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "\n", "\r\n", "one\ntwo", "one\n\n", "a\x00b", "\xff\n", strings.Repeat("x", 513), strings.Repeat("x", 513) + "\n", strings.Repeat("x", 9000)} {
		if got, err := PassphraseFrom(strings.NewReader(text)); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
	if _, err := PassphraseFrom(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}
