package quorum_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/keyblocks"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/keyblock"
)

type blockVector struct {
	ID            string `json:"id"`
	KBPK          string `json:"kbpk"`
	KeyBlock      string `json:"key_block"`
	Version       string `json:"version"`
	Usage         string `json:"key_usage"`
	Algorithm     string `json:"algorithm"`
	Mode          string `json:"mode_of_use"`
	Exportability string `json:"exportability"`
	Key           string `json:"key"`
}

// unfit are the genuine published blocks whose key, or whose key block protection key, keyd
// does not take, and at which step.
var unfit = map[string]fault.Reason{
	"t31-090": fault.DefinitionInvalid, // single DES
	"t31-142": fault.DefinitionInvalid,
	"t31-172": fault.DefinitionInvalid,
	"t31-178": fault.DefinitionInvalid,
	"t31-170": fault.DefinitionInvalid, // 32 and 6 bytes marked TDES
	"t31-173": fault.DefinitionInvalid,
	"t31-181": fault.DefinitionInvalid,
	"t31-193": fault.DefinitionInvalid, // a private key
	"t31-197": fault.DefinitionInvalid,
}

// Every published key block whose keys fit keyd's rules is imported under a key that was
// loaded by ceremony; what is exported again, in every version that the protection key can
// write, holds the same key.
func TestPublishedBlocksGoInAndOut(t *testing.T) {
	var tokens []*vault
	outcomes := make(map[string]int)
	for i, v := range vectors[blockVector](t, "testdata/tr31.json", 60) {
		t.Run(v.ID, func(t *testing.T) {
			outcome := "imported"
			defer func() { outcomes[outcome]++ }()
			kbpk, value := unhex(t, v.KBPK), unhex(t, v.Key)
			wrapping := "T"
			if v.Version == "D" || v.Version == "E" {
				wrapping = "A"
			}
			// One value in two places is refused, and the vectors have several keys again and
			// again: then another token takes them.
			at := slices.IndexFunc(tokens, func(b *vault) bool {
				as, known := b.used[plain(kbpk)]
				return (!known || as == wrapping) && b.used[plain(value)] == ""
			})
			if at < 0 {
				at = len(tokens)
				tokens = append(tokens, &vault{newBench(t, func(r *ceremony.Roster) { r.Quorum.VersionC = true }), make(map[string]*ceremony.KeyRef), make(map[string]string)})
			}
			b := tokens[at]
			b.TB = t
			ref := b.under[v.KBPK]
			if ref == nil {
				ref = &ceremony.KeyRef{Name: fmt.Sprint("kbpk-", i), Version: 1}
				s := spec(ref.Name, "K1", wrapping, len(kbpk), "B", "N")
				r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: s, Components: 2})
				r.submitAll(kbpk)
				if _, err := r.check(); err != nil { // one that keyd takes from nobody
					refused(t, err, fault.KeyValueRefused)
					outcome = "protection key refused"
					if !bytes.Equal(kbpk, bytes.Repeat(kbpk[:1], len(kbpk))) {
						t.Errorf("refused: %v", err)
					}
					return
				}
				r.approve("alice", "bob")
				r.finish()
				b.under[v.KBPK], b.used[plain(kbpk)] = ref, wrapping
			}
			s := spec(fmt.Sprint("key-", i), v.Usage, v.Algorithm, len(value), v.Mode, v.Exportability)
			r, err := b.begin("alice", &ceremony.Definition{Kind: ceremony.Import, Key: s, Block: v.KeyBlock, Under: ref, AllowWeaker: true})
			if v.Version == "E" {
				refused(t, err, fault.KeyBlockInvalid) // ISO 20038
				outcome = "version E"
				return
			}
			if want, ok := unfit[v.ID]; ok {
				refused(t, err, want)
				outcome = "key of no size or algorithm that keyd has"
				return
			}
			switch {
			case err != nil && strings.Contains(err.Error(), "optional block"):
				refused(t, err, fault.KeyBlockInvalid)
				outcome = "optional block"
				return
			case err != nil:
				t.Fatal(err)
			}
			if r.opening.CheckValue != checkValue(v.Algorithm, value) {
				t.Errorf("check value %s in the opening, want %s", r.opening.CheckValue, checkValue(v.Algorithm, value))
			}
			r.approve(officerNames[:r.opening.Need.Approvals]...)
			r.finish()
			b.used[plain(value)] = "a key"
			if got := b.entry(s.Name, 1).Fingerprint; got != b.fingerprint(v.Algorithm, value) {
				t.Fatal("another key was imported")
			}
			target := &ceremony.KeyRef{Name: s.Name, Version: 1}
			for _, version := range map[string]string{"T": "BC", "A": "D"}[wrapping] {
				d := &ceremony.Definition{Kind: ceremony.Export, Target: target, Under: ref, AllowWeaker: true,
					Export: &ceremony.BlockForm{Version: string(version), Exportability: "N", CheckValues: true}}
				r, err := b.begin("dave", d)
				if v.Exportability == "N" {
					refused(t, err, fault.ExportForbidden)
					continue
				}
				b.must(err)
				r.approve(officerNames[:r.opening.Need.Approvals]...)
				out := r.finish()
				if got := b.inside(out.Block, wrapping, kbpk); !bytes.Equal(got, value) {
					t.Errorf("version %c holds another key", version)
				}
			}
		})
	}
	t.Logf("%v", outcomes)
	want := map[string]int{"imported": 42, "protection key refused": 4, "version E": 4, "key of no size or algorithm that keyd has": 9, "optional block": 1}
	if !maps.Equal(outcomes, want) {
		t.Errorf("%v, want %v", outcomes, want)
	}
}

