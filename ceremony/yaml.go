package ceremony

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"keyd/hsm"
	"keyd/keyblock"
)

// file is a definition as people write and review it. Its comments are the manual.
type file struct {
	// Kind says what is done: init, load, create, import, export, stop, start, delete,
	// restore, change, masters, retire, attach, adopt, join, trust, distrust.
	Kind string `yaml:"kind"`

	// Reason is for the record: why, or a ticket's number.
	Reason string `yaml:"reason"`

	// ValidFor is how long the ceremony may take, 1m to 720h; 24h when it is not set.
	ValidFor span `yaml:"valid_for"`

	// Approvals asks for more approvals than the roster does.
	Approvals int `yaml:"approvals"`

	// Key describes the key that comes to be.
	Key *keyFile `yaml:"key"`

	// Components is how many officers enter one component each.
	Components int `yaml:"components"`

	// CheckValue is what the key must have, from the sender's letter.
	CheckValue string `yaml:"check_value"`

	// Overlap is how long the version before is still used, 0 when it is not set.
	Overlap span `yaml:"overlap"`

	// Block is the key block to import, BlockFile a file with it.
	Block     string `yaml:"block"`
	BlockFile string `yaml:"block_file"`

	// Under is the key block protection key, NAME or NAME?version=N.
	Under keyRef `yaml:"under"`

	// Target is the key that is exported, stopped, started, deleted or restored.
	Target keyRef `yaml:"target"`

	// Export says how the block is written.
	Export *exportFile `yaml:"export"`

	// Wait is how long a deletion can be called off, 72h to 4320h; 168h when it is not set.
	Wait span `yaml:"wait"`

	// AllowWeaker lets Under be weaker than the key. It takes two officers.
	AllowWeaker bool `yaml:"allow_weaker"`

	// Object is the label of the secret key in the token that is attached.
	Object string `yaml:"object"`

	// Officers and Quorum are the roster.
	Officers []officerFile `yaml:"officers"`
	Quorum   *quorumFile   `yaml:"quorum"`

	// Register is the digest of the register that is taken over, as keyd officer roster shows it.
	Register string `yaml:"register"`

	// Stopped are versions of keys, NAME?version=N each, that were stopped or deleted since the
	// register that is taken over was written: none of them is used from the takeover on.
	Stopped []versionRef `yaml:"stopped"`

	// Authority is the certificate of an authority that is to be believed.
	Authority *authorityFile `yaml:"authority"`

	// Distrusted are fingerprints of authorities that are not believed any more, as keyd
	// authority list shows them.
	Distrusted []string `yaml:"distrusted"`

	// Masters says who holds a share of the master keys.
	Masters *mastersFile `yaml:"masters"`
}

type authorityFile struct {
	Certificate string   `yaml:"certificate"` // file with the certificate in PEM, beside this file or below
	Uses        []string `yaml:"uses"`        // terminals, hosts, approvers
}

type keyFile struct {
	Name          string      `yaml:"name"`
	Version       uint32      `yaml:"version"` // 1 when it is not set
	Usage         string      `yaml:"usage"`
	Algorithm     string      `yaml:"algorithm"`
	Length        uint16      `yaml:"length"`
	Mode          string      `yaml:"mode_of_use"`
	Exportability string      `yaml:"exportability"` // N when it is not set
	NotBefore     *time.Time  `yaml:"not_before"`
	NotAfter      *time.Time  `yaml:"not_after"`
	Direction     string      `yaml:"direction"` // of B0: incoming when it is not set
	Peers         []string    `yaml:"peers"`
	Formats       []isoFormat `yaml:"formats"`
	DataModes     []string    `yaml:"data_modes"`
	MACLength     uint8       `yaml:"mac_length"`
	KSN           string      `yaml:"ksn"` // of B0: monotonic when it is not set; off
	IBM3624       *struct {
		Table  string `yaml:"decimalization_table"`
		Start  uint8  `yaml:"validation_start"`
		Length uint8  `yaml:"validation_length"`
		Pad    string `yaml:"validation_pad"`
	} `yaml:"ibm3624"`
	AllowChange bool `yaml:"allow_change"`

	// InjectionHosts are key pairs (S0) whose host may send initial keys of a B0 key to terminals
	// over the network.
	InjectionHosts []string `yaml:"injection_hosts"`

	// PINKind of a B0 or P0 key is record where it carries PINs of PIN records, and no others.
	PINKind string `yaml:"pin_kind"`
}

