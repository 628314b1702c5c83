package keysetfile

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
)

const example = `# Counter terminals.
name: counter
methods: [key-agreement, tr34-two-pass]
key_agreement_host: kdh-ec
tr34_host: kdh-rsa
master_key: {algorithm: A, length: 16}
initial_keys:
  - {name: pin, bdk: bdk-aes, prefix: "12345678", first: 1, last: 100000}
  - {name: data, bdk: bdk-tdes, prefix: "FFFF987654", own: true}
session_keys:
  - {name: mac, usage: M6, algorithm: A, length: 16, hours: 8}
`

func TestParse(t *testing.T) {
	got, err := Parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	want := &keydv1.KeySet{
		Name: "counter", Methods: []keydv1.InjectionMethod{keydv1.InjectionMethod_KEY_AGREEMENT, keydv1.InjectionMethod_TR34_TWO_PASS},
		KeyAgreementHost: "kdh-ec", Tr34Host: "kdh-rsa", MasterKey: &keydv1.KeySet_MasterKey{Algorithm: "A", Length: 16},
		InitialKeys: []*keydv1.KeySet_InitialKey{
			{Name: "pin", KeyId: "bdk-aes", Prefix: []byte{0x12, 0x34, 0x56, 0x78}, First: 1, Last: 100000},
			{Name: "data", KeyId: "bdk-tdes", Prefix: []byte{0xFF, 0xFF, 0x98, 0x76, 0x54}, Own: true},
		},
		SessionKeys: []*keydv1.KeySet_SessionKeySpec{{Name: "mac", Usage: "M6", Algorithm: "A", Length: 16, Hours: 8}},
	}
	if !proto.Equal(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	text, err := Write(got)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Parse(text); err != nil || !proto.Equal(again, want) {
		t.Errorf("%v, %v from\n%s", again, err, text)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":            "",
		"an unknown field":   example + "x: 1\n",
		"a field twice":      example + "name: other\n",
		"an unknown method":  strings.Replace(example, "key-agreement,", "telephone,", 1),
		"no method":          strings.Replace(example, "[key-agreement, tr34-two-pass]", "[]", 1),
		"no master key":      strings.Replace(example, "master_key:", "#", 1),
		"a prefix of no hex": strings.Replace(example, "12345678", "1234567x", 1),
		"an anchor":          strings.Replace(example, "name: counter", "name: &a counter", 1),
		"two documents":      example + "---\n" + example,
		"a number too large": strings.Replace(example, "last: 100000", "last: 99999999999", 1),
		"a list":             "- 1\n",
		"too much":           example + "#" + strings.Repeat("x", MaxFile),
	} {
		if set, err := Parse([]byte(text)); err == nil || set != nil {
			t.Errorf("%s: %v, %v", name, set, err)
		}
	}
}

// FuzzParse asserts: no panic, nothing with an error, and what is read can be written and read.
func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		set, err := Parse(text)
		if !bytes.Equal(before, text) {
			t.Fatal("the text was changed")
		}
		if err != nil && set != nil {
			t.Fatal("a key set with an error")
		}
		if err != nil {
			return
		}
		if _, err := Write(set); err != nil {
			t.Fatal(err)
		}
	})
}