// vault is a token with the protection keys that were loaded into it, and every value that it
// has: of a protection key the algorithm.
type vault struct {
	*bench
	under map[string]*ceremony.KeyRef
	used  map[string]string
}

// plain is a value without parity.
func plain(value []byte) string {
	v := slices.Clone(value)
	for i := range v {
		v[i] &^= 1
	}
	return string(v)
}

// inside is the key in a block, as somebody else sees it who has the protection key.
func (b *bench) inside(block, algorithm string, kbpk []byte) []byte {
	b.Helper()
	parsed, err := keyblock.Parse([]byte(block))
	b.must(err)
	out := make([]byte, 256)
	b.do(func(s *token.Session) error {
		keyType, err := sealing.KeyType(algorithm, len(kbpk))
		if err != nil {
			return err
		}
		k := keyblocks.KBPK{Algorithm: algorithm, Length: len(kbpk)}
		variant := func(mask byte) (token.Object, error) {
			v := slices.Clone(kbpk)
			for i := range v {
				v[i] ^= mask
			}
			return s.Import(keyType, token.MayEncrypt|token.MayDecrypt, v)
		}
		if k.Key, err = s.Import(keyType, token.MaySign, kbpk); err != nil {
			return err
		}
		if algorithm == "T" {
			if k.EncryptionVariant, err = variant(keyblocks.EncryptionVariantMask); err != nil {
				return err
			}
			if k.MACVariant, err = variant(keyblocks.MACVariantMask); err != nil {
				return err
			}
		}
		n, err := keyblocks.Unwrap(s, k, parsed, out)
		out = out[:n]
		return err
	})
	return out
}

// shelf is a bench with protection keys, whose values the test knows.
type shelf struct {
	*bench
	kbpk map[string][]byte
}

// protectionKeys are the key block protection keys that a shelf may have, of every kind.
var protectionKeys = map[string]*ceremony.KeySpec{
	"t16": spec("t16", "K1", "T", 16, "B", "N"), "t24": spec("t24", "K1", "T", 24, "B", "N"),
	"a16": spec("a16", "K1", "A", 16, "B", "N"), "a32": spec("a32", "K1", "A", 32, "B", "N"),
	"sends": spec("sends", "K1", "A", 32, "E", "N"), "receives": spec("receives", "K1", "A", 32, "D", "N"),
}

func newShelf(t testing.TB, names ...string) *shelf {
	t.Helper()
	s := &shelf{newBench(t), make(map[string][]byte)}
	s.protect(names...)
	return s
}