type exportFile struct {
	Version       string `yaml:"version"`
	Exportability string `yaml:"exportability"` // N when it is not set
	KeyVersion    string `yaml:"key_version"`
	Mode          string `yaml:"mode_of_use"`
	KSN           string `yaml:"initial_key_id"`
	Label         string `yaml:"label"`
	Time          bool   `yaml:"time"`
	CheckValues   bool   `yaml:"check_values"`
	Blocks        []struct {
		ID   string `yaml:"id"`
		Data string `yaml:"data"`
	} `yaml:"blocks"`
}

type officerFile struct {
	Name     string `yaml:"name"`
	Identity string `yaml:"identity"`
	Key      string `yaml:"key"` // file with the public key in PEM, beside this file or below
}

type quorumFile struct {
	Components int  `yaml:"components"`
	Approvals  int  `yaml:"approvals"`
	Roster     int  `yaml:"roster"`
	VersionC   bool `yaml:"version_c"` // write key blocks of version C
	Usages     []struct {
		Usages     []string `yaml:"usages"`
		Components int      `yaml:"components"`
		Approvals  int      `yaml:"approvals"`
	} `yaml:"usages"`
}

type mastersFile struct {
	Holders  []string `yaml:"holders"`
	Previous []string `yaml:"previous"`

	// Generation is that of the shares; 1 when it is not set.
	Generation uint32 `yaml:"generation"`
}

