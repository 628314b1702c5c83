package e2e

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/officer"
)

// published is a key that was published in components.
type published struct {
	ID         string   `json:"id"`
	Components []string `json:"components"`
	Key        string   `json:"key"`
	KCV        string   `json:"kcv"`
}

func publishedComponents(t *testing.T) map[string]published {
	t.Helper()
	byID := make(map[string]published)
	for _, p := range readVectors[published](t, "../officer/testdata/components.json") {
		byID[p.ID] = p
	}
	return byID
}

// TestThreeOfficersLoadPublishedKeys: each with a certificate, a signing key, a process and a
// terminal of their own. A translation with such a key gives the published block.
func TestThreeOfficersLoadPublishedKeys(t *testing.T) {
	vectors := publishedComponents(t)
	// The published translation goes to a key that no ceremony takes: it is a weak one.
	s := start(t, testKey{Name: "zone", Usage: "P0", Algorithm: "T", Mode: "B", Value: strings.Repeat("1C", 16)})
	load := func(id, key, checkValue string) {
		v := vectors[id]
		file := filepath.Join(tempDir(t), id+".yaml")
		text := fmt.Sprintf("kind: load\nreason: %s\nkey: {%s}\ncomponents: %d\n", id, key, len(v.Components))
		if checkValue != "" {
			text += "check_value: " + checkValue + "\n"
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		as := func(n int) []string { return []string{"--dir", s.dir, "--as", fmt.Sprintf("officer-%d", n)} }
		begun := openConsole(t, append([]string{"ceremony", "begin", file}, as(1)...)...)
		status, screen := begun.end()
		if status != 0 {
			t.Fatalf("%s: %d\n%s", id, status, screen)
		}
		number := numberIn(t, screen)
		for i, component := range v.Components {
			c := openConsole(t, append([]string{"ceremony", "submit", number, "--definition", file}, as(i+1)...)...)
			c.expect("(32 hex digits, then Enter)")
			c.say(component)
			c.expect("Is that the one on the paper?")
			c.say("yes")
			status, screen := c.end()
			if status != 0 {
				t.Fatalf("%s, component %d: %d\n%s", id, i+1, status, screen)
			}
			if strings.Contains(strings.ReplaceAll(strings.ToUpper(screen), " ", ""), component) || strings.Contains(screen, component[:8]) {
				t.Errorf("%s: component %d is on the screen", id, i+1)
			}
		}
		var last string
		for n := 2; n <= 3; n++ {
			c := openConsole(t, append([]string{"ceremony", "approve", number, "--definition", file}, as(n)...)...)
			c.expect("Type the check value")
			want := checkValue
			if v.KCV != "" {
				want = v.KCV[:6]
			}
			if strings.Contains(c.text(), want) {
				t.Errorf("%s, approval %d: what is to come from the letter is on the screen\n%s", id, n, c.text())
			}
			c.say(want)
			status, screen := c.end()
			if status != 0 {
				t.Fatalf("%s, approval %d: %d\n%s", id, n, status, screen)
			}
			last = screen
		}
		if !strings.Contains(last, "COMPLETED") {
			t.Errorf("%s: after the last approval:\n%s", id, last)
		}
		// The record proves it to somebody who has nothing else.
		record := filepath.Join(tempDir(t), "record")
		if _, err := s.command("", append([]string{"ceremony", "show", number, "--record", record}, as(1)...)...); err != nil {
			t.Error(err)
		}
		said, err := s.command("", "ceremony", "verify", record, "--identity", strings.ReplaceAll(newSeat(t, s, 1).fingerprint(), " ", ""))
		if err != nil || !strings.Contains(said, "officer-2") || !strings.Contains(said, "officer-3") {
			t.Errorf("%s: %v\n%s", id, err, said)
		}
	}
	load("comp-002", "name: zmk, usage: K0, algorithm: T, length: 16, mode_of_use: B", "8CE396")
	load("comp-004", "name: zone-a, usage: P0, algorithm: T, length: 16, mode_of_use: B, direction: both, peers: [a], formats: [0]", "")
	load("comp-005", "name: bdk, usage: B0, algorithm: T, length: 16, mode_of_use: X, peers: ['*'], formats: [0], ksn: off", "08D7B4")
	block, err := hex.DecodeString("1B9C1845EB993A7A")
	if err != nil {
		t.Fatal(err)
	}
	ksn, err := hex.DecodeString("FFFF9876543210E00001")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.pins().TranslatePinData(s.ctx(), &keydv1.TranslatePinDataRequest{
		Incoming:             &keydv1.PinKey{KeyId: "bdk", Dukpt: &keydv1.DukptAttributes{KeySerialNumber: ksn}, Format: keydv1.PinBlockFormat_ISO_FORMAT_0},
		Outgoing:             &keydv1.PinKey{KeyId: "zone", Format: keydv1.PinBlockFormat_ISO_FORMAT_0},
		PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: block,
	})
	if err != nil || hex.EncodeToString(answer.EncryptedPinBlock) != "7d26134e85e7dadf" {
		t.Errorf("%v, %v", answer, err)
	}
	// The key of comp-001 is the one of comp-004, which has a component of zeros.
	d := newSeat(t, s, 1)
	cer := d.begin(written(t, "kind: load\nkey: {name: again, usage: D0, algorithm: T, length: 16, mode_of_use: B, direction: both, data_modes: [CBC]}\ncomponents: 2\n"))
	_, err = d.submit(cer, 1, vectors["comp-001"].Components[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err = newSeat(t, s, 2).submit(cer, 2, vectors["comp-001"].Components[1]); reason(err) != "KEY_VALUE_REFUSED" {
		t.Errorf("a key that is here already: %v", err)
	}
}

// numberIn finds a ceremony's number on a screen.
func numberIn(t *testing.T, screen string) string {
	t.Helper()
	for _, word := range strings.Fields(screen) {
		if ceremony.ValidID(word) {
			return word
		}
	}
	t.Fatalf("no ceremony in\n%s", screen)
	return ""
}

func written(t *testing.T, text string) []byte {
	t.Helper()
	d, err := ceremony.Parse([]byte(text), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := ceremony.Encode(d)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// seat is an officer's part in a test that sends what keyd's own commands never would.
type seat struct {
	t        *testing.T
	name     string
	signer   crypto.Signer
	service  keydv1.CeremonyServiceClient
	identity *ecdsa.PublicKey
	roster   string
}

func newSeat(t *testing.T, s *service, n int) *seat {
	t.Helper()
	name := fmt.Sprintf("officer-%d", n)
	signer, err := officer.OpenKey(filepath.Join(s.dir, "officers", name+".key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &seat{t: t, name: name, signer: signer, service: keydv1.NewCeremonyServiceClient(s.connect(s.tls(name)))}
	d.look()
	return d
}

// look asks what the module says of itself.
func (d *seat) look() {
	d.t.Helper()
	said, err := d.service.GetModule(d.t.Context(), &keydv1.GetModuleRequest{})
	if err != nil {
		d.t.Fatal(err)
	}
	_, key, roster, err := ceremony.ParseIdentity(ceremony.Signed{Document: said.Identity.Document, Signature: said.Identity.Signature})
	if err != nil {
		d.t.Fatal(err)
	}
	d.identity = key
	if d.roster, err = roster.Fingerprint(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *seat) fingerprint() string {
	d.t.Helper()
	f, err := ceremony.KeyFingerprint(d.identity)
	if err != nil {
		d.t.Fatal(err)
	}
	return f
}

func (d *seat) sign(s ceremony.Statement) *keydv1.SignedDocument {
	d.t.Helper()
	s.Officer, s.Identity, s.Roster, s.Time = d.name, d.fingerprint(), d.roster, time.Now().Unix()
	signed, err := s.Sign(d.signer)
	if err != nil {
		d.t.Fatal(err)
	}
	return &keydv1.SignedDocument{Document: signed.Document, Signature: signed.Signature}
}

func (d *seat) wish(definition []byte) (*keydv1.Ceremony, error) {
	return d.service.BeginCeremony(d.t.Context(), &keydv1.BeginCeremonyRequest{
		Definition: definition, Statement: d.sign(ceremony.Statement{Action: ceremony.Begin, Definition: ceremony.Digest(definition)}),
	})
}

func (d *seat) begin(definition []byte) *keydv1.Ceremony {
	d.t.Helper()
	c, err := d.wish(definition)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// component seals a component; change alters what is sent.
func (d *seat) component(c *keydv1.Ceremony, index int, value string, change ...func(*ceremony.Statement)) *keydv1.SubmitComponentRequest {
	d.t.Helper()
	clear, err := hex.DecodeString(value)
	if err != nil {
		d.t.Fatal(err)
	}
	check, err := officer.CheckValue("T", clear)
	if err != nil {
		d.t.Fatal(err)
	}
	o, err := ceremony.Decode[ceremony.Opening](c.Opening.Document, ceremony.MaxDocument)
	if err != nil {
		d.t.Fatal(err)
	}
	digest := ceremony.Digest(c.Opening.Document)
	sealed, err := ceremony.SealComponent(o, digest, d.name, index, clear)
	if err != nil {
		d.t.Fatal(err)
	}
	statement := ceremony.Statement{
		Action: ceremony.Submit, Definition: ceremony.Digest(c.Definition), Opening: digest, Index: index, Component: ceremony.Digest(sealed), CheckValue: check,
	}
	for _, f := range change {
		f(&statement)
	}
	return &keydv1.SubmitComponentRequest{CeremonyId: c.CeremonyId, Statement: d.sign(statement), SealedComponent: sealed}
}

func (d *seat) submit(c *keydv1.Ceremony, index int, value string) (*keydv1.Ceremony, error) {
	d.t.Helper()
	return d.service.SubmitComponent(d.t.Context(), d.component(c, index, value))
}

func (d *seat) approval(c *keydv1.Ceremony) *keydv1.ApproveCeremonyRequest {
	d.t.Helper()
	now, err := d.service.GetCeremony(d.t.Context(), &keydv1.GetCeremonyRequest{CeremonyId: c.CeremonyId})
	if err != nil {
		d.t.Fatal(err)
	}
	components := componentsOf(d.t, now)
	return &keydv1.ApproveCeremonyRequest{CeremonyId: c.CeremonyId, Statement: d.sign(ceremony.Statement{
		Action: ceremony.Approve, Definition: ceremony.Digest(c.Definition), Opening: ceremony.Digest(c.Opening.Document),
		CheckValue: now.CheckValue, Components: components,
	})}
}

// componentsOf returns the digests of the components that were submitted, in their order.
func componentsOf(t testing.TB, c *keydv1.Ceremony) (components []string) {
	t.Helper()
	var statements []*ceremony.Statement
	for _, signed := range c.Submissions {
		s, err := ceremony.Decode[ceremony.Statement](signed.Document, ceremony.MaxDocument)
		if err != nil {
			t.Fatal(err)
		}
		statements = append(statements, s)
	}
	slices.SortFunc(statements, func(a, b *ceremony.Statement) int { return a.Index - b.Index })
	for _, s := range statements {
		components = append(components, s.Component)
	}
	return components
}

func (d *seat) approve(c *keydv1.Ceremony) (*keydv1.Ceremony, error) {
	d.t.Helper()
	return d.service.ApproveCeremony(d.t.Context(), d.approval(c))
}

// TestEachRefusalHasAReasonAndIsAudited: what an officer alone tries, and what somebody on the
// way to the module does.
func TestEachRefusalHasAReasonAndIsAudited(t *testing.T) {
	s := start(t)
	one, two, three := newSeat(t, s, 1), newSeat(t, s, 2), newSeat(t, s, 3)
	const create = "kind: create\nkey: {name: %s, usage: D0, algorithm: A, length: 16, mode_of_use: B, direction: both, data_modes: [CBC]}\n"
	const load = "kind: load\nkey: {name: %s, usage: D0, algorithm: T, length: 16, mode_of_use: B, direction: both, data_modes: [CBC]}\ncomponents: 2\n"
	const a, b = "E09B073B4007541FAB76B04370451031", "4CBF5D51EA8525EF045EFED6E386D9D9"
	named := func(text, name string) []byte { return written(t, fmt.Sprintf(text, name)) }
	refuse := func(what string, err error, want string) {
		t.Helper()
		if reason(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
			return
		}
		said, err := s.command("", "audit", "show", "--dir", s.dir, "--last", "1", "-o", "json")
		if err != nil || !strings.Contains(said, `"`+want+`"`) {
			t.Errorf("%s is not in the audit log: %v\n%s", what, err, said)
		}
	}
	must := func(c *keydv1.Ceremony, err error) *keydv1.Ceremony {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	alone := one.begin(named(create, "alone"))
	if c := must(one.approve(alone)); c.State != keydv1.Ceremony_OPEN || c.ApprovalsMissing != 1 {
		t.Errorf("one officer alone: %v", c)
	}
	_, err := one.approve(alone)
	refuse("one officer alone, again", err, "OFFICER_REPEATED")
	if _, err := keydv1.NewKeyServiceClient(s.connect(s.tls("officer-1"))).GetKey(t.Context(), &keydv1.GetKeyRequest{KeyId: "alone"}); reason(err) != "KEY_NOT_FOUND" {
		t.Errorf("a key with one approval: %v", err)
	}

	twice := one.begin(named(load, "twice"))
	must(one.submit(twice, 1, a))
	_, err = one.submit(twice, 2, b)
	refuse("an officer twice", err, "OFFICER_REPEATED")

	wrong := one.begin(written(t, fmt.Sprintf(load, "wrong")+"check_value: FFFFFF\n"))
	must(one.submit(wrong, 1, a))
	_, err = two.submit(wrong, 2, b)
	refuse("a wrong check value of the key", err, "CHECK_VALUE_MISMATCH")
	_, err = two.service.SubmitComponent(t.Context(), two.component(wrong, 2, b, func(s *ceremony.Statement) { s.CheckValue = "123456" }))
	refuse("a wrong check value of a component", err, "CHECK_VALUE_MISMATCH")

	altered := one.begin(named(load, "altered"))
	request := one.component(altered, 1, a)
	request.SealedComponent = bytes.Clone(request.SealedComponent)
	request.SealedComponent[len(request.SealedComponent)-1] ^= 1
	_, err = one.service.SubmitComponent(t.Context(), request)
	refuse("a component altered on the way", err, "COMPONENT_INVALID")

	first, second := one.begin(named(create, "first")), one.begin(named(create, "first"))
	replayed := one.approval(first)
	replayed.CeremonyId = second.CeremonyId
	_, err = one.service.ApproveCeremony(t.Context(), replayed)
	refuse("an approval replayed to another ceremony", err, "STATEMENT_MISMATCH")

	forged := two.approval(first)
	forged.Statement.Signature = bytes.Clone(forged.Statement.Signature)
	forged.Statement.Signature[len(forged.Statement.Signature)-1] ^= 1
	_, err = two.service.ApproveCeremony(t.Context(), forged)
	refuse("a signature that is none", err, "SIGNATURE_INVALID")
	_, err = one.service.ApproveCeremony(t.Context(), two.approval(first))
	refuse("another officer's statement under one's own certificate", err, "OFFICER_UNKNOWN")

	// An officer who leaves the roster, with a ceremony open.
	open := one.begin(named(create, "left"))
	must(three.approve(open))
	roster := rosterWithout(t, one, "officer-3")
	change := one.begin(roster)
	must(one.approve(change))
	if c := must(two.approve(change)); c.State != keydv1.Ceremony_COMPLETED {
		t.Fatalf("the change of the roster: %v", c)
	}
	three.look()
	_, err = three.wish(named(create, "later"))
	refuse("an officer who left the roster", err, "OFFICER_UNKNOWN")
	one.look()
	two.look()
	_, err = one.approve(open)
	refuse("a ceremony from before", err, "OFFICER_UNKNOWN")

	stranger := keydv1.NewCeremonyServiceClient(s.connect(s.tls("switch")))
	_, err = stranger.BeginCeremony(t.Context(), &keydv1.BeginCeremonyRequest{Definition: named(create, "no"), Statement: one.sign(ceremony.Statement{Action: ceremony.Begin})})
	refuse("a switch", err, "POLICY_DENIED")
}

// rosterWithout is a definition of the present roster without one officer.
func rosterWithout(t *testing.T, d *seat, name string) []byte {
	t.Helper()
	said, err := d.service.GetModule(t.Context(), &keydv1.GetModuleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, _, roster, err := ceremony.ParseIdentity(ceremony.Signed{Document: said.Identity.Document, Signature: said.Identity.Signature})
	if err != nil {
		t.Fatal(err)
	}
	roster.Officers = slices.DeleteFunc(roster.Officers, func(o ceremony.Officer) bool { return o.Name == name })
	encoded, err := ceremony.Encode(&ceremony.Definition{Kind: ceremony.Change, Roster: roster, ValidFor: 3600})
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// TestAnOldDatabaseIsRefused: one that was put back knows an older register than the token.
func TestAnOldDatabaseIsRefused(t *testing.T) {
	s := start(t)
	old := filepath.Join(s.dir, "front.old")
	s.stop()
	front := filepath.Join(s.dir, "front")
	copyAll := func(from, to string) { // with owners and modes
		t.Helper()
		if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	copyAll(front, old)
	s = startIn(t, s.dir)
	one, two := newSeat(t, s, 1), newSeat(t, s, 2)
	cer := one.begin(written(t, "kind: create\nkey: {name: new, usage: D0, algorithm: A, length: 16, mode_of_use: B, direction: both, data_modes: [CBC]}\n"))
	for _, d := range []*seat{one, two} {
		if _, err := d.approve(cer); err != nil {
			t.Fatal(err)
		}
	}
	encrypt := func(s *service, key string) error {
		_, err := s.data().EncryptData(s.ctx(), &keydv1.EncryptDataRequest{Key: &keydv1.DataKey{KeyId: key, Mode: keydv1.DataKey_CBC}, Plaintext: make([]byte, 16)})
		return err
	}
	if err := encrypt(s, "new"); err != nil {
		t.Fatal(err)
	}
	s.stop()
	for _, name := range []string{"keyd.db", "keyd.db-wal", "keyd.db-shm"} {
		if err := os.Remove(filepath.Join(front, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(old, name)); err == nil {
			copyAll(filepath.Join(old, name), filepath.Join(front, name))
		}
	}
	s = startIn(t, s.dir)
	if err := encrypt(s, "data-zone"); reason(err) != "EPOCH_STALE" {
		t.Errorf("a key of an old register: %v", err)
	}
	said, err := s.command("", "audit", "show", "--dir", s.dir, "--last", "1", "-o", "json")
	if err != nil || !strings.Contains(said, "EPOCH_STALE") {
		t.Errorf("%v\n%s", err, said)
	}
}

// TestAnAliasIsConfirmed: a service that says that a name is an alias could lead an officer to
// any key. A script names the key itself.
func TestAnAliasIsConfirmed(t *testing.T) {
	s := start(t)
	as := func(args ...string) []string { return append(args, "--dir", s.dir, "--as", "officer-1") }
	definition := filepath.Join(tempDir(t), "pek.yaml")
	if err := os.WriteFile(definition, []byte("kind: create\nkey: {name: pek, usage: P0, algorithm: T, length: 16, mode_of_use: B, direction: both, peers: [a], formats: [0]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := s.command("", as("key", "create", "--definition", definition, "--yes", "-o", "json")...)
	if err != nil {
		t.Fatal(err)
	}
	var begun keydv1.Ceremony
	if err := protojson.Unmarshal([]byte(said), &begun); err != nil {
		t.Fatal(err)
	}
	if begun.Kind != "create" || begun.Subject != "pek?version=1" {
		t.Errorf("%v", &begun)
	}
	if begun.State != keydv1.Ceremony_COMPLETED {
		if _, err := s.command("", "ceremony", "approve", begun.CeremonyId, "--yes", "--dir", s.dir, "--as", "officer-2"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.command("", as("key", "alias", "set", "issuer", "pek")...); err != nil {
		t.Fatal(err)
	}
	if said, err := s.command("", as("key", "stop", "issuer", "--yes")...); err == nil || !strings.Contains(err.Error()+said, "name the key itself") {
		t.Errorf("%v\n%s", err, said)
	}
	if said, err := s.command("", as("key", "rotate", "pek", "--not-after", "2027-01-01T00:00:00Z", "--yes", "-o", "json")...); err != nil || protojson.Unmarshal([]byte(said), &begun) != nil {
		t.Fatal(err, said)
	}
	if begun.State != keydv1.Ceremony_COMPLETED {
		if _, err := s.command("", "ceremony", "approve", begun.CeremonyId, "--yes", "--dir", s.dir, "--as", "officer-2"); err != nil {
			t.Fatal(err)
		}
	}
	if said, err := s.command("", as("key", "rotate", "pek", "--yes")...); err == nil || !strings.Contains(err.Error()+said, "--not-after") {
		t.Errorf("a version without an end follows one with an end: %v\n%s", err, said)
	}
	c := openConsole(t, as("key", "stop", "issuer", "--yes")...)
	c.expect("is an alias of pek?version=2")
	c.say("no")
	if status, screen := c.end(); status == 0 {
		t.Errorf("stopped all the same:\n%s", screen)
	}
	if _, err := s.command("", as("key", "stop", "pek", "--yes")...); err != nil {
		t.Error(err)
	}
}

// TestAKeyPairAsksForACertificate from the command line, in a name that can be one.
func TestAKeyPairAsksForACertificate(t *testing.T) {
	s := start(t)
	as := func(n int, args ...string) []string {
		return append(args, "--dir", s.dir, "--as", fmt.Sprintf("officer-%d", n))
	}
	said, err := s.command("", as(1, "key", "create", "sign", "--usage", "S0", "--algorithm", "E", "--length", "32", "--mode", "S", "--yes", "-o", "json")...)
	if err != nil {
		t.Fatal(err)
	}
	var begun keydv1.Ceremony
	if err := protojson.Unmarshal([]byte(said), &begun); err != nil {
		t.Fatal(err)
	}
	if begun.State != keydv1.Ceremony_COMPLETED {
		if _, err := s.command("", as(2, "ceremony", "approve", begun.CeremonyId, "--yes")...); err != nil {
			t.Fatal(err)
		}
	}
	said, err = s.command("", as(1, "key", "csr", "sign", "--common-name", "keyd", "--country", "CH")...)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(said))
	if block == nil {
		t.Fatal(said)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || request.CheckSignature() != nil || request.Subject.CommonName != "keyd" || request.Subject.Country[0] != "CH" {
		t.Errorf("%v, %+v", err, request)
	}
	if said, err := s.command("", as(1, "key", "csr", "sign", "--common-name", "keyd", "--country", "Switzerland")...); err == nil || !strings.Contains(err.Error()+said, "two upper-case letters") {
		t.Errorf("a country of eleven letters: %v\n%s", err, said)
	}
}
