package receipt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"keyd/ceremony"
)

func example() *Record {
	digest := strings.Repeat("0f", 32)
	return &Record{
		Injection: "000102030405060708090a0b0c0d0e0f", Terminal: "t-1", Device: strings.Repeat("ab", 32), Method: ByAgreement, Host: "host", At: 1_800_000_000,
		Keys: []Key{
			{Name: MasterName, Usage: "K1", Algorithm: "A", Length: 16, CheckValue: "0A1B2C", Header: digest},
			{Name: ReceiptName, Usage: "M6", Algorithm: "A", Length: 16, CheckValue: "D00DAD", Header: digest},
			{Name: "pin", Usage: "B1", Algorithm: "T", Length: 16, BDK: "zone/bdk", BDKVersion: 2, ID: "FFFF9876543210E00000", CheckValue: "123456"},
		},
	}
}

func answer() *Receipt {
	return &Receipt{CheckValues: example().CheckValues(), MAC: []byte("sixteen bytes: 1")}
}

// must is for what cannot fail here: must(f())(t).
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// What the terminal's MAC is over, to the byte: firmware has it like this.
func TestText(t *testing.T) {
	r := example()
	id := [IDSize]byte(must(hex.DecodeString(r.Injection))(t))
	text := must(Text(id, r.CheckValues()))(t)
	const want = "6b6579642072656365697074203100" + "000102030405060708090a0b0c0d0e0f" + "03" + "0a1b2c" + "d00dad" + "123456"
	if hex.EncodeToString(text) != want {
		t.Errorf("%x", text)
	}
	for name, values := range map[string][]string{
		"none": nil, "nine": slices.Repeat([]string{"000000"}, MaxKeys+1), "lower case": {"abcdef"}, "no hex": {"00000G"}, "short": {"00000"}, "long": {"0000000"}, "empty": {""},
	} {
		if text, err := Text(id, values); !errors.Is(err, ErrReceipt) || text != nil {
			t.Errorf("%s: %x, %v", name, text, err)
		}
	}
}

func TestRecordsAreReadBack(t *testing.T) {
	r := example()
	encoded := must(r.Encode())(t)
	back := must(ParseRecord(encoded))(t)
	if again := must(back.Encode())(t); !bytes.Equal(again, encoded) || back.Keys[2] != r.Keys[2] {
		t.Errorf("%s", again)
	}
	record, code, err := Split(append(bytes.Clone(encoded), "sixteen bytes: 1"...))
	if err != nil || !bytes.Equal(record, encoded) || string(code) != "sixteen bytes: 1" {
		t.Errorf("%s, %s, %v", record, code, err)
	}
	for _, b := range [][]byte{nil, make([]byte, CodeSize), make([]byte, MaxRecord+CodeSize+1)} {
		if record, code, err := Split(b); !errors.Is(err, ErrRecord) || record != nil || code != nil {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

func TestRecordsThatAreNone(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"an identifier in upper case": func(r *Record) { r.Injection = strings.ToUpper(r.Injection) },
		"a short identifier":          func(r *Record) { r.Injection = r.Injection[2:] },
		"a device that is none":       func(r *Record) { r.Device = strings.Repeat("zz", 32) },
		"a short device":              func(r *Record) { r.Device = r.Device[2:] },
		"no terminal":                 func(r *Record) { r.Terminal = "" },
		"a terminal of 65 letters":    func(r *Record) { r.Terminal = strings.Repeat("t", 65) },
		"no host":                     func(r *Record) { r.Host = "" },
		"no time":                     func(r *Record) { r.At = 0 },
		"no method":                   func(r *Record) { r.Method = "" },
		"an unknown method":           func(r *Record) { r.Method = "by hand" },
		"one key":                     func(r *Record) { r.Keys = r.Keys[:1] },
		"nine keys":                   func(r *Record) { r.Keys = append(r.Keys, slices.Repeat(r.Keys[2:], 6)...) },
		"no master key":               func(r *Record) { r.Keys[0].Name = "main" },
		"no receipt key":              func(r *Record) { r.Keys[1].Name = "other" },
		"a key without a name":        func(r *Record) { r.Keys[2].Name = "" },
		"no usage":                    func(r *Record) { r.Keys[2].Usage = "B" },
		"no algorithm":                func(r *Record) { r.Keys[2].Algorithm = "" },
		"no length":                   func(r *Record) { r.Keys[2].Length = 0 },
		"no base derivation key":      func(r *Record) { r.Keys[2].BDK = "" },
		"no version":                  func(r *Record) { r.Keys[2].BDKVersion = 0 },
		"no initial key ID":           func(r *Record) { r.Keys[2].ID = "" },
		"a header of an initial key":  func(r *Record) { r.Keys[2].Header = r.Keys[1].Header },
		"a master key of a BDK":       func(r *Record) { r.Keys[0].BDK = "bdk" },
		"a master key without header": func(r *Record) { r.Keys[0].Header = "" },
		"a check value in lower case": func(r *Record) { r.Keys[0].CheckValue = "abcdef" },
	} {
		r := example()
		change(r)
		if b, err := r.Encode(); !errors.Is(err, ErrRecord) || b != nil {
			t.Errorf("%s: encoded, %v", name, err)
		}
		if back, err := ParseRecord(must(ceremony.Encode(r))(t)); !errors.Is(err, ErrRecord) || back != nil {
			t.Errorf("%s: %v, %v", name, back, err)
		}
	}
	good := must(example().Encode())(t)
	for name, b := range map[string][]byte{
		"nothing": nil, "a space behind": append(bytes.Clone(good), ' '), "two": append(bytes.Clone(good), good...), "cut": good[:len(good)-1],
		"a field more": bytes.Replace(good, []byte(`{"injection"`), []byte(`{"x":1,"injection"`), 1), "too long": append(bytes.Clone(good), make([]byte, MaxRecord)...),
	} {
		if back, err := ParseRecord(b); !errors.Is(err, ErrRecord) || back != nil {
			t.Errorf("%s: %v, %v", name, back, err)
		}
	}
}

func TestReceiptsAreReadBack(t *testing.T) {
	r := answer()
	encoded := must(r.Encode())(t)
	back := must(Parse(encoded))(t)
	if !bytes.Equal(back.MAC, r.MAC) || !slices.Equal(back.CheckValues, r.CheckValues) {
		t.Errorf("%+v", back)
	}
	for name, change := range map[string]func(*Receipt){
		"no MAC": func(r *Receipt) { r.MAC = nil }, "a MAC of 4 bytes": func(r *Receipt) { r.MAC = r.MAC[:4] }, "a MAC of 17 bytes": func(r *Receipt) { r.MAC = append(r.MAC, 0) },
		"no check values": func(r *Receipt) { r.CheckValues = nil }, "nine check values": func(r *Receipt) { r.CheckValues = slices.Repeat(r.CheckValues, 3) },
	} {
		r := answer()
		change(r)
		if b, err := r.Encode(); !errors.Is(err, ErrReceipt) || b != nil {
			t.Errorf("%s: encoded, %v", name, err)
		}
		if back, err := Parse(must(ceremony.Encode(r))(t)); !errors.Is(err, ErrReceipt) || back != nil {
			t.Errorf("%s: %v, %v", name, back, err)
		}
	}
}