// protect loads protection keys by ceremony.
func (s *shelf) protect(names ...string) {
	s.Helper()
	for _, name := range names {
		k := protectionKeys[name]
		s.kbpk[name] = random(int(k.Length))
		s.load(k, s.kbpk[name])
	}
}

// ref names version 1 of a key.
func ref(name string) *ceremony.KeyRef { return &ceremony.KeyRef{Name: name, Version: 1} }

// export tries to export a key, and returns the block.
func (s *shelf) export(target, under string, form ceremony.BlockForm, change ...func(*ceremony.Definition)) (*keyblock.Block, error) {
	s.Helper()
	d := &ceremony.Definition{Kind: ceremony.Export, Target: ref(target), Under: ref(under), Export: &form}
	for _, c := range change {
		c(d)
	}
	r, err := s.begin("alice", d)
	if err != nil {
		return nil, err
	}
	r.approve(officerNames[:r.opening.Need.Approvals]...)
	out := r.finish()
	block, err := keyblock.Parse([]byte(out.Block))
	s.must(err)
	record, err := ceremony.Decode[ceremony.Record](out.Record.Document, ceremony.MaxRecord)
	s.must(err)
	if record.Outcome.Block != ceremony.Digest([]byte(out.Block)) {
		s.Error("the record is of another block")
	}
	return block, nil
}

