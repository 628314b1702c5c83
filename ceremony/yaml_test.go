package ceremony_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keyd/ceremony"
	"keyd/hsm"
)

const bdkFile = `
kind: load
reason: "ticket 17"
components: 2
check_value: 0a1b2c
key:
  name: zone/bdk
  usage: B0
  algorithm: A
  length: 32
  mode_of_use: X
  formats: [ISO_FORMAT_4, ISO-0, "3"]
  peers: ["acquirer-1"]
  not_before: 2030-01-02T03:04:05Z
`

// What a file leaves out is the careful choice.
func TestDefaults(t *testing.T) {
	d, err := ceremony.Parse([]byte(bdkFile), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	want := &ceremony.Definition{Kind: ceremony.Load, Reason: "ticket 17", Components: 2, CheckValue: "0A1B2C", ValidFor: 24 * 3600, Key: &ceremony.KeySpec{
		Name: "zone/bdk", Version: 1, Usage: "B0", Algorithm: "A", Length: 32, Mode: "X", Exportability: "N", NotBefore: 1893553445,
		Direction: hsm.DirectionIncoming, KSNCheck: hsm.KSNMonotonic, Peers: []string{"acquirer-1"}, Formats: []hsm.Format{hsm.Format4, hsm.Format0, hsm.Format3},
	}}
	if !bytes.Equal(must(ceremony.Encode(d)), must(ceremony.Encode(want))) {
		t.Errorf("%s\n%s", must(ceremony.Encode(d)), must(ceremony.Encode(want)))
	}
	for _, c := range []struct {
		text string
		want func(*ceremony.Definition) bool
	}{
		{strings.Replace(bdkFile, "usage: B0", "usage: B0\n  ksn: off\n  direction: both", 1), func(d *ceremony.Definition) bool {
			return d.Key.KSNCheck == "" && d.Key.Direction == hsm.DirectionBoth
		}},
		{"kind: delete\ntarget: k\n", func(d *ceremony.Definition) bool {
			return d.Wait == 7*24*3600 && *d.Target == ceremony.KeyRef{Name: "k", Version: 1}
		}},
		{"kind: delete\ntarget: k?version=3\nwait: 72h\nvalid_for: 30m", func(d *ceremony.Definition) bool {
			return d.Wait == 72*3600 && d.Target.Version == 3 && d.ValidFor == 1800
		}},
		{"kind: stop\ntarget: zone/bdk?version=4294967295", func(d *ceremony.Definition) bool { return d.Target.Version == 1<<32-1 }},
		{"kind: export\ntarget: k\nunder: z?version=2\nexport: {version: D, initial_key_id: ffff9876543210e00000}", func(d *ceremony.Definition) bool {
			return d.Export.Exportability == "N" && d.Export.KSN == "FFFF9876543210E00000" && d.Under.Version == 2
		}},
		{"kind: export\ntarget: k\nunder: z\nexport: {version: D, blocks: [{id: \"10\", data: x}], label: l, time: true, check_values: true, key_version: \"07\", mode_of_use: E}", func(d *ceremony.Definition) bool {
			x := d.Export
			return len(x.Blocks) == 1 && x.Blocks[0].ID == "10" && x.Label == "l" && x.Time && x.CheckValues && x.KeyVersion == "07" && x.Mode == "E"
		}},
		{"kind: masters\nmasters: {holders: [a, b], previous: [c, d]}", func(d *ceremony.Definition) bool {
			return d.MasterKeys.Holder(2) == "b" && d.MasterKeys.Holder(4) == "d"
		}},
	} {
		d, err := ceremony.Parse([]byte(c.text), t.TempDir())
		if err != nil || !c.want(d) {
			t.Errorf("%s: %v, %+v", c.text, err, d)
		}
	}
}

// What is wrong with a file is said with its line where it is a matter of the file, and
// nothing is made of it.
func TestFilesThatAreWrong(t *testing.T) {
	dir := t.TempDir()
	file(t, dir, "empty.pem", nil)
	file(t, dir, "secrets", []byte("root:*:19000:0:99999:7:::\n"))
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	file(t, dir, "large", bytes.Repeat([]byte("D"), ceremony.MaxBlock+3))
	for _, c := range []struct{ name, text, says string }{
		{"nothing", "", "kind is none of"},
		{"an unknown field", "kind: stop\ntarget: k\nrason: why\n", "[3:1]"},
		{"an unknown field of a key", strings.Replace(bdkFile, "  peers:", "  pears:", 1), "[13:3]"},
		{"a field twice", "kind: stop\nkind: start\ntarget: k\n", "[2:1]"},
		{"two documents", "kind: stop\ntarget: k\n---\nkind: start\ntarget: k\n", "more than one document"},
		{"a document behind an empty one", "---\nkind: stop\ntarget: k\n---\n---\nkind: stop\n", "more than one document"},
		{"a list", "- kind: stop\n", ""},
		{"a duration in words", "kind: stop\ntarget: k\nvalid_for: tomorrow\n", "no duration"},
		{"a duration below zero", "kind: stop\ntarget: k\nvalid_for: -1h\n", "no duration"},
		{"part of a second", "kind: stop\ntarget: k\nvalid_for: 1500ms\n", "no duration"},
		{"a version in words", "kind: stop\ntarget: k?version=two\n", "version=2"},
		{"version 0", "kind: stop\ntarget: k?version=0\n", "version=2"},
		{"a version that is too large", "kind: stop\ntarget: k?version=4294967296\n", "version=2"},
		{"another question", "kind: stop\ntarget: k?v=1\n", "version=2"},
		{"no name", "kind: stop\ntarget: ?version=2\n", "no name"},
		{"an unknown format", strings.Replace(bdkFile, "ISO-0", "ISO-2", 1), "formats may hold"},
		{"a format that is none", strings.Replace(bdkFile, "ISO-0", "04", 1), "formats may hold"},
		{"officers without a quorum", "kind: change\nofficers: [{name: a, identity: i, key: k.pem}]\n", "officers and quorum"},
		{"a quorum without officers", "kind: change\nquorum: {components: 2, approvals: 2, roster: 2}\n", "officers and quorum"},
		{"a key that is not there", "kind: change\nquorum: {components: 2, approvals: 2, roster: 2}\nofficers: [{name: a, identity: i, key: none.pem}]\n", "officer a"},
		{"a key that is none", "kind: change\nquorum: {components: 2, approvals: 2, roster: 2}\nofficers: [{name: a, identity: i, key: empty.pem}]\n", "no public key"},
		{"a block in two ways", "kind: import\nblock: D\nblock_file: large\n", "two ways"},
		{"a block file that is not there", "kind: import\nblock_file: none\n", "block_file"},
		{"a block file that is too large", "kind: import\nblock_file: large\n", "more than"},
		{"a folder as a block", "kind: import\nblock_file: .\n", "block_file"},
		{"a file elsewhere", "kind: import\nblock_file: /dev/zero\n", "beside the definition"},
		{"a file above", "kind: import\nblock_file: ../large\n", "beside the definition"},
		{"a link that leads elsewhere", "kind: import\nblock_file: link\n", "beside the definition"},
		{"a key elsewhere", "kind: change\nquorum: {components: 2, approvals: 2, roster: 2}\nofficers: [{name: a, identity: i, key: /etc/hostname}]\n", "beside the definition"},
		{"a file that holds something else", "kind: import\nblock_file: secrets\n", "block: "},
		{"a block that is none", "kind: import\nblock: D0112P0TB00N0000\n", "block: "},
		{"a merge key", "kind: stop\n<<: {target: k}\n", "write it out"},
		{"a line that a screen does not show", "kind: stop\n# nothing\rtarget: k\n", "carriage return"},
		{"a definition that is refused", "kind: load\n", "needs key"},
		{"too much", strings.Repeat("#", ceremony.MaxDocument+1), "more than"},
		{"a bomb of aliases", "kind: &a stop\nreason: *a\ntarget: [*a, *a]\n", "write it out"},
	} {
		d, err := ceremony.Parse([]byte(c.text), dir)
		if !errors.Is(err, ceremony.ErrDefinition) || d != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

// Files that a definition names lie beside it.
func TestFilesLieBesideTheDefinition(t *testing.T) {
	c := theCast()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	beside := file(t, dir, "dave.pem", c.pemOf("dave"))
	var text strings.Builder
	text.WriteString("kind: change\nquorum:\n  components: 2\n  approvals: 2\n  roster: 3\n  usages:\n    - {usages: [P0, M1], components: 3, approvals: 1}\nofficers:\n")
	for _, name := range []string{"dave", "carol", "alice", "bob"} { // in any order
		key := filepath.Base(beside)
		if name != "dave" {
			key = filepath.Join("keys", name+".pem")
			file(t, filepath.Join(dir, "keys"), name+".pem", c.pemOf(name))
		}
		fmt.Fprintf(&text, "  - {name: %s, identity: spiffe://bank.example/officer/%s, key: %s}\n", name, name, key)
	}
	path := file(t, dir, "change.yaml", []byte(text.String()))
	d, err := ceremony.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if must(d.Roster.Fingerprint()) != must(c.roster.Fingerprint()) {
		t.Errorf("%+v", d.Roster)
	}
	block := "B0136B0TX00E0300BI100008793E2500KC0C00F4B08DKP0C002F0EEA16BD28BCC923ED336AF77733257CD5238E406F957CEDFE9172E7B2C88377EAC6795E0ED00A4D5484"
	file(t, dir, "block.txt", []byte(block+"\r\n"))
	path = file(t, dir, "import.yaml", []byte("kind: import\nunder: z\nblock_file: block.txt\nkey: {name: k, usage: P0, algorithm: T, length: 16, mode_of_use: B, direction: both}\n"))
	if d, err := ceremony.Read(path); err != nil || d.Block != block {
		t.Errorf("%v", err)
	}
	for _, wrong := range []string{filepath.Join(dir, "none.yaml"), dir, file(t, dir, "large.yaml", make([]byte, ceremony.MaxDocument+1))} {
		if d, err := ceremony.Read(wrong); err == nil || d != nil {
			t.Errorf("%s was read", wrong)
		}
	}
	twice := append(c.pemOf("alice"), c.pemOf("bob")...)
	file(t, filepath.Join(dir, "keys"), "alice.pem", twice)
	if _, err := ceremony.Read(filepath.Join(dir, "change.yaml")); err == nil || !strings.Contains(err.Error(), "officer alice") {
		t.Errorf("two keys in one file: %v", err)
	}
}

// A rule for IBM 3624 and every other field of a key come through.
func TestEveryFieldOfAKey(t *testing.T) {
	d, err := ceremony.Parse([]byte(`
kind: create
overlap: 48h
key:
  name: pvk
  version: 2
  usage: V1
  algorithm: T
  length: 24
  mode_of_use: C
  exportability: S
  not_before: 2030-01-02T03:04:05Z
  not_after: 2031-01-02T03:04:05Z
  peers: ["*"]
  allow_change: true
  ibm3624: {decimalization_table: "0123456789012345", validation_start: 4, validation_length: 11, validation_pad: f}
`), "")
	if err != nil {
		t.Fatal(err)
	}
	k := d.Key
	if d.Overlap != 48*3600 || k.Version != 2 || k.Exportability != "S" || !k.AllowChange || k.NotAfter-k.NotBefore != 365*24*3600 ||
		*k.IBM3624 != (hsm.IBM3624Rule{DecimalizationTable: "0123456789012345", Start: 4, Length: 11, Pad: "F"}) {
		t.Errorf("%+v", k)
	}
}

func TestFieldsOfKeysForInjection(t *testing.T) {
	d, err := ceremony.Parse([]byte("kind: create\nkey: {name: bdk, usage: B0, algorithm: A, length: 16, mode_of_use: X, injection_hosts: [host-1, host-2]}\n"), "")
	if err != nil || !slices.Equal(d.Key.InjectionHosts, []string{"host-1", "host-2"}) || !slices.Equal(d.Key.Header().InjectionHosts, d.Key.InjectionHosts) {
		t.Errorf("%v, %+v", err, d)
	}
	d, err = ceremony.Parse([]byte("kind: create\nkey: {name: host-1, usage: S0, algorithm: E, length: 66, mode_of_use: S, peers: [acquirer]}\n"), "")
	if err != nil || !slices.Equal(d.Key.Peers, []string{"acquirer"}) || !slices.Equal(d.Key.Header().Peers, d.Key.Peers) {
		t.Errorf("%v, %+v", err, d)
	}
	if d, err := ceremony.Parse([]byte("kind: create\nkey: {name: bdk, usage: B0, algorithm: A, length: 16, mode_of_use: X, allow_injection: true}\n"), ""); err == nil || d != nil {
		t.Error("allow_injection, which there was once, is taken")
	}
}

func TestKeyRefsReadBack(t *testing.T) {
	for _, r := range []ceremony.KeyRef{{Name: "k", Version: 1}, {Name: "zone/a.b", Version: 77}} {
		if got, err := ceremony.ParseKeyRef(r.String()); err != nil || *got != r {
			t.Errorf("%s: %v, %v", &r, got, err)
		}
	}
}
