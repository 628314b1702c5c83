// Package keysetfile reads and writes key sets (which keys a terminal gets) as operators keep them: a YAML
// file, whose manual is the comments of [file] and docs/terminal-integrator.md.
//
// Reading is strict: an unknown field, an anchor, a second document is an error, so that a file
// says what it seems to say. What the fields may hold besides is for keyd to check.
package keysetfile

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	keydv1 "keyd/api/keyd/v1"
)

// MaxFile is the size of the largest file, in bytes.
const MaxFile = 64 << 10

// file is a key set as people write and review it.
type file struct {
	// Name of the key set: 1 to 64 letters, digits and ._-.
	Name string `yaml:"name"`

	// Methods by which terminals get the keys: key-agreement, tr34-two-pass, tr34-one-pass.
	Methods []string `yaml:"methods"`

	// KeyAgreementHost and TR34Host name the key hosts (keyd terminal host set).
	KeyAgreementHost string `yaml:"key_agreement_host,omitempty"`
	TR34Host         string `yaml:"tr34_host,omitempty"`

	// TR34Profile is what these devices need written otherwise; rfc when it is not set.
	TR34Profile string `yaml:"tr34_profile,omitempty"`

	MasterKey   *master   `yaml:"master_key"`
	InitialKeys []initial `yaml:"initial_keys,omitempty"`
	SessionKeys []session `yaml:"session_keys,omitempty"`
}

type master struct {
	Algorithm string `yaml:"algorithm"` // T or A
	Length    uint32 `yaml:"length"`    // bytes
	Bare      bool   `yaml:"bare,omitempty"`
}

type initial struct {
	Name   string `yaml:"name"`            // pin, data
	BDK    string `yaml:"bdk"`             // name of the base derivation key
	Prefix string `yaml:"prefix"`          // hex: T 10 digits, A 8
	First  uint32 `yaml:"first,omitempty"` // numbers that keyd allots
	Last   uint32 `yaml:"last,omitempty"`  // likewise
	Own    bool   `yaml:"own,omitempty"`   // the terminal brings its own number
}

type session struct {
	Name      string `yaml:"name"`      // pin, mac, data
	Usage     string `yaml:"usage"`     // P0, M1, M3, M6, D0
	Algorithm string `yaml:"algorithm"` // T or A
	Length    uint32 `yaml:"length"`    // bytes
	Hours     uint32 `yaml:"hours,omitempty"`
}

// methods are the methods by the names that files have.
var methods = []struct {
	name   string
	method keydv1.InjectionMethod
}{
	{"key-agreement", keydv1.InjectionMethod_KEY_AGREEMENT},
	{"tr34-two-pass", keydv1.InjectionMethod_TR34_TWO_PASS},
	{"tr34-one-pass", keydv1.InjectionMethod_TR34_ONE_PASS},
}

// Methods returns the names of the methods.
func Methods() (names []string) {
	for _, m := range methods {
		names = append(names, m.name)
	}
	return names
}

// Method returns the method of a name.
func Method(name string) (keydv1.InjectionMethod, error) {
	for _, m := range methods {
		if m.name == name {
			return m.method, nil
		}
	}
	return 0, fmt.Errorf("%q is no method of injection: it is one of %s", name, strings.Join(Methods(), ", "))
}

// MethodName returns the name of a method.
func MethodName(method keydv1.InjectionMethod) string {
	for _, m := range methods {
		if m.method == method {
			return m.name
		}
	}
	return strings.ToLower(method.String())
}

// Read reads a key set from a file.
func Read(path string) (*keydv1.KeySet, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	set, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return set, nil
}

// Parse reads a key set from a text. There is none with an error, which says what is wrong.
func Parse(text []byte) (_ *keydv1.KeySet, err error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("the file has more than %d bytes", MaxFile)
	}
	// The library is not trusted to survive every input.
	defer func() {
		if recover() != nil {
			err = errors.New("the file is not YAML that can be read; compare it with the example in docs/terminal-integrator.md")
		}
	}()
	documents, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, errors.New(strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	switch {
	case strings.Contains(strings.ReplaceAll(string(text), "\r\n", "\n"), "\r"): // a line for the parser, none on a screen
		return nil, errors.New("the file has a carriage return within a line")
	case slices.ContainsFunc(lexer.Tokenize(string(text)), elsewhere):
		return nil, errors.New("anchors, aliases and merge keys say elsewhere what is to be read here: write it out")
	case len(documents.Docs) > 1:
		return nil, errors.New("the file holds more than one document: one key set, one file")
	}
	var f file
	if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
		return nil, errors.New(strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	return f.message()
}

func elsewhere(t *token.Token) bool {
	return t.Type == token.AnchorType || t.Type == token.AliasType || t.Type == token.MergeKeyType
}

func (f *file) message() (*keydv1.KeySet, error) {
	if f.Name == "" || f.MasterKey == nil || len(f.Methods) == 0 {
		return nil, errors.New("a key set has a name, methods and a master_key")
	}
	set := &keydv1.KeySet{
		Name: f.Name, KeyAgreementHost: f.KeyAgreementHost, Tr34Host: f.TR34Host, Tr34Profile: f.TR34Profile,
		MasterKey: &keydv1.KeySet_MasterKey{Algorithm: f.MasterKey.Algorithm, Length: f.MasterKey.Length, Bare: f.MasterKey.Bare},
	}
	for _, name := range f.Methods {
		m, err := Method(name)
		if err != nil {
			return nil, err
		}
		set.Methods = append(set.Methods, m)
	}
	for _, k := range f.InitialKeys {
		prefix, err := hex.DecodeString(k.Prefix)
		if err != nil {
			return nil, fmt.Errorf("initial key %q: prefix %q is not hex: TDES 10 digits, AES 8, in quotes", k.Name, k.Prefix)
		}
		set.InitialKeys = append(set.InitialKeys, &keydv1.KeySet_InitialKey{Name: k.Name, KeyId: k.BDK, Prefix: prefix, First: k.First, Last: k.Last, Own: k.Own})
	}
	for _, k := range f.SessionKeys {
		set.SessionKeys = append(set.SessionKeys, &keydv1.KeySet_SessionKeySpec{Name: k.Name, Usage: k.Usage, Algorithm: k.Algorithm, Length: k.Length, Hours: k.Hours})
	}
	return set, nil
}

// Write writes a key set as a file that [Parse] reads as the same.
func Write(set *keydv1.KeySet) ([]byte, error) {
	f := &file{Name: set.Name, KeyAgreementHost: set.KeyAgreementHost, TR34Host: set.Tr34Host, TR34Profile: set.Tr34Profile}
	if m := set.MasterKey; m != nil {
		f.MasterKey = &master{m.Algorithm, m.Length, m.Bare}
	}
	for _, m := range set.Methods {
		f.Methods = append(f.Methods, MethodName(m))
	}
	for _, k := range set.InitialKeys {
		f.InitialKeys = append(f.InitialKeys, initial{k.Name, k.KeyId, strings.ToUpper(hex.EncodeToString(k.Prefix)), k.First, k.Last, k.Own})
	}
	for _, k := range set.SessionKeys {
		f.SessionKeys = append(f.SessionKeys, session{k.Name, k.Usage, k.Algorithm, k.Length, k.Hours})
	}
	return yaml.Marshal(f)
}