// What may leave, under what, as what: each rule, deny by default.
func TestExportRules(t *testing.T) {
	s := newShelf(t, slices.Sorted(maps.Keys(protectionKeys))...)
	values := map[string][]byte{}
	for _, k := range []struct {
		name, usage, algorithm string
		length                 int
		mode, exportability    string
	}{
		{"never", "P0", "T", 16, "B", "N"}, {"trusted", "P0", "T", 16, "B", "E"}, {"anyhow", "P0", "T", 16, "B", "S"}, {"strong", "P0", "A", 32, "D", "E"},
		{"triple", "D0", "T", 24, "E", "E"}, {"mac", "M7", "H", 32, "C", "E"}, {"wrapper", "K0", "A", 16, "N", "E"}, {"data", "D0", "A", 32, "B", "N"},
	} {
		values[k.name] = random(k.length)
		s.load(spec(k.name, k.usage, k.algorithm, k.length, k.mode, k.exportability), values[k.name])
	}
	weaker := func(d *ceremony.Definition) { d.AllowWeaker = true }
	for _, c := range []struct {
		name, target, under string
		form                ceremony.BlockForm
		change              func(*ceremony.Definition)
		want                fault.Reason // 0: it leaves
	}{
		{"exportability N", "never", "a32", ceremony.BlockForm{Version: "D", Exportability: "N"}, nil, fault.ExportForbidden},
		{"E as N", "trusted", "a32", ceremony.BlockForm{Version: "D", Exportability: "N"}, nil, 0},
		{"E as E", "trusted", "a32", ceremony.BlockForm{Version: "D", Exportability: "E"}, nil, 0},
		{"E as S, which is more", "trusted", "a32", ceremony.BlockForm{Version: "D", Exportability: "S"}, nil, fault.ExportForbidden},
		{"S as E", "anyhow", "a32", ceremony.BlockForm{Version: "D", Exportability: "E"}, nil, 0},
		{"S as S", "anyhow", "a32", ceremony.BlockForm{Version: "D", Exportability: "S"}, nil, 0},
		{"mode B as E", "trusted", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", Mode: "E"}, nil, 0},
		{"mode B as D", "trusted", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", Mode: "D"}, nil, 0},
		{"mode B as N, which is more", "trusted", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", Mode: "N"}, nil, fault.ExportForbidden},
		{"mode D as B, which is more", "strong", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", Mode: "B"}, nil, fault.ExportForbidden},
		{"mode D as E, which is another", "strong", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", Mode: "E"}, nil, fault.ExportForbidden},
		{"mode C as G", "mac", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", Mode: "G"}, nil, 0},
		{"mode C as V", "mac", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", Mode: "V", CheckValues: true}, nil, 0},
		{"mode N as D", "wrapper", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", Mode: "D"}, nil, 0},
		{"version B under TDES", "trusted", "t16", ceremony.BlockForm{Version: "B", Exportability: "N"}, nil, 0},
		{"version C", "trusted", "t16", ceremony.BlockForm{Version: "C", Exportability: "N"}, nil, fault.ExportForbidden},
		{"version D under TDES", "trusted", "t24", ceremony.BlockForm{Version: "D", Exportability: "N"}, nil, fault.ExportForbidden},
		{"version B under AES", "trusted", "a32", ceremony.BlockForm{Version: "B", Exportability: "N"}, nil, fault.ExportForbidden},
		{"AES-256 under AES-128", "strong", "a16", ceremony.BlockForm{Version: "D", Exportability: "N"}, nil, fault.ExportForbidden},
		{"AES-256 under AES-128, allowed", "strong", "a16", ceremony.BlockForm{Version: "D", Exportability: "N"}, weaker, 0},
		{"three TDES keys under two", "triple", "t16", ceremony.BlockForm{Version: "B", Exportability: "N"}, nil, fault.ExportForbidden},
		{"three TDES keys under three", "triple", "t24", ceremony.BlockForm{Version: "B", Exportability: "N"}, nil, 0},
		{"under a key that only receives", "trusted", "receives", ceremony.BlockForm{Version: "D", Exportability: "N"}, nil, fault.KeyUsageMismatch},
		{"under a key that only sends", "trusted", "sends", ceremony.BlockForm{Version: "D", Exportability: "N"}, nil, 0},
		{"under a data key", "trusted", "data", ceremony.BlockForm{Version: "D", Exportability: "N"}, nil, fault.KeyUsageMismatch},
		{"under a K0 key", "trusted", "wrapper", ceremony.BlockForm{Version: "D", Exportability: "N"}, nil, 0},
		{"everything that a block can say", "trusted", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", KeyVersion: "07", Label: "zone key", Time: true, CheckValues: true,
			Blocks: []ceremony.Optional{{ID: "10", Data: "own"}}}, nil, 0},
		{"a block that is malformed", "trusted", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", Blocks: []ceremony.Optional{{ID: "HM", Data: "nonsense"}}}, nil, fault.DefinitionInvalid},
		{"an ID twice", "trusted", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", Label: "one", Blocks: []ceremony.Optional{{ID: "LB", Data: "two"}}}, nil, fault.ExportForbidden},
		{"an initial key of no BDK", "trusted", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", KSN: "1234567890123456"}, nil, fault.KeyUsageMismatch},
		{"a key that is not there", "nothing", "a32", ceremony.BlockForm{Version: "D", Exportability: "N"}, nil, fault.KeyNotFound},
		{"under a key that is not there", "trusted", "nothing", ceremony.BlockForm{Version: "D", Exportability: "N"}, nil, fault.KeyNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.bench.TB = t
			var changes []func(*ceremony.Definition)
			if c.change != nil {
				changes = append(changes, c.change)
			}
			block, err := s.export(c.target, c.under, c.form, changes...)
			if c.want != 0 {
				refused(t, err, c.want)
				return
			}
			s.must(err)
			h := &block.Header
			mode := string(h.Mode)
			if c.form.Mode != "" && mode != c.form.Mode || string(h.Exportability) != c.form.Exportability || string(h.Version) != c.form.Version {
				t.Errorf("the block is %s", block.HeaderText)
			}
			kbpk := s.kbpk[c.under]
			if kbpk == nil {
				kbpk = values[c.under]
			}
			algorithm := "A"
			if c.form.Version == "B" {
				algorithm = "T"
			}
			if got := s.inside(string(block.Text()), algorithm, kbpk); !bytes.Equal(got, values[c.target]) {
				t.Error("the block holds another key")
			}
			if kcv, err := h.KeyCheckValue(); c.form.CheckValues && c.target != "mac" && (err != nil || fmt.Sprintf("%X", kcv.Value) != checkValue(string(h.Algorithm), values[c.target])) {
				t.Errorf("KC says %X, %v", kcv.Value, err)
			}
			if c.form.KeyVersion == "07" && !strings.Contains(string(block.HeaderText), "LB") {
				t.Errorf("the block is %s", block.HeaderText)
			}
		})
	}
}

// Blocks of version C are written where the roster says so. Those of A are never.
func TestVersionCNeedsTheRoster(t *testing.T) {
	s := &shelf{newBench(t, func(r *ceremony.Roster) { r.Quorum.VersionC = true }), make(map[string][]byte)}
	s.protect("t16")
	value := random(16)
	s.load(spec("key", "P0", "T", 16, "B", "E"), value)
	block, err := s.export("key", "t16", ceremony.BlockForm{Version: "C", Exportability: "N"})
	s.must(err)
	if got := s.inside(string(block.Text()), "T", s.kbpk["t16"]); !bytes.Equal(got, value) {
		t.Error("another key")
	}
	_, err = s.export("key", "t16", ceremony.BlockForm{Version: "A", Exportability: "N"})
	refused(t, err, fault.DefinitionInvalid)
}

// A key that left one token as a key block comes into another, and is the same key: its
// check value says so, and it leaves that token again as what it was.
func TestKeysTravelBetweenTokens(t *testing.T) {
	first, second := newShelf(t), newShelf(t, "t16", "t24", "a32")
	for _, c := range []struct {
		usage, algorithm, mode string
		length                 int
		under                  string
		algorithmOf, version   string
	}{
		{"P0", "T", "B", 16, "t16", "T", "B"}, {"D0", "T", "B", 24, "t24", "T", "B"}, {"P0", "A", "B", 32, "a32", "A", "D"}, {"M7", "H", "C", 32, "a32", "A", "D"}, {"B0", "T", "X", 16, "a32", "A", "D"}, {"K1", "A", "B", 32, "a32", "A", "D"},
	} {
		name := "zone-" + c.usage + c.algorithm
		between := random(len(second.kbpk[c.under]))
		first.load(spec(name+"-between", "K1", c.algorithmOf, len(between), "E", "N"), between)
		second.load(spec(name+"-between", "K1", c.algorithmOf, len(between), "D", "N"), between)
		value := random(c.length)
		first.load(spec(name, c.usage, c.algorithm, c.length, c.mode, "E"), value)
		block, err := first.export(name, name+"-between", ceremony.BlockForm{Version: c.version, Exportability: "E", CheckValues: true})
		first.must(err)
		d := &ceremony.Definition{Kind: ceremony.Import, Key: spec(name, c.usage, c.algorithm, c.length, c.mode, "E"), Block: string(block.Text()), Under: ref(name + "-between"), CheckValue: checkValue(c.algorithm, value)}
		second.perform(d)
		if first.entry(name, 1).Fingerprint == second.entry(name, 1).Fingerprint {
			t.Error("fingerprints of two tokens compare: they are keyed by one secret")
		}
		again, err := second.export(name, c.under, ceremony.BlockForm{Version: c.version, Exportability: "N"})
		second.must(err)
		if got := second.inside(string(again.Text()), c.algorithmOf, second.kbpk[c.under]); !bytes.Equal(got, value) {
			t.Errorf("%s: another key arrived", name)
		}
	}
}

func incoming(k *ceremony.KeySpec) *ceremony.KeySpec {
	k.Direction = hsm.DirectionIncoming
	return k
}

// What a definition says of a key block must be what the block says, or less.
func TestImportRules(t *testing.T) {
	s := newShelf(t, "a32")
	value := random(16)
	s.load(spec("out", "P0", "T", 16, "B", "S"), value)
	of := func(mode, exportability string) string {
		block, err := s.export("out", "a32", ceremony.BlockForm{Version: "D", Exportability: exportability, Mode: mode, CheckValues: true})
		s.must(err)
		return string(block.Text())
	}
	trusted, anyhow, never, sending := of("", "E"), of("", "S"), of("", "N"), of("E", "E")
	other := newShelf(t, "a32", "sends", "t16") // a token that does not know the key
	other.load(spec("zone", "K1", "A", 32, "B", "N"), s.kbpk["a32"])
	other.load(spec("data", "D0", "A", 32, "B", "N"), random(32))
	altered := func(at int) string {
		b := []byte(trusted)
		b[at] = map[bool]byte{true: '1', false: '0'}[b[at] == '0']
		return string(b)
	}
	for _, c := range []struct {
		name  string
		block string
		under string
		spec  *ceremony.KeySpec
		check string
		want  fault.Reason
	}{
		{"as it says", trusted, "zone", spec("k", "P0", "T", 16, "B", "E"), "", 0},
		{"with the right check value", trusted, "zone", spec("k", "P0", "T", 16, "B", "E"), checkValue("T", value), 0},
		{"one way in", trusted, "zone", incoming(spec("k", "P0", "T", 16, "B", "E")), "", 0},
		{"another check value", trusted, "zone", spec("k", "P0", "T", 16, "B", "E"), "000000", fault.CheckValueMismatch},
		{"less exportable", trusted, "zone", spec("k", "P0", "T", 16, "B", "N"), "", 0},
		{"S as E", anyhow, "zone", spec("k", "P0", "T", 16, "B", "E"), "", 0},
		{"E as S", trusted, "zone", spec("k", "P0", "T", 16, "B", "S"), "", fault.KeyBlockInvalid},
		{"N as E", never, "zone", spec("k", "P0", "T", 16, "B", "E"), "", fault.KeyBlockInvalid},
		{"N as S", never, "zone", spec("k", "P0", "T", 16, "B", "S"), "", fault.KeyBlockInvalid},
		{"mode B as D", trusted, "zone", spec("k", "P0", "T", 16, "D", "N"), "", 0},
		{"mode E as B", sending, "zone", spec("k", "P0", "T", 16, "B", "N"), "", fault.KeyBlockInvalid},
		{"mode E as D", sending, "zone", spec("k", "P0", "T", 16, "D", "N"), "", fault.KeyBlockInvalid},
		{"another usage", trusted, "zone", spec("k", "D0", "T", 16, "B", "N"), "", fault.KeyBlockInvalid},
		{"another algorithm", trusted, "zone", spec("k", "P0", "A", 16, "B", "N"), "", fault.KeyBlockInvalid},
		{"another length", trusted, "zone", spec("k", "P0", "T", 24, "B", "N"), "", fault.KeyBlockInvalid},
		{"another protection key", trusted, "a32", spec("k", "P0", "T", 16, "B", "N"), "", fault.KeyBlockInvalid},
		{"a protection key that only sends", trusted, "sends", spec("k", "P0", "T", 16, "B", "N"), "", fault.KeyUsageMismatch},
		{"a data key", trusted, "data", spec("k", "P0", "T", 16, "B", "N"), "", fault.KeyUsageMismatch},
		{"a protection key of another algorithm", trusted, "t16", spec("k", "P0", "T", 16, "B", "N"), "", fault.KeyBlockInvalid},
		{"a header that was altered", altered(9), "zone", spec("k", "P0", "T", 16, "B", "N"), "", fault.KeyBlockInvalid},
		{"a key that was altered", altered(len(trusted) - 60), "zone", spec("k", "P0", "T", 16, "B", "N"), "", fault.KeyBlockInvalid},
		{"a MAC that was altered", altered(len(trusted) - 1), "zone", spec("k", "P0", "T", 16, "B", "N"), "", fault.KeyBlockInvalid},
		{"half a block", trusted[:40], "zone", spec("k", "P0", "T", 16, "B", "N"), "", fault.KeyBlockInvalid},
		{"no block", "nothing", "zone", spec("k", "P0", "T", 16, "B", "N"), "", fault.KeyBlockInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			other.bench.TB = t
			r, err := other.begin("alice", &ceremony.Definition{Kind: ceremony.Import, Key: c.spec, Block: c.block, Under: ref(c.under), CheckValue: c.check})
			if c.want != 0 {
				refused(t, err, c.want)
				return
			}
			other.must(err)
			// The roster lets one officer import P0 keys, but not one under which PINs leave: who made
			// the block may know the key.
			approvals := []string{"dave", "carol"}
			if c.spec.Direction == hsm.DirectionIncoming {
				approvals = approvals[:1]
			}
			if r.opening.Need.Approvals != len(approvals) {
				t.Errorf("%+v", r.opening.Need)
			}
			r.approve(approvals...)
			out, err := r.carryOut() // never committed: the next row finds the token as it was
			other.must(err)
			parsed, err := hsm.ParseSealed(out.Key.Sealed)
			other.must(err)
			if h := parsed.Header; h.Mode != c.spec.Mode || h.Exportability != c.spec.Exportability || (h.Custody == hsm.CustodyModule) != (h.Exportability != "N") {
				t.Errorf("sealed as %+v", h)
			}
		})
	}
}

// A protection key that is weaker than the key takes two officers, whatever the roster says.
func TestWeakerProtectionTakesTwoOfficers(t *testing.T) {
	s, other := newShelf(t, "a16"), newShelf(t)
	s.load(spec("out", "P0", "A", 32, "B", "E"), random(32))
	block, err := s.export("out", "a16", ceremony.BlockForm{Version: "D", Exportability: "N"}, func(d *ceremony.Definition) { d.AllowWeaker = true })
	s.must(err)
	other.load(spec("zone", "K1", "A", 16, "B", "N"), s.kbpk["a16"])
	d := &ceremony.Definition{Kind: ceremony.Import, Key: spec("k", "P0", "A", 32, "B", "N"), Block: string(block.Text()), Under: ref("zone")}
	_, err = other.begin("alice", d)
	refused(t, err, fault.KeyValueRefused)
	d.AllowWeaker = true
	if r := other.mustBegin("alice", d); r.opening.Need.Approvals != 2 {
		t.Errorf("%+v", r.opening.Need)
	}
}

// A key block names its own check value, which the key in it must have, and optional blocks,
// which go with the key when it leaves again, but for those of its transport.
func TestOptionalBlocksGoWithTheKey(t *testing.T) {
	b := newBench(t)
	kbpk := unhex(t, "B8ED59E0A279A295E9F5ED7944FD06B9") // t31-124: BI, KC and KP
	block := "B0136B0TX00E0300BI100008793E2500KC0C00F4B08DKP0C002F0EEA16BD28BCC923ED336AF77733257CD5238E406F957CEDFE9172E7B2C88377EAC6795E0ED00A4D5484"
	for _, v := range vectors[blockVector](t, "testdata/tr31.json", 60) {
		if v.ID == "t31-124" {
			block = v.KeyBlock
		}
	}
	b.load(spec("zone", "K1", "T", 16, "B", "N"), kbpk)
	d := &ceremony.Definition{Kind: ceremony.Import, Key: spec("bdk", "B0", "T", 16, "X", "E"), Block: block, Under: ref("zone")}
	b.perform(d)
	s := &shelf{bench: b}
	out, err := s.export("bdk", "zone", ceremony.BlockForm{Version: "B", Exportability: "N"})
	b.must(err)
	if ids := blockIDs(out); !slices.Equal(ids, []string{"BI"}) {
		t.Errorf("blocks %v", ids)
	}
	// Those of a BDK are none of its initial keys'.
	out, err = s.export("bdk", "zone", ceremony.BlockForm{Version: "B", Exportability: "N", KSN: "FFFF9876543210E00000"})
	b.must(err)
	if ids := blockIDs(out); !slices.Equal(ids, []string{"KS"}) {
		t.Errorf("blocks of an initial key %v", ids)
	}
	// What officers ask for stands in place of what came.
	out, err = s.export("bdk", "zone", ceremony.BlockForm{Version: "B", Exportability: "N", Blocks: []ceremony.Optional{{ID: "BI", Data: "000102030405"}}})
	b.must(err)
	if data, _ := out.Header.Find("BI"); data != "000102030405" {
		t.Errorf("BI %s", data)
	}
}

func blockIDs(b *keyblock.Block) (ids []string) {
	for _, o := range b.Header.Blocks {
		if o.ID != "PB" {
			ids = append(ids, o.ID)
		}
	}
	return ids
}

// Initial keys are the published ones, leave as B1 keys with the identifier that they are
// of, and the BDK stays where it is.
func TestInitialKeysAreThePublishedOnes(t *testing.T) {
	type vector struct {
		ID, Algorithm, BDK string
		KSN                string `json:"initial_key_id"`
		Key                string `json:"initial_key"`
	}
	s := newShelf(t, "a32", "t24")
	for i, v := range vectors[vector](t, "testdata/initialkeys.json", 6) {
		t.Run(v.ID, func(t *testing.T) {
			s.bench.TB = t
			name := fmt.Sprint("bdk-", i)
			bdk := unhex(t, v.BDK)
			s.load(spec(name, "B0", v.Algorithm, len(bdk), "X", "N"), bdk)
			ways := []struct{ under, version string }{{"a32", "D"}, {"t24", "B"}}
			if i%2 == 1 {
				slices.Reverse(ways)
			}
			for n, way := range ways {
				under, version := way.under, way.version
				weaker := v.Algorithm == "A" && under == "t24"
				form := ceremony.BlockForm{Version: version, Exportability: "N", KSN: v.KSN, CheckValues: true}
				if weaker {
					_, err := s.export(name, under, form)
					refused(t, err, fault.ExportForbidden)
				}
				allowed := func(d *ceremony.Definition) { d.AllowWeaker = weaker }
				if n == 1 { // it belongs to those who have the other key block protection key
					_, err := s.export(name, under, form, allowed)
					refused(t, err, fault.InitialKeyAllotted)
					continue
				}
				if _, err := s.export(name, under, form, allowed); err != nil { // and got lost
					t.Fatal(err)
				}
				block, err := s.export(name, under, form, allowed)
				s.must(err)
				h := &block.Header
				if h.Usage != "B1" || h.Mode != 'X' || string(h.Algorithm) != v.Algorithm {
					t.Errorf("the block is %s", block.HeaderText)
				}
				kbpkAlgorithm := strings.ToUpper(under[:1])
				if got := fmt.Sprintf("%X", s.inside(string(block.Text()), kbpkAlgorithm, s.kbpk[under])); got != v.Key {
					t.Errorf("initial key %s, want %s", got, v.Key)
				}
				if kcv, err := h.KeyCheckValue(); err != nil || fmt.Sprintf("%X", kcv.Value) != checkValue(v.Algorithm, unhex(t, v.Key)) {
					t.Errorf("KC %X, %v", kcv.Value, err)
				}
				id := map[string]string{"T": "KS", "A": "IK"}[v.Algorithm]
				if data, _ := h.Find(id); data != v.KSN {
					t.Errorf("%s says %q", id, data)
				}
			}
			_, err := s.export(name, "a32", ceremony.BlockForm{Version: "D", Exportability: "N"})
			refused(t, err, fault.ExportForbidden) // the BDK itself
			wrong := map[string]string{"T": "1234567890123456", "A": "FFFF9876543210E00000"}[v.Algorithm]
			_, err = s.export(name, "a32", ceremony.BlockForm{Version: "D", Exportability: "N", KSN: wrong})
			refused(t, err, fault.KSNInvalid)
			if v.Algorithm == "T" {
				_, err = s.export(name, "a32", ceremony.BlockForm{Version: "D", Exportability: "N", KSN: "FFFF9876543210E00001"})
				refused(t, err, fault.KSNInvalid) // a KSN of a transaction
			}
		})
	}
}

// A key whose time is over does not leave any more.
func TestExpiredKeysDoNotLeave(t *testing.T) {
	s := newShelf(t, "a32")
	k := spec("short", "P0", "T", 16, "B", "E")
	k.NotAfter = s.now.Unix() + 7200
	s.load(k, random(16))
	if _, err := s.export("short", "a32", ceremony.BlockForm{Version: "D", Exportability: "N"}); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(7200e9)
	_, err := s.export("short", "a32", ceremony.BlockForm{Version: "D", Exportability: "N"})
	refused(t, err, fault.KeyDisabled)
}

// Where it cannot be recorded whose an initial key is, none leaves.
func TestNoInitialKeyLeavesUnrecorded(t *testing.T) {
	s := newShelf(t, "a32")
	s.load(spec("bdk", "B0", "A", 16, "X", "N"), random(16))
	s.ledger = ledger.Open(-1)
	s.restart()
	_, err := s.export("bdk", "a32", ceremony.BlockForm{Version: "D", Exportability: "N", KSN: "1234567890123456"})
	refused(t, err, fault.LedgerUnavailable)
}