// Read reads a definition from a YAML file, in which an unknown field is an error, and
// checks it. Files that it names lie in its
// directory, or below.
func Read(path string) (*Definition, error) {
	b, err := readSome(path, MaxDocument)
	if err != nil {
		return nil, fmt.Errorf("definition: %w", err)
	}
	d, err := Parse(b, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// Parse is [Read] of a text; dir is where the files are that it names.
func Parse(text []byte, dir string) (*Definition, error) {
	f := file{ValidFor: span(24 * time.Hour)}
	if len(text) > MaxDocument {
		return nil, wrong("the file has more than %d bytes", MaxDocument)
	}
	documents, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, wrong("%s", strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if strings.Contains(strings.ReplaceAll(string(text), "\r\n", "\n"), "\r") { // a line for the parser, none on a screen
		return nil, wrong("the file has a carriage return within a line")
	}
	if slices.ContainsFunc(lexer.Tokenize(string(text)), elsewhere) {
		return nil, wrong("anchors, aliases and merge keys say elsewhere what is to be read here: write it out")
	}
	if len(documents.Docs) > 1 { // of which only the first would be read
		return nil, wrong("the file holds more than one document: one ceremony, one file")
	}
	if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
		return nil, wrong("%s", strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	d, err := f.definition(dir)
	if err != nil {
		return nil, err
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	return d, nil
}

// elsewhere reports whether a token makes a file mean something else than it shows.
func elsewhere(t *token.Token) bool {
	return t.Type == token.AnchorType || t.Type == token.AliasType || t.Type == token.MergeKeyType
}

func (f *file) definition(dir string) (*Definition, error) {
	d := &Definition{
		Kind: Kind(f.Kind), Components: f.Components, CheckValue: strings.ToUpper(f.CheckValue), Overlap: f.Overlap.seconds(),
		Block: strings.TrimSpace(f.Block), Under: f.Under.ref(), Target: f.Target.ref(), Wait: f.Wait.seconds(), Object: f.Object, AllowWeaker: f.AllowWeaker, Register: NormalFingerprint(f.Register),
		Approvals: f.Approvals, ValidFor: f.ValidFor.seconds(), Reason: f.Reason,
	}
	for _, s := range f.Stopped {
		d.Stopped = append(d.Stopped, KeyRef(s))
	}
	if d.Kind == Delete && d.Wait == 0 {
		d.Wait = 7 * 24 * 3600
	}
	if f.BlockFile != "" {
		if d.Block != "" {
			return nil, wrong("block and block_file are two ways to say the same")
		}
		b, err := readBeside(dir, f.BlockFile, MaxBlock+2)
		if err != nil {
			return nil, wrong("block_file: %v", err)
		}
		d.Block = strings.TrimSpace(string(b))
	}
	if d.Block != "" { // whatever file it comes from: nothing else is sent on
		if _, err := keyblock.Parse([]byte(d.Block)); err != nil {
			return nil, wrong("block: %v", err)
		}
	}
	if f.Key != nil {
		d.Key = f.Key.spec()
	}
	if x := f.Export; x != nil {
		d.Export = &BlockForm{Version: x.Version, Exportability: orElse(x.Exportability, "N"), KeyVersion: x.KeyVersion, Mode: x.Mode,
			KSN: strings.ToUpper(x.KSN), Label: x.Label, Time: x.Time, CheckValues: x.CheckValues}
		for _, o := range x.Blocks {
			d.Export.Blocks = append(d.Export.Blocks, Optional(o))
		}
	}
	for _, fingerprint := range f.Distrusted {
		d.Distrusted = append(d.Distrusted, NormalFingerprint(fingerprint))
	}
	if a := f.Authority; a != nil {
		text, err := readBeside(dir, a.Certificate, MaxDocument)
		if err != nil {
			return nil, wrong("authority.certificate: %v", err)
		}
		if d.Authority, err = ParseAuthority(text, a.Uses); err != nil {
			return nil, err
		}
	}
	if f.Masters != nil {
		d.MasterKeys = &MasterSpec{Holders: f.Masters.Holders, Previous: f.Masters.Previous, Generation: f.Masters.Generation}
	}
	if f.Officers == nil && f.Quorum == nil {
		return d, nil
	}
	if f.Officers == nil || f.Quorum == nil {
		return nil, wrong("a roster has officers and quorum")
	}
	var err error
	d.Roster, err = f.roster(dir)
	return d, err
}

func (f *file) roster(dir string) (*Roster, error) {
	q := f.Quorum
	r := &Roster{Quorum: Quorum{Components: q.Components, Approvals: q.Approvals, Roster: q.Roster, VersionC: q.VersionC}}
	for _, u := range q.Usages {
		r.Quorum.Usages = append(r.Quorum.Usages, Rule(u))
	}
	for _, o := range f.Officers {
		b, err := readBeside(dir, o.Key, MaxDocument)
		if err != nil {
			return nil, wrong("officer %s: key: %v", o.Name, err)
		}
		block, rest := pem.Decode(b)
		if block == nil || block.Type != "PUBLIC KEY" || len(strings.TrimSpace(string(rest))) > 0 {
			return nil, wrong("officer %s: %s holds no public key in PEM (keyd officer key --new makes one)", o.Name, o.Key)
		}
		r.Officers = append(r.Officers, Officer{Name: o.Name, Identity: o.Identity, Key: block.Bytes})
	}
	slices.SortFunc(r.Officers, func(a, b Officer) int { return strings.Compare(a.Name, b.Name) })
	return r, nil
}

func (k *keyFile) spec() *KeySpec {
	s := &KeySpec{
		Name: k.Name, Version: max(k.Version, 1), Usage: k.Usage, Algorithm: k.Algorithm, Length: k.Length, Mode: k.Mode,
		Exportability: orElse(k.Exportability, "N"), NotBefore: unix(k.NotBefore), NotAfter: unix(k.NotAfter),
		Direction: k.Direction, Peers: k.Peers, DataModes: k.DataModes, MACLength: k.MACLength, KSNCheck: k.KSN, AllowChange: k.AllowChange, InjectionHosts: k.InjectionHosts, PINKind: k.PINKind,
	}
	for _, f := range k.Formats {
		s.Formats = append(s.Formats, hsm.Format(f))
	}
	if k.Usage == "B0" {
		s.Direction = orElse(k.Direction, hsm.DirectionIncoming)
		s.KSNCheck = orElse(k.KSN, hsm.KSNMonotonic)
	}
	if s.KSNCheck == "off" {
		s.KSNCheck = ""
	}
	if r := k.IBM3624; r != nil {
		s.IBM3624 = &hsm.IBM3624Rule{DecimalizationTable: r.Table, Start: r.Start, Length: r.Length, Pad: strings.ToUpper(r.Pad)}
	}
	return s
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func unix(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}

// readBeside reads a file that a definition names, which lies in the definition's directory
// or below: the file may be somebody else's, and is sent on.
func readBeside(dir, path string, most int64) ([]byte, error) {
	f, err := os.OpenInRoot(dir, path)
	if err != nil {
		return nil, fmt.Errorf("%w (it lies beside the definition or below)", err)
	}
	return readFile(f, most)
}

func readSome(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return readFile(f, most)
}

func readFile(f *os.File, most int64) (b []byte, err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", f.Name())
	}
	if b, err = io.ReadAll(io.LimitReader(f, most+1)); err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", f.Name(), most)
	}
	return b, nil
}

// span is a duration as Go writes it, "24h".
type span time.Duration

// UnmarshalYAML parses a duration.
func (s *span) UnmarshalYAML(b []byte) error {
	var text string
	if err := yaml.Unmarshal(b, &text); err != nil {
		return err
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d%time.Second != 0 {
		return fmt.Errorf("%q is no duration in seconds, minutes and hours, such as 24h or 90m", text)
	}
	*s = span(d)
	return nil
}

func (s span) seconds() int64 { return int64(time.Duration(s) / time.Second) }

// keyRef is a key and its version, "NAME?version=2"; the version is 1 when it is not set.
type keyRef struct{ r *KeyRef }

// UnmarshalYAML parses a key and its version.
func (k *keyRef) UnmarshalYAML(b []byte) error {
	var text string
	if err := yaml.Unmarshal(b, &text); err != nil {
		return err
	}
	r, err := ParseKeyRef(text)
	k.r = r
	return err
}

func (k keyRef) ref() *KeyRef { return k.r }

// versionRef is one of several versions of keys, always with its version: a list says exactly
// what it is about.
type versionRef KeyRef

// UnmarshalYAML parses a key and its version.
func (v *versionRef) UnmarshalYAML(b []byte) error {
	var text string
	if err := yaml.Unmarshal(b, &text); err != nil {
		return err
	}
	r, err := ParseKeyRef(text)
	switch {
	case err != nil:
		return err
	case !strings.Contains(text, "?"):
		return fmt.Errorf("%q: each is written with its version, NAME?version=2", text)
	}
	*v = versionRef(*r)
	return nil
}

// ParseKeyRef reads NAME or NAME?version=N. Without a version it is 1.
func ParseKeyRef(text string) (*KeyRef, error) {
	name, rest, found := strings.Cut(text, "?")
	r := &KeyRef{Name: name, Version: 1}
	if found {
		number, ok := strings.CutPrefix(rest, "version=")
		n, err := strconv.ParseUint(number, 10, 32)
		if !ok || err != nil || n == 0 {
			return nil, fmt.Errorf("%q: a version is written NAME?version=2", text)
		}
		r.Version = uint32(n)
	}
	if !validKeyName(name) {
		return nil, fmt.Errorf("%q is no name of a key", text)
	}
	return r, nil
}

// String returns NAME?version=N, or nothing for nil.
func (r *KeyRef) String() string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%s?version=%d", r.Name, r.Version)
}

// isoFormat is a PIN-block format: ISO_FORMAT_0, ISO-0 or 0.
type isoFormat hsm.Format

// UnmarshalYAML parses a format.
func (f *isoFormat) UnmarshalYAML(b []byte) error {
	text := strings.Trim(strings.TrimSpace(string(b)), `"'`)
	text = strings.TrimPrefix(strings.TrimPrefix(text, "ISO_FORMAT_"), "ISO-")
	switch text {
	case "0", "1", "3", "4":
		*f = isoFormat(text[0] - '0')
		return nil
	}
	return fmt.Errorf("formats may hold ISO_FORMAT_0, ISO_FORMAT_1, ISO_FORMAT_3 and ISO_FORMAT_4")
}
