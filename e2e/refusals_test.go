package e2e

import (
	"crypto"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/hsm"
	"keyd/officer"
)

// desk is where the officers of a development service sign: whatever a test wants.
type desk struct {
	*service
	identity, roster string
	ceremonies       map[string]keydv1.CeremonyServiceClient
	signers          map[string]crypto.Signer
}

func newDesk(t *testing.T, s *service) *desk {
	t.Helper()
	return newDeskOf(t, s, filepath.Join(s.dir, "officers"))
}

// newDeskOf is for officers whose keys lie in a folder.
func newDeskOf(t *testing.T, s *service, folder string) *desk {
	t.Helper()
	d := &desk{service: s, ceremonies: map[string]keydv1.CeremonyServiceClient{}, signers: map[string]crypto.Signer{}}
	for _, name := range officers {
		d.ceremonies[name] = keydv1.NewCeremonyServiceClient(s.connect(s.tls(name)))
		var err error
		if d.signers[name], err = officer.OpenKey(filepath.Join(folder, name+".key"), nil); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := d.ceremonies["officer-1"].GetModule(s.ctx(), &keydv1.GetModuleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, key, roster, err := ceremony.ParseIdentity(ceremony.Signed{Document: answer.Identity.Document, Signature: answer.Identity.Signature})
	if err == nil {
		d.identity, err = ceremony.KeyFingerprint(key)
	}
	if err == nil {
		d.roster, err = roster.Fingerprint()
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// statement is an officer's about a definition, and about a ceremony where there is one.
func (d *desk) statement(name string, action ceremony.Action, definition []byte, c *keydv1.Ceremony) *ceremony.Statement {
	s := &ceremony.Statement{Action: action, Officer: name, Definition: ceremony.Digest(definition), Identity: d.identity, Roster: d.roster, Time: time.Now().Unix()}
	if c != nil {
		s.Opening = ceremony.Digest(c.Opening.Document)
	}
	return s
}

// sign signs with the key of the officer with that name.
func (d *desk) sign(name string, s *ceremony.Statement) *keydv1.SignedDocument {
	d.t.Helper()
	signed, err := s.Sign(d.signers[name])
	if err != nil {
		d.t.Fatal(err)
	}
	return &keydv1.SignedDocument{Document: signed.Document, Signature: signed.Signature}
}

func (d *desk) encode(definition *ceremony.Definition) []byte {
	d.t.Helper()
	if definition.ValidFor == 0 {
		definition.ValidFor = 3600
	}
	b, err := ceremony.Encode(definition)
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

// begin opens a ceremony as officer-1.
func (d *desk) begin(definition *ceremony.Definition) (*keydv1.Ceremony, error) {
	d.t.Helper()
	b := d.encode(definition)
	return d.ceremonies["officer-1"].BeginCeremony(d.ctx(), &keydv1.BeginCeremonyRequest{
		Definition: b, Statement: d.sign("officer-1", d.statement("officer-1", ceremony.Begin, b, nil))})
}

func (d *desk) mustBegin(definition *ceremony.Definition) *keydv1.Ceremony {
	d.t.Helper()
	c, err := d.begin(definition)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// approve approves a ceremony as it stands.
func (d *desk) approve(name string, c *keydv1.Ceremony) (*keydv1.Ceremony, error) {
	d.t.Helper()
	s := d.statement(name, ceremony.Approve, c.Definition, c)
	s.CheckValue, s.Components = c.CheckValue, componentsOf(d.t, c)
	return d.ceremonies[name].ApproveCeremony(d.ctx(), &keydv1.ApproveCeremonyRequest{CeremonyId: c.CeremonyId, Statement: d.sign(name, s)})
}

// carryOut has two officers approve a ceremony, which is the quorum.
func (d *desk) carryOut(definition *ceremony.Definition) *keydv1.Ceremony {
	d.t.Helper()
	c := d.mustBegin(definition)
	for _, name := range officers[:2] {
		var err error
		if c, err = d.approve(name, c); err != nil {
			d.t.Fatal(err)
		}
	}
	if c.State != keydv1.Ceremony_COMPLETED {
		d.t.Fatalf("after the last approval: %v", c)
	}
	return c
}

// submit hands in a component with a check value that its officer states.
func (d *desk) submit(name string, c *keydv1.Ceremony, index int, component []byte, checkValue string, spoil bool) (*keydv1.Ceremony, error) {
	d.t.Helper()
	o, err := ceremony.Decode[ceremony.Opening](c.Opening.Document, ceremony.MaxDocument)
	if err != nil {
		d.t.Fatal(err)
	}
	sealed, err := ceremony.SealComponent(o, ceremony.Digest(c.Opening.Document), name, index, component)
	if err != nil {
		d.t.Fatal(err)
	}
	if spoil {
		sealed[len(sealed)-1] ^= 1
	}
	s := d.statement(name, ceremony.Submit, c.Definition, c)
	s.Index, s.Component, s.CheckValue = index, ceremony.Digest(sealed), checkValue
	return d.ceremonies[name].SubmitComponent(d.ctx(), &keydv1.SubmitComponentRequest{CeremonyId: c.CeremonyId, Statement: d.sign(name, s), SealedComponent: sealed})
}

// TestModulesRefuseOfficers shows each reason about officers and keys that only a module
// gives: the front passes on what it was sent.
func TestModulesRefuseOfficers(t *testing.T) {
	d := newDesk(t, start(t))
	zone := func(name string) *ceremony.KeySpec {
		return &ceremony.KeySpec{Name: name, Version: 1, Usage: "P0", Algorithm: "A", Length: 16, Mode: "B", Exportability: "N", Direction: "both", Peers: []string{"*"}, Formats: []hsm.Format{hsm.Format4}}
	}
	create := func(name string) *ceremony.Definition {
		return &ceremony.Definition{Kind: ceremony.Create, Key: zone(name)}
	}
	load := func(name string) *keydv1.Ceremony {
		return d.mustBegin(&ceremony.Definition{Kind: ceremony.Load, Key: zone(name), Components: 2})
	}
	protection := &ceremony.KeyRef{Name: "house.kek", Version: 1}
	kek := zone(protection.Name)
	kek.Usage, kek.Direction, kek.Peers, kek.Formats, kek.Length = "K1", "", nil, nil, 32
	d.carryOut(&ceremony.Definition{Kind: ceremony.Create, Key: kek})
	d.carryOut(create("zone.kept"))

	one, two := unhex(t, "00112233445566778899AABBCCDDEEFF"), unhex(t, "F0E1D2C3B4A5968778695A4B3C2D1E0F")
	check := func(value []byte) string {
		v, err := officer.CheckValue("A", value)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for want, provoke := range map[string]func() error{
		"SIGNATURE_INVALID": func() error {
			b := d.encode(create("zone.a"))
			_, err := d.ceremonies["officer-1"].BeginCeremony(d.ctx(), &keydv1.BeginCeremonyRequest{
				Definition: b, Statement: d.sign("officer-2", d.statement("officer-1", ceremony.Begin, b, nil))})
			return err
		},
		"STATEMENT_MISMATCH": func() error {
			b := d.encode(create("zone.b"))
			other := d.statement("officer-1", ceremony.Begin, d.encode(create("zone.other")), nil)
			_, err := d.ceremonies["officer-1"].BeginCeremony(d.ctx(), &keydv1.BeginCeremonyRequest{Definition: b, Statement: d.sign("officer-1", other)})
			return err
		},
		"OFFICER_REPEATED": func() error {
			c := d.mustBegin(create("zone.c"))
			c, err := d.approve("officer-1", c)
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.approve("officer-1", c)
			return err
		},
		"QUORUM_MISSING": func() error {
			definition := create("zone.d")
			definition.Approvals = len(officers) + 1
			_, err := d.begin(definition)
			return err
		},
		"COMPONENT_INVALID": func() error {
			_, err := d.submit("officer-1", load("zone.e"), 1, one, check(one), true)
			return err
		},
		"CHECK_VALUE_MISMATCH": func() error {
			_, err := d.submit("officer-1", load("zone.f"), 1, one, check(two), false)
			return err
		},
		"KEY_VALUE_REFUSED": func() error { // both components are the same: the key is zeros
			c := load("zone.g")
			if _, err := d.submit("officer-1", c, 1, one, check(one), false); err != nil {
				t.Fatal(err)
			}
			_, err := d.submit("officer-2", c, 2, one, check(one), false)
			return err
		},
		"KEY_EXISTS": func() error {
			_, err := d.begin(create("zone.kept"))
			return err
		},
		"KEY_BLOCK_INVALID": func() error {
			_, err := d.begin(&ceremony.Definition{Kind: ceremony.Import, Key: zone("zone.h"), Under: protection, Block: "D0112P0AE00E0000" + string(slices.Repeat([]byte("0"), 96))})
			return err
		},
		"EXPORT_FORBIDDEN": func() error {
			_, err := d.begin(&ceremony.Definition{Kind: ceremony.Export, Target: &ceremony.KeyRef{Name: "zone.kept", Version: 1}, Under: protection,
				Export: &ceremony.BlockForm{Version: "D", Exportability: "N"}})
			return err
		},
	} {
		if got := reason(provoke()); got != want {
			t.Errorf("%s: %s", want, got)
		}
	}
	// Nothing that was refused is kept.
	keys := keydv1.NewKeyServiceClient(d.connect(d.tls("auditor")))
	list, err := keys.ListKeys(d.ctx(), &keydv1.ListKeysRequest{NamePrefix: "zone."})
	if err != nil || len(list.Keys) != 1 || list.Keys[0].KeyId != "zone.kept" {
		t.Errorf("keys: %v, %v", list, err)
	}
	if _, err := d.pins().TranslatePinData(d.ctx(), &keydv1.TranslatePinDataRequest{
		Incoming: &keydv1.PinKey{KeyId: "zone.kept", Format: keydv1.PinBlockFormat_ISO_FORMAT_4}, Outgoing: &keydv1.PinKey{KeyId: "zone.kept", Format: keydv1.PinBlockFormat_ISO_FORMAT_4},
		PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: make([]byte, 16)}); reason(err) != "PIN_BLOCK_INVALID" {
		t.Errorf("a key that officers made is used: %v", err)
	}
}

// TestTheRegisterOfAnotherTokenIsRefused puts the database of one service under another: no
// key is used, and the status says why.
func TestTheRegisterOfAnotherTokenIsRefused(t *testing.T) {
	one, two := start(t), start(t)
	one.stop()
	two.stop()
	for _, name := range []string{"keyd.db", "keyd.db-wal", "keyd.db-shm"} {
		replaceFile(t, filepath.Join(one.dir, "front", name), filepath.Join(two.dir, "front", name))
	}
	s := startIn(t, two.dir)
	_, err := s.pins().TranslatePinData(s.ctx(), &keydv1.TranslatePinDataRequest{
		Incoming: &keydv1.PinKey{KeyId: "zone-issuer", Format: keydv1.PinBlockFormat_ISO_FORMAT_0}, Outgoing: &keydv1.PinKey{KeyId: "zone-issuer", Format: keydv1.PinBlockFormat_ISO_FORMAT_0},
		PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: make([]byte, 8)})
	if got := reason(err); got != "EPOCH_STALE" && got != "KEY_SEAL_INVALID" {
		t.Errorf("a key of another token's database: %v", err)
	}
	status := s.status()
	if !slices.ContainsFunc(status.Problems, func(p *keydv1.Problem) bool { return p.Severity == keydv1.Problem_CRITICAL }) {
		t.Errorf("the status has nothing critical: %v", status.Problems)
	}
	for _, token := range status.Tokens {
		if token.EpochLoaded != 0 || token.EpochPinned != 1 {
			t.Errorf("module %d: register %d is loaded, %d is pinned", token.Module, token.EpochLoaded, token.EpochPinned)
		}
	}
}

// replaceFile puts what one file holds into another, with owner and mode of that one, or
// removes it where there is none.
func replaceFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.Remove(to); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
