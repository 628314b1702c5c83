package module

import (
	"bufio"
	"bytes"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"keyd/ceremony"
	"keyd/checkpoint"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/checkpoints"
	"keyd/hsm/module/internal/injection"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/pinrecords"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/softhsm"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
	"keyd/hsm/module/internal/tries"
	"keyd/hsm/module/internal/working"
	"keyd/officer"
)

// A front that was taken over may send the module anything. It has what the honest front
// has: every paper, every sealed key, every epoch that ever was. The officers work on
// machines of their own; one of them may be dishonest, and help it.

// siege is a module on a real token, and a front that means it no good.
type siege struct {
	t        testing.TB
	conn     net.Conn
	in       *bufio.Reader
	id       uint64
	server   *server
	fresh    tokentest.Fresh
	token    *token.Token
	ledger   string // its path
	now      time.Time
	officers map[string]*ecdsa.PrivateKey
	roster   string
	identity string
	epochs   [][]byte // that were pinned, in their order
	keys     map[string]hsm.Key
	theirs   []byte // the register of other tokens, for definitions that name one
}

func besiege(t testing.TB) *siege {
	t.Helper()
	b, roster := newSiege(t)
	b.found(sealing.FirstGeneration, func(s *token.Session, clock func() time.Time) error {
		if err := sealing.ImportMasters(s, sealing.FirstGeneration, xor(t, presentShares...)); err != nil {
			return err
		}
		return quorum.Found(s, roster, clock)
	})
	return b
}

// newSiege has three officers, and a token that nobody has set up.
func newSiege(t testing.TB) (*siege, *ceremony.Roster) {
	t.Helper()
	b := &siege{t: t, officers: make(map[string]*ecdsa.PrivateKey), keys: make(map[string]hsm.Key), now: time.Now()}
	roster := &ceremony.Roster{Quorum: ceremony.Quorum{Components: 2, Approvals: 2, Roster: 2}}
	for _, name := range []string{"alice", "bob", "carol"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		b.must(err)
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		b.must(err)
		b.officers[name] = key
		roster.Officers = append(roster.Officers, ceremony.Officer{Name: name, Identity: "spiffe://bank.example/" + name, Key: der})
	}
	return b, roster
}

// found sets a fresh token up, and starts a module on it.
func (b *siege) found(generation uint32, setUp func(*token.Session, func() time.Time) error) {
	t := b.t
	t.Helper()
	b.fresh = tokentest.SoftHSM(t)
	tok := b.fresh.Open(t, 2)
	clock := func() time.Time { return b.now }
	page, err := register.OpenPage(-1)
	b.must(err)
	var masters *sealing.Masters
	b.ledger = filepath.Join(t.TempDir(), "ledger")
	given, err := CreateLedger(b.ledger)
	b.must(err)
	t.Cleanup(func() { _ = given.Close() })
	var officers *quorum.Engine
	var keys *working.Keys
	set := sealing.NewSet()
	reg := register.New(page, set, false, clock, softhsm.Store{b.fresh.Directory})
	b.must(tok.Do(func(s *token.Session) (err error) {
		if err = setUp(s, clock); err != nil {
			return err
		}
		if masters, err = sealing.FindMasters(s, generation); err != nil {
			return err
		}
		keys = working.New(tok, sealing.NewCache(tok, set, 64), 64, reg)
		officers, err = quorum.New(s, keys, set, reg, ledger.Open(int(given.Fd())), false)
		return err
	}))
	path := filepath.Join(t.TempDir(), "velocity")
	f, err := CreateVelocity(path, 1024)
	b.must(err)
	t.Cleanup(func() { _ = f.Close() })
	table, err := openVelocity(VelocityOptions{FD: int(f.Fd()), Boot: strings.Repeat("0", 32), Limits: VelocityLimits{
		Verification: VelocityLimit{Minute: triesADay, Hour: triesADay, Day: triesADay}, Translation: VelocityLimit{Minute: triesADay, Hour: triesADay, Day: triesADay}, Card: VelocityLimit{Minute: triesADay, Hour: triesADay, Day: triesADay},
	}}, tok, masters)
	b.must(err)
	signed, err := CreateCheckpoints(filepath.Join(t.TempDir(), "checkpoints"))
	b.must(err)
	t.Cleanup(func() { _ = signed.Close() })
	allotted, counting := ledger.Open(int(given.Fd())), tries.New(table)
	s := newServer(newEngines(keys, counting, officers, reg, checkpoints.Open(int(signed.Fd())), injection.New(keys, set, reg, allotted, officers), pinrecords.New(keys, set, reg, allotted, counting)), tok.Sessions(),
		func() *wire.Description {
			d := &wire.Description{Label: "test"}
			d.EpochLoaded, d.EpochPinned = reg.Loaded()
			return d
		},
		slog.New(slog.NewTextHandler(io.Discard, nil)), func(err error) { t.Errorf("the process would end: %v", err) })
	front, back := net.Pipe()
	s.attach(back)
	t.Cleanup(func() { _ = front.Close() })
	b.server, b.token = s, tok
	b.conn, b.in = front, bufio.NewReader(front)

	var first wire.EpochDocument
	b.must(b.ask(wire.OpFirstEpoch, &wire.FirstEpoch{}, &first))
	b.must(b.ask(wire.OpLoadEpoch, &wire.LoadEpoch{Epoch: first.Epoch}, &wire.EpochLoaded{}))
	b.epochs = append(b.epochs, first.Epoch)
	var said wire.IdentityDocument
	b.must(b.ask(wire.OpGetIdentity, &wire.GetIdentity{}, &said))
	id, key, r, err := ceremony.ParseIdentity(ceremony.Signed{Document: said.Identity.Document, Signature: said.Identity.Signature})
	b.must(err)
	if id.Epoch != 1 {
		t.Fatalf("epoch %d", id.Epoch)
	}
	b.identity, err = ceremony.KeyFingerprint(key)
	b.must(err)
	b.roster, err = r.Fingerprint()
	b.must(err)
}

func (b *siege) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// ask sends one frame and decodes the answer, or returns the refusal.
func (b *siege) ask(op wire.Op, request, answer proto.Message) error {
	b.t.Helper()
	b.id++
	f := ask(b.t, b.conn, b.in, b.id, op, request)
	if f.Op == wire.OpFailure {
		var failure wire.Failure
		b.must(f.Decode(&failure))
		return fault.New(fault.ParseReason(failure.Reason), failure.Detail)
	}
	return f.Decode(answer)
}

// sign is an honest officer's signature over what the officer sees.
func (b *siege) sign(officer string, s ceremony.Statement) ceremony.Signed {
	b.t.Helper()
	s.Officer, s.Identity, s.Roster, s.Time = officer, b.identity, b.roster, b.now.Unix()
	signed, err := s.Sign(b.officers[officer])
	b.must(err)
	return signed
}

// open begins a ceremony as alice.
func (b *siege) open(d *ceremony.Definition) (*ceremony.Proceedings, error) {
	b.t.Helper()
	if d.ValidFor == 0 {
		d.ValidFor = 3600
	}
	encoded, err := ceremony.Encode(d)
	b.must(err)
	wish := b.sign("alice", ceremony.Statement{Action: ceremony.Begin, Definition: ceremony.Digest(encoded)})
	var opened wire.CeremonyOpened
	if err := b.ask(wire.OpBeginCeremony, &wire.BeginCeremony{Definition: encoded, Statement: wireSigned(wish), Keys: b.inputs(d)}, &opened); err != nil {
		return nil, err
	}
	return &ceremony.Proceedings{Opening: ceremony.Signed{Document: opened.Opening.Document, Signature: opened.Opening.Signature}, Definition: encoded}, nil
}

func (b *siege) begin(d *ceremony.Definition) *ceremony.Proceedings {
	b.t.Helper()
	p, err := b.open(d)
	b.must(err)
	return p
}

// inputs are the sealed keys that a definition names.
func (b *siege) inputs(d *ceremony.Definition) *wire.KeyInputs {
	in := &wire.KeyInputs{Register: b.theirs}
	give := func(r *ceremony.KeyRef) *wire.SealedKey {
		if r == nil {
			return nil
		}
		k, ok := b.keys[r.String()]
		if !ok {
			return nil
		}
		return &wire.SealedKey{Name: k.Name, Sealed: k.Sealed}
	}
	in.Under, in.Target = give(d.Under), give(d.Target)
	if d.Key != nil && d.Key.Version > 1 {
		in.Previous = give(&ceremony.KeyRef{Name: d.Key.Name, Version: d.Key.Version - 1})
	}
	return in
}

func definition(p *ceremony.Proceedings) *ceremony.Definition {
	d, err := ceremony.Decode[ceremony.Definition](p.Definition, ceremony.MaxDocument)
	if err != nil {
		panic(err)
	}
	return d
}

func opening(p *ceremony.Proceedings) *ceremony.Opening {
	o, err := ceremony.Decode[ceremony.Opening](p.Opening.Document, ceremony.MaxDocument)
	if err != nil {
		panic(err)
	}
	return o
}

// component is what an honest officer's client sends.
func (b *siege) component(p *ceremony.Proceedings, officerName string, index int, value string) ceremony.Submission {
	b.t.Helper()
	clear, err := hex.DecodeString(value)
	b.must(err)
	algorithm := "A" // of shares of master keys
	if k := definition(p).Key; k != nil {
		algorithm = k.Algorithm
	}
	check, err := officer.CheckValue(algorithm, clear)
	b.must(err)
	digest := ceremony.Digest(p.Opening.Document)
	sealed, err := ceremony.SealComponent(opening(p), digest, officerName, index, clear)
	b.must(err)
	return ceremony.Submission{Sealed: sealed, Statement: b.sign(officerName, ceremony.Statement{
		Action: ceremony.Submit, Definition: ceremony.Digest(p.Definition), Opening: digest,
		Index: index, Component: ceremony.Digest(sealed), CheckValue: check,
	})}
}

// approval is what an honest officer's client sends.
func (b *siege) approval(p *ceremony.Proceedings, officerName, checkValue string) ceremony.Signed {
	b.t.Helper()
	var components []string
	for i := range len(p.Submissions) {
		for _, s := range p.Submissions {
			statement, err := ceremony.Decode[ceremony.Statement](s.Statement.Document, ceremony.MaxDocument)
			b.must(err)
			if statement.Index == i+1 {
				components = append(components, statement.Component)
			}
		}
	}
	return b.sign(officerName, ceremony.Statement{
		Action: ceremony.Approve, Definition: ceremony.Digest(p.Definition), Opening: ceremony.Digest(p.Opening.Document),
		CheckValue: checkValue, Components: components,
	})
}

func (b *siege) check(p *ceremony.Proceedings) (string, error) {
	b.t.Helper()
	papers, err := ceremony.Encode(p)
	b.must(err)
	var answer wire.CeremonyChecked
	err = b.ask(wire.OpCheckCeremony, &wire.CheckCeremony{Papers: papers, Keys: b.inputs(definition(p))}, &answer)
	return answer.CheckValue, err
}

func (b *siege) carryOut(p *ceremony.Proceedings) (*wire.CeremonyCarriedOut, error) {
	b.t.Helper()
	papers, err := ceremony.Encode(p)
	b.must(err)
	answer := new(wire.CeremonyCarriedOut)
	err = b.ask(wire.OpCarryOut, &wire.CarryOutCeremony{Papers: papers, Keys: b.inputs(definition(p))}, answer)
	return answer, err
}

func (b *siege) commit(out *wire.CeremonyCarriedOut) {
	b.t.Helper()
	b.must(b.ask(wire.OpCommitEpoch, &wire.CommitEpoch{Epoch: out.Epoch}, &wire.EpochCommitted{}))
	b.epochs = append(b.epochs, out.Epoch)
	if k := out.Key; k != nil {
		s, err := hsm.ParseSealed(k.Sealed)
		b.must(err)
		b.keys[(&ceremony.KeyRef{Name: k.Name, Version: s.Header.Version}).String()] = hsm.Key{Name: k.Name, Sealed: k.Sealed}
	}
}

// decided is a ceremony that enough officers have approved.
func (b *siege) decided(p *ceremony.Proceedings) *ceremony.Proceedings {
	b.t.Helper()
	check, err := b.check(p)
	b.must(err)
	p.Approvals = append(p.Approvals, b.approval(p, "alice", check), b.approval(p, "bob", check))
	return p
}

// attempt goes as far with a definition as the module lets it.
func (b *siege) attempt(d *ceremony.Definition) error {
	b.t.Helper()
	p, err := b.open(d)
	if err != nil {
		return err
	}
	if _, err := b.check(p); err != nil {
		return err
	}
	_, err = b.carryOut(b.decided(p))
	return err
}

// done carries out and commits.
func (b *siege) done(p *ceremony.Proceedings) *wire.CeremonyCarriedOut {
	b.t.Helper()
	out, err := b.carryOut(b.decided(p))
	b.must(err)
	b.commit(out)
	return out
}

const (
	componentA = "E09B073B4007541FAB76B04370451031"
	componentB = "4CBF5D51EA8525EF045EFED6E386D9D9" // jPOS: the XOR has the check value 40D522
)

// presentShares are those of the master keys of a siege.
var presentShares = []string{
	"00112233445566778899AABBCCDDEEFF0123456789ABCDEFFEDCBA9876543210",
	"F0E1D2C3B4A5968778695A4B3C2D1E0F5A5A5A5AA5A5A5A5C3C3C3C33C3C3C3C",
}

func xor(t testing.TB, values ...string) []byte {
	t.Helper()
	sum := make([]byte, len(values[0])/2)
	for _, v := range values {
		b, err := hex.DecodeString(v)
		if err != nil {
			t.Fatal(err)
		}
		subtle.XORBytes(sum, sum, b)
	}
	return sum
}

func zone(name string, change ...func(*ceremony.KeySpec)) *ceremony.KeySpec {
	k := &ceremony.KeySpec{
		Name: name, Version: 1, Usage: "P0", Algorithm: "T", Length: 16, Mode: "B", Exportability: "N",
		Direction: hsm.DirectionBoth, Peers: []string{"acquiring"}, Formats: []hsm.Format{hsm.Format0},
	}
	for _, c := range change {
		c(k)
	}
	return k
}

func loading(k *ceremony.KeySpec) *ceremony.Definition {
	return &ceremony.Definition{Kind: ceremony.Load, Key: k, Components: 2}
}

func creating(k *ceremony.KeySpec) *ceremony.Definition {
	return &ceremony.Definition{Kind: ceremony.Create, Key: k}
}

// loaded loads the key of the two components.
func (b *siege) loaded(k *ceremony.KeySpec) hsm.Key {
	b.t.Helper()
	p := b.begin(loading(k))
	p.Submissions = []ceremony.Submission{b.component(p, "alice", 1, componentA), b.component(p, "bob", 2, componentB)}
	b.done(p)
	return b.keys[(&ceremony.KeyRef{Name: k.Name, Version: k.Version}).String()]
}

func (b *siege) created(k *ceremony.KeySpec) hsm.Key {
	b.t.Helper()
	b.done(b.begin(creating(k)))
	return b.keys[(&ceremony.KeyRef{Name: k.Name, Version: k.Version}).String()]
}

// encrypt has the module use a data key, and says how it was refused.
func (b *siege) encrypt(k hsm.Key) error {
	return b.ask(wire.OpEncryptData, &wire.EncryptData{
		Key: &wire.DataKey{Key: &wire.SealedKey{Name: k.Name, Sealed: k.Sealed}, Mode: 1}, Data: make([]byte, 16), Iv: make([]byte, 8),
	}, &wire.EncryptedData{})
}

func data(k *ceremony.KeySpec) {
	k.Usage, k.Formats, k.DataModes = "D0", nil, []string{"CBC"}
}

func protecting(k *ceremony.KeySpec) {
	k.Usage, k.Direction, k.Peers, k.Formats = "K1", "", nil, nil
}

func (b *siege) refused(err error, want fault.Reason) {
	b.t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Reason != want {
		b.t.Errorf("got %v, want %v", err, want)
	}
}

func (b *siege) translate(in, out hsm.Key, block []byte) error {
	pin := func(k hsm.Key) *wire.PinKey {
		return &wire.PinKey{Key: &wire.SealedKey{Name: k.Name, Sealed: k.Sealed}}
	}
	return b.ask(wire.OpTranslatePIN, &wire.TranslatePin{Incoming: pin(in), Outgoing: pin(out), Pan: "4012345678909", Block: block}, &wire.TranslatedPin{})
}

// attacks are named as in docs/threats.md, which says what stops each.
var attacks = []struct {
	name string
	play func(t *testing.T, b *siege)
}{
	{"load a key with the component of one officer in both places", func(_ *testing.T, b *siege) {
		p := b.begin(loading(zone("z")))
		first := b.component(p, "alice", 1, componentA)
		p.Submissions = []ceremony.Submission{first, first}
		_, err := b.check(p)
		b.refused(err, fault.OfficerRepeated)
		p.Submissions[1] = b.component(p, "alice", 2, componentB)
		_, err = b.check(p)
		b.refused(err, fault.OfficerRepeated)
	}},
	{"sign for an officer with a key of its own", func(t *testing.T, b *siege) {
		p := b.begin(creating(zone("z")))
		p.Approvals = []ceremony.Signed{b.approval(p, "alice", "")}
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		b.must(err)
		b.officers["bob"] = own
		p.Approvals = append(p.Approvals, b.approval(p, "bob", ""))
		_, err = b.carryOut(p)
		b.refused(err, fault.SignatureInvalid)
		b.officers["mallory"] = own
		p.Approvals[1] = b.approval(p, "mallory", "")
		_, err = b.carryOut(p)
		b.refused(err, fault.OfficerUnknown)
	}},
	{"carry out with fewer approvals than the roster says", func(_ *testing.T, b *siege) {
		p := b.begin(creating(zone("z")))
		_, err := b.carryOut(p)
		b.refused(err, fault.QuorumMissing)
		p.Approvals = []ceremony.Signed{b.approval(p, "alice", "")}
		_, err = b.carryOut(p)
		b.refused(err, fault.QuorumMissing)
		p.Approvals = append(p.Approvals, p.Approvals[0])
		_, err = b.carryOut(p)
		b.refused(err, fault.OfficerRepeated)
	}},
	{"put another definition under signatures", func(_ *testing.T, b *siege) {
		p := b.decided(b.begin(creating(zone("z"))))
		other, err := ceremony.Encode(creating(zone("z", func(k *ceremony.KeySpec) { k.Exportability = "E" })))
		b.must(err)
		p.Definition = other
		_, err = b.carryOut(p)
		b.refused(err, fault.DefinitionInvalid) // without valid_for
		d := definition(b.begin(creating(zone("z"))))
		d.Key.Exportability = "E"
		p.Definition, err = ceremony.Encode(d)
		b.must(err)
		_, err = b.carryOut(p)
		b.refused(err, fault.StatementMismatch)
	}},
	{"open a ceremony itself, to whose key components are sealed", func(_ *testing.T, b *siege) {
		p := b.begin(loading(zone("z")))
		o := opening(p)
		mine, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		b.must(err)
		point, err := mine.PublicKey.ECDH()
		b.must(err)
		o.Key = point.Bytes()
		forged, err := ceremony.Encode(o)
		b.must(err)
		// No officer's client seals to it: it is not signed by the identity that they pinned.
		p.Opening.Document = forged
		_, err = b.check(p)
		b.refused(err, fault.SignatureInvalid)
		signer, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		b.must(err)
		p.Opening.Signature, err = ceremony.Sign(signer, ceremony.OfOpening, forged)
		b.must(err)
		_, err = b.check(p)
		b.refused(err, fault.SignatureInvalid)
		if _, _, err := ceremony.ParseOpening(&signer.PublicKey, p.Opening); !errors.Is(err, ceremony.ErrOpening) {
			b.t.Errorf("a client takes it: %v", err)
		}
	}},
	{"alter a component on the way", func(_ *testing.T, b *siege) {
		p := b.begin(loading(zone("z")))
		s := b.component(p, "alice", 1, componentA)
		s.Sealed = bytes.Clone(s.Sealed)
		s.Sealed[len(s.Sealed)-1] ^= 1
		p.Submissions = []ceremony.Submission{s}
		_, err := b.check(p)
		b.refused(err, fault.ComponentInvalid)
	}},
	{"move a component to another ceremony", func(_ *testing.T, b *siege) {
		p, q := b.begin(loading(zone("z"))), b.begin(loading(zone("other")))
		q.Submissions = []ceremony.Submission{b.component(p, "alice", 1, componentA)}
		_, err := b.check(q)
		b.refused(err, fault.StatementMismatch)
	}},
	{"sign another's sealed component with a dishonest officer", func(_ *testing.T, b *siege) {
		p := b.begin(loading(zone("z")))
		honest := b.component(p, "bob", 1, componentA)
		stolen := honest
		stolen.Statement = b.sign("carol", ceremony.Statement{
			Action: ceremony.Submit, Definition: ceremony.Digest(p.Definition), Opening: ceremony.Digest(p.Opening.Document),
			Index: 2, Component: ceremony.Digest(honest.Sealed), CheckValue: "000000",
		})
		p.Submissions = []ceremony.Submission{stolen}
		_, err := b.check(p)
		b.refused(err, fault.ComponentInvalid)
	}},
	{"replay an approval in another ceremony", func(_ *testing.T, b *siege) {
		p, q := b.begin(creating(zone("z"))), b.begin(creating(zone("z")))
		q.Approvals = []ceremony.Signed{b.approval(p, "alice", ""), b.approval(p, "bob", "")}
		_, err := b.carryOut(q)
		b.refused(err, fault.StatementMismatch)
	}},
	{"exchange a component after the approvals", func(_ *testing.T, b *siege) {
		p := b.begin(loading(zone("z")))
		p.Submissions = []ceremony.Submission{b.component(p, "alice", 1, componentA), b.component(p, "bob", 2, componentB)}
		p = b.decided(p)
		p.Submissions[1] = b.component(p, "carol", 2, "0123456789ABCDEFFEDCBA9876543210")
		_, err := b.carryOut(p)
		b.refused(err, fault.StatementMismatch)
	}},
	{"carry a ceremony out twice", func(_ *testing.T, b *siege) {
		k := b.created(zone("d", data))
		stop := &ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "d", Version: 1}}
		start := &ceremony.Definition{Kind: ceremony.Start, Target: &ceremony.KeyRef{Name: "d", Version: 1}}
		b.done(b.begin(stop))
		again := b.decided(b.begin(start))
		out, err := b.carryOut(again)
		b.must(err)
		b.commit(out)
		b.must(b.encrypt(k))
		b.done(b.begin(stop))
		_, err = b.carryOut(again) // to start it, as officers once decided
		b.refused(err, fault.CeremonyClosed)
		b.refused(b.encrypt(k), fault.KeyDisabled)
	}},
	{"carry out a ceremony that was called off", func(_ *testing.T, b *siege) {
		p := b.decided(b.begin(creating(zone("z"))))
		papers, err := ceremony.Encode(p)
		b.must(err)
		off := b.sign("carol", ceremony.Statement{Action: ceremony.Abort, Definition: ceremony.Digest(p.Definition), Opening: ceremony.Digest(p.Opening.Document)})
		var epoch wire.EpochDocument
		b.must(b.ask(wire.OpAbortCeremony, &wire.AbortCeremony{Papers: papers, Statement: wireSigned(off)}, &epoch))
		b.must(b.ask(wire.OpCommitEpoch, &wire.CommitEpoch{Epoch: epoch.Epoch}, &wire.EpochCommitted{}))
		_, err = b.carryOut(p)
		b.refused(err, fault.CeremonyClosed)
	}},
	{"carry out a ceremony whose time is over", func(_ *testing.T, b *siege) {
		p := b.decided(b.begin(creating(zone("z"))))
		b.now = b.now.Add(time.Hour)
		_, err := b.carryOut(p)
		b.refused(err, fault.CeremonyExpired)
	}},
	{"set the clock back, so that it is not over", func(_ *testing.T, b *siege) {
		p := b.decided(b.begin(creating(zone("z"))))
		b.now = b.now.Add(time.Hour)
		b.created(zone("other")) // the epoch begins now
		b.now = b.now.Add(-2 * time.Hour)
		_, err := b.carryOut(p)
		b.refused(err, fault.CeremonyExpired)
	}},
	{"commit a register that it made itself", func(_ *testing.T, b *siege) {
		e, err := ceremony.ParseEpoch(b.epochs[0])
		b.must(err)
		next := e.Clone()
		next.Version, next.Previous = 2, ceremony.Digest(b.epochs[0])
		next.Roster.Officers = next.Roster.Officers[:2]
		encoded, err := ceremony.Encode(next)
		b.must(err)
		for _, code := range [][]byte{make([]byte, ceremony.EpochMACSize), b.epochs[0][len(b.epochs[0])-ceremony.EpochMACSize:]} {
			forged := append(bytes.Clone(encoded), code...)
			b.refused(b.ask(wire.OpCommitEpoch, &wire.CommitEpoch{Epoch: forged}, &wire.EpochCommitted{}), fault.EpochInvalid)
			b.refused(b.ask(wire.OpLoadEpoch, &wire.LoadEpoch{Epoch: forged}, &wire.EpochLoaded{}), fault.EpochInvalid)
		}
	}},
	{"feed an older register back, in which a key is not stopped", func(_ *testing.T, b *siege) {
		k := b.created(zone("d", data))
		b.must(b.encrypt(k))
		b.done(b.begin(&ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "d", Version: 1}}))
		for _, old := range b.epochs[:len(b.epochs)-1] {
			b.refused(b.ask(wire.OpLoadEpoch, &wire.LoadEpoch{Epoch: old}, &wire.EpochLoaded{}), fault.EpochStale)
			b.refused(b.ask(wire.OpCommitEpoch, &wire.CommitEpoch{Epoch: old}, &wire.EpochCommitted{}), fault.EpochStale)
		}
		b.must(b.ask(wire.OpLoadEpoch, &wire.LoadEpoch{Epoch: b.epochs[0], Proposal: true}, &wire.EpochLoaded{})) // offered, never pinned
		b.refused(b.encrypt(k), fault.KeyDisabled)
	}},
	{"commit one of two registers that follow the same one, then the other", func(_ *testing.T, b *siege) {
		p, q := b.decided(b.begin(creating(zone("one", data)))), b.decided(b.begin(creating(zone("two", data))))
		first, err := b.carryOut(p)
		b.must(err)
		second, err := b.carryOut(q)
		b.must(err)
		b.commit(first)
		b.refused(b.ask(wire.OpCommitEpoch, &wire.CommitEpoch{Epoch: second.Epoch}, &wire.EpochCommitted{}), fault.EpochStale)
		b.refused(b.encrypt(hsm.Key{Name: second.Key.Name, Sealed: second.Key.Sealed}), fault.KeySealInvalid)
		b.must(b.encrypt(hsm.Key{Name: first.Key.Name, Sealed: first.Key.Sealed}))
	}},
	{"lead a token of a fleet to what no token has pinned, or back", func(_ *testing.T, b *siege) {
		p, q := b.decided(b.begin(creating(zone("one", data)))), b.decided(b.begin(creating(zone("two", data))))
		never, err := b.carryOut(p)
		b.must(err)
		second, err := b.carryOut(q)
		b.must(err)
		var committed wire.EpochCommitted
		b.must(b.ask(wire.OpCommitEpoch, &wire.CommitEpoch{Epoch: second.Epoch}, &committed))
		other := creating(zone("three", data))
		r := b.decided(b.begin(other))
		third, err := b.carryOut(r)
		b.must(err)
		follow := func(epoch []byte, links ...[]byte) error {
			return b.ask(wire.OpFollowEpoch, &wire.FollowEpoch{Epoch: epoch, Links: links}, &wire.EpochFollowed{})
		}
		forged := bytes.Clone(committed.Link)
		clear(forged[:32])
		b.refused(follow(never.Epoch, committed.Link), fault.EpochStale)
		b.refused(follow(third.Epoch, committed.Link), fault.EpochStale)
		b.refused(follow(third.Epoch), fault.EpochStale)
		b.refused(follow(third.Epoch, forged), fault.EpochInvalid)
		b.refused(follow(b.epochs[0], committed.Link), fault.EpochStale)
		b.refused(follow(b.epochs[0]), fault.EpochStale)
		b.refused(b.encrypt(hsm.Key{Name: third.Key.Name, Sealed: third.Key.Sealed}), fault.KeySealInvalid)
		b.must(b.encrypt(hsm.Key{Name: second.Key.Name, Sealed: second.Key.Sealed}))
	}},
	{"have a token go by the register of another fleet with the same master keys", func(t *testing.T, b *siege) {
		fleet := besiege(t)
		p := fleet.decided(fleet.begin(creating(zone("theirs", data))))
		theirs, err := fleet.carryOut(p)
		b.must(err)
		var committed wire.EpochCommitted
		b.must(fleet.ask(wire.OpCommitEpoch, &wire.CommitEpoch{Epoch: theirs.Epoch}, &committed))
		b.refused(b.ask(wire.OpFollowEpoch, &wire.FollowEpoch{Epoch: theirs.Epoch, Links: [][]byte{committed.Link}}, &wire.EpochFollowed{}), fault.EpochStale)
		b.refused(b.ask(wire.OpFollowEpoch, &wire.FollowEpoch{Epoch: theirs.Epoch}, &wire.EpochFollowed{}), fault.EpochStale)
		b.refused(b.ask(wire.OpCommitEpoch, &wire.CommitEpoch{Epoch: theirs.Epoch}, &wire.EpochCommitted{}), fault.EpochStale)
		b.refused(b.ask(wire.OpLoadEpoch, &wire.LoadEpoch{Epoch: theirs.Epoch}, &wire.EpochLoaded{}), fault.EpochStale)
		// Officers who want another one are given this one; or one of them is enough.
		join := &ceremony.Definition{Kind: ceremony.Join, Register: ceremony.Digest([]byte("another"))}
		b.theirs = theirs.Epoch
		b.refused(b.attempt(join), fault.StatementMismatch)
		join.Register = ceremony.Digest(theirs.Epoch)
		alone := b.begin(join)
		alone.Approvals = append(alone.Approvals, b.approval(alone, "alice", ""))
		_, err = b.carryOut(alone)
		b.refused(err, fault.QuorumMissing)
	}},
	{"use a key whose register was never committed", func(_ *testing.T, b *siege) {
		out, err := b.carryOut(b.decided(b.begin(creating(zone("d", data)))))
		b.must(err)
		b.refused(b.encrypt(hsm.Key{Name: out.Key.Name, Sealed: out.Key.Sealed}), fault.KeySealInvalid)
	}},
	{"change what a sealed key may be used for", func(t *testing.T, b *siege) {
		k := b.created(zone("z"))
		s, err := hsm.ParseSealed(k.Sealed)
		b.must(err)
		h := *s.Header
		h.Usage, h.Formats, h.DataModes = "D0", nil, []string{"CBC"}
		body, err := hsm.SealedBody(&h, s.Wrapped)
		b.must(err)
		b.refused(b.encrypt(hsm.Key{Name: k.Name, Sealed: append(body, s.MAC...)}), fault.KeySealInvalid)
		for at := 0; at < len(k.Sealed); at += 7 {
			altered := bytes.Clone(k.Sealed)
			altered[at] ^= 0x20
			b.refused(b.encrypt(hsm.Key{Name: k.Name, Sealed: altered}), fault.KeySealInvalid)
		}
	}},
	{"hand a sealed key in under another's name", func(_ *testing.T, b *siege) {
		k := b.created(zone("d", data))
		b.refused(b.encrypt(hsm.Key{Name: "e", Sealed: k.Sealed}), fault.KeySealInvalid)
	}},
	{"put the value of one sealed key into another", func(_ *testing.T, b *siege) {
		pin, d := b.created(zone("z")), b.created(zone("d", data))
		from, err := hsm.ParseSealed(pin.Sealed)
		b.must(err)
		into, err := hsm.ParseSealed(d.Sealed)
		b.must(err)
		body, err := hsm.SealedBody(into.Header, from.Wrapped)
		b.must(err)
		b.refused(b.encrypt(hsm.Key{Name: "d", Sealed: append(body, into.MAC...)}), fault.KeySealInvalid)
	}},
	{"load the same value again, for another purpose", func(_ *testing.T, b *siege) {
		b.loaded(zone("z"))
		p := b.begin(loading(zone("d", data)))
		p.Submissions = []ceremony.Submission{b.component(p, "alice", 1, componentA), b.component(p, "bob", 2, componentB)}
		_, err := b.check(p)
		b.refused(err, fault.KeyValueRefused)
	}},
	{"export a key that may not leave", func(_ *testing.T, b *siege) {
		b.created(zone("z"))
		b.created(zone("kbpk", protecting))
		b.refused(b.attempt(&ceremony.Definition{ // even two officers cannot
			Kind: ceremony.Export, Target: &ceremony.KeyRef{Name: "z", Version: 1}, Under: &ceremony.KeyRef{Name: "kbpk", Version: 1},
			Export: &ceremony.BlockForm{Version: "B", Exportability: "N"},
		}), fault.ExportForbidden)
	}},
	{"export a key under one that is no key block protection key", func(_ *testing.T, b *siege) {
		b.created(zone("z", func(k *ceremony.KeySpec) { k.Exportability = "E" }))
		b.created(zone("d", data))
		b.refused(b.attempt(&ceremony.Definition{
			Kind: ceremony.Export, Target: &ceremony.KeyRef{Name: "z", Version: 1}, Under: &ceremony.KeyRef{Name: "d", Version: 1},
			Export: &ceremony.BlockForm{Version: "B", Exportability: "N"},
		}), fault.KeyUsageMismatch)
	}},
	{"give another key than the one that officers named", func(_ *testing.T, b *siege) {
		b.created(zone("z", func(k *ceremony.KeySpec) { k.Exportability = "E" }))
		b.created(zone("secret", func(k *ceremony.KeySpec) { k.Exportability = "E" }))
		b.created(zone("kbpk", protecting))
		p := b.decided(b.begin(&ceremony.Definition{
			Kind: ceremony.Export, Target: &ceremony.KeyRef{Name: "z", Version: 1}, Under: &ceremony.KeyRef{Name: "kbpk", Version: 1},
			Export: &ceremony.BlockForm{Version: "B", Exportability: "N"},
		}))
		b.keys["z?version=1"] = b.keys["secret?version=1"]
		_, err := b.carryOut(p)
		b.refused(err, fault.KeySealInvalid)
	}},
	{"hide what an earlier version may be used for, so that one officer is enough", func(_ *testing.T, b *siege) {
		b.created(zone("z"))
		b.created(zone("open", func(k *ceremony.KeySpec) { k.Exportability = "E" }))
		d := creating(zone("z", func(k *ceremony.KeySpec) { k.Version, k.Exportability = 2, "E" }))
		b.keys["z?version=1"] = b.keys["open?version=1"]
		_, err := b.open(d)
		b.refused(err, fault.KeySealInvalid)
		delete(b.keys, "z?version=1")
		_, err = b.open(d)
		b.refused(err, fault.KeyNotFound)
	}},
	{"make one officer the roster", func(_ *testing.T, b *siege) {
		e, err := ceremony.ParseEpoch(b.epochs[0])
		b.must(err)
		alone := e.Roster
		alone.Officers = alone.Officers[:1]
		_, err = b.open(&ceremony.Definition{Kind: ceremony.Change, Roster: &alone})
		b.refused(err, fault.DefinitionInvalid)
		fewer := e.Roster
		fewer.Officers = fewer.Officers[:2]
		p := b.begin(&ceremony.Definition{Kind: ceremony.Change, Roster: &fewer})
		p.Approvals = []ceremony.Signed{b.approval(p, "alice", "")}
		_, err = b.carryOut(p)
		b.refused(err, fault.QuorumMissing)
	}},
	{"use papers of an officer who has left the roster", func(_ *testing.T, b *siege) {
		open := b.begin(creating(zone("z")))
		open.Approvals = []ceremony.Signed{b.approval(open, "carol", ""), b.approval(open, "bob", "")}
		e, err := ceremony.ParseEpoch(b.epochs[0])
		b.must(err)
		without := e.Roster
		without.Officers = slices.Clone(without.Officers[:2])
		b.done(b.begin(&ceremony.Definition{Kind: ceremony.Change, Roster: &without}))
		_, err = b.carryOut(open)
		b.refused(err, fault.OfficerUnknown)
		open.Approvals = []ceremony.Signed{b.approval(open, "alice", ""), b.approval(open, "bob", "")}
		_, err = b.carryOut(open) // signed under the roster before
		b.refused(err, fault.StatementMismatch)
	}},
	{"find a PIN by trying", func(t *testing.T, b *siege) {
		incoming := b.loaded(zone("z")) // the cardholder's block passes, enciphered under it
		block := pinBlock(t, "AC245A6AAA8271F0AF284E9593C3C9E8", "1234", "4012345678909")
		pvk := b.created(zone("pvk", func(k *ceremony.KeySpec) { k.Usage, k.Mode, k.Direction, k.Formats = "V2", "V", "", nil }))
		tried := 0
		for pvv := range 10_000 {
			var answer wire.VerifiedPin
			err := b.ask(wire.OpVerifyPIN, &wire.VerifyPin{
				Incoming:     &wire.PinKey{Key: &wire.SealedKey{Name: incoming.Name, Sealed: incoming.Sealed}},
				Verification: &wire.SealedKey{Name: pvk.Name, Sealed: pvk.Sealed},
				Pan:          "4012345678909", Block: block,
				Expected: &wire.VerifyPin_VisaPvv{VisaPvv: &wire.VisaPvv{KeyIndex: 1, Pvv: fmt.Sprintf("%04d", pvv)}},
			}, &answer)
			if err != nil {
				b.refused(err, fault.RateLimited)
				break
			}
			tried++
		}
		if tried != triesADay {
			t.Errorf("%d tries a day, want %d", tried, triesADay)
		}
		out := b.created(zone("to"))
		translated := 0
		for range 10_000 {
			if err := b.translate(incoming, out, block); err != nil {
				b.refused(err, fault.RateLimited)
				break
			}
			translated++
		}
		if translated != triesADay {
			t.Errorf("%d translations a day, want %d", translated, triesADay)
		}
		// Of what is no block nothing is said, whatever is wrong with it.
		for i := range 8 {
			bad := bytes.Clone(block)
			bad[i] ^= 1
			b.refused(b.translate(incoming, out, bad), fault.PINBlockInvalid)
		}
	}},
	{"translate a PIN to a partner of another group", func(_ *testing.T, b *siege) {
		in := b.created(zone("z"))
		out := b.created(zone("other", func(k *ceremony.KeySpec) { k.Peers = []string{"issuing"} }))
		b.refused(b.translate(in, out, make([]byte, 8)), fault.TranslationForbidden)
	}},
	{"translate against the direction of a key", func(_ *testing.T, b *siege) {
		in := b.created(zone("in", func(k *ceremony.KeySpec) { k.Direction = hsm.DirectionIncoming }))
		out := b.created(zone("out", func(k *ceremony.KeySpec) { k.Direction = hsm.DirectionOutgoing }))
		b.refused(b.translate(out, in, make([]byte, 8)), fault.KeyUsageMismatch)
	}},
	{"use a key that protects keys on data", func(_ *testing.T, b *siege) {
		k := b.created(zone("kbpk", protecting))
		b.refused(b.encrypt(k), fault.KeyUsageMismatch)
	}},
	{"read a PIN block as data", func(_ *testing.T, b *siege) {
		k := b.created(zone("z"))
		b.refused(b.ask(wire.OpDecryptData, &wire.DecryptData{
			Key: &wire.DataKey{Key: &wire.SealedKey{Name: k.Name, Sealed: k.Sealed}, Mode: 1}, Data: make([]byte, 8), Iv: make([]byte, 8),
		}, &wire.DecryptedData{}), fault.KeyUsageMismatch)
	}},
	{"front rewrites the log", func(_ *testing.T, b *siege) {
		was := newHistory("a", "b", "c")
		b.mustSign(was, 3, 0)
		now := newHistory("a", "x", "c", "d")
		b.refused(b.signTree(now, 3, 0), fault.CheckpointInconsistent)
		b.refused(b.signTree(now, 4, 3), fault.CheckpointInconsistent)
		b.refused(b.signTree(now, 4, 0), fault.CheckpointInconsistent) // as if it were the first
		b.mustSign(was.add("d"), 4, 3)
	}},
	{"front shows two histories", func(_ *testing.T, b *siege) {
		common := newHistory("a", "b")
		b.mustSign(common, 2, 0)
		one, two := newHistory("a", "b", "c"), newHistory("a", "b", "d")
		b.mustSign(one, 3, 2)
		b.refused(b.signTree(two, 3, 2), fault.CheckpointInconsistent)
		b.refused(b.signTree(two.add("e"), 4, 2), fault.CheckpointInconsistent) // a proof from what is not the last
		b.mustSign(one.add("f"), 4, 3)
	}},
	{"front rolls the log back", func(_ *testing.T, b *siege) {
		log := newHistory("a", "b", "c", "d")
		b.mustSign(log, 4, 0)
		for n := int64(1); n < 4; n++ {
			b.refused(b.signTree(log, n, 0), fault.CheckpointOlder)
		}
		var last wire.CheckpointKept
		b.must(b.ask(wire.OpLastCheckpoint, &wire.LastCheckpoint{Origin: historyOrigin}, &last))
		if last.Size != 4 {
			b.t.Errorf("%d entries are remembered", last.Size)
		}
	}},
	{"have something else signed as a checkpoint", func(_ *testing.T, b *siege) {
		root := make([]byte, 32)
		for _, m := range []*wire.SignCheckpoint{
			{Origin: string(ceremony.OfRecord) + "\x00{}", Size: 1, Root: root},
			{Origin: historyOrigin + "\n1\nAAAA", Size: 1, Root: root},
			{Origin: "", Size: 1, Root: root},
			{Origin: "keyd/" + strings.Repeat("a", 1000) + historyOrigin[4:], Size: 1, Root: root},
			{Origin: historyOrigin, Size: 0, Root: root},
			{Origin: historyOrigin, Size: 1 << 63, Root: root},
			{Origin: historyOrigin, Size: 1, Root: root[1:]},
			{Origin: historyOrigin, Size: 1, Root: append(root, 0)},
			{Origin: historyOrigin, Size: 1, Root: root, Proof: [][]byte{root[1:]}},
			{Origin: historyOrigin, Size: 1, Root: root, Proof: slices.Repeat([][]byte{root}, checkpoint.MaxProof+1)},
		} {
			b.refused(b.ask(wire.OpSignCheckpoint, m, &wire.CheckpointSigned{}), fault.RequestInvalid)
			b.refused(b.ask(wire.OpLastCheckpoint, &wire.LastCheckpoint{Origin: "x"}, &wire.CheckpointKept{}), fault.RequestInvalid)
		}
	}},
	{"fill the modules' memory of logs", func(_ *testing.T, b *siege) {
		log := newHistory("a", "b")
		b.mustSign(log, 1, 0)
		other := func(n int) error {
			tree := log.tree(1)
			return b.ask(wire.OpSignCheckpoint, &wire.SignCheckpoint{Origin: fmt.Sprintf("keyd/%032x", n), Size: 1, Root: tree.Root[:]}, &wire.CheckpointSigned{})
		}
		for n := 1; n < checkpoints.MaxLogs; n++ {
			b.must(other(n))
		}
		b.refused(other(checkpoints.MaxLogs), fault.CheckpointNotKept)
		b.refused(b.signTree(newHistory("x"), 1, 0), fault.CheckpointInconsistent) // nothing was forgotten
		b.mustSign(log, 2, 1)
	}},
	{"send papers that are none", func(_ *testing.T, b *siege) {
		p := b.decided(b.begin(creating(zone("z"))))
		good, err := ceremony.Encode(p)
		b.must(err)
		for _, papers := range [][]byte{nil, []byte("{}"), []byte("null"), []byte(`{"opening":null}`), good[:len(good)-1], append(bytes.Clone(good), ' '), bytes.Repeat([]byte("["), 100_000)} {
			for op, m := range map[wire.Op]proto.Message{
				wire.OpCheckCeremony: &wire.CheckCeremony{Papers: papers}, wire.OpCarryOut: &wire.CarryOutCeremony{Papers: papers},
				wire.OpAbortCeremony: &wire.AbortCeremony{Papers: papers, Statement: wireSigned(p.Approvals[0])},
			} {
				if err := b.ask(op, m, &wire.EpochDocument{}); err == nil {
					b.t.Errorf("op %d takes %.40q", op, papers)
				}
			}
		}
	}},
	{"have a restored register accepted by one officer", func(_ *testing.T, b *siege) {
		b.created(zone("z"))
		p := b.begin(&ceremony.Definition{Kind: ceremony.Adopt, Register: ceremony.Digest(b.epochs[len(b.epochs)-1])})
		p.Approvals = []ceremony.Signed{b.approval(p, "alice", "")}
		_, err := b.carryOut(p)
		b.refused(err, fault.QuorumMissing)
	}},
	{"leave out what officers stop with a restored register", func(_ *testing.T, b *siege) {
		k := b.created(zone("d", data))
		register := ceremony.Digest(b.epochs[len(b.epochs)-1])
		p := b.decided(b.begin(&ceremony.Definition{Kind: ceremony.Adopt, Register: register, Stopped: []ceremony.KeyRef{{Name: "d", Version: 1}}}))
		other, err := ceremony.Encode(&ceremony.Definition{Kind: ceremony.Adopt, Register: register, ValidFor: 3600})
		b.must(err)
		honest := p.Definition
		p.Definition = other
		_, err = b.carryOut(p)
		b.refused(err, fault.StatementMismatch)
		p.Definition = honest
		out, err := b.carryOut(p)
		b.must(err)
		b.commit(out)
		b.refused(b.encrypt(k), fault.KeyDisabled) // from the very first moment
	}},
	{"have a backup vouched for as one of an older register", func(_ *testing.T, b *siege) {
		b.created(zone("z"))
		older := b.epochs[len(b.epochs)-1]
		b.created(zone("y"))
		var answer wire.BackupSealed
		b.must(b.ask(wire.OpSealBackup, &wire.SealBackup{Digest: make([]byte, 32)}, &answer))
		seal := ceremony.BackupSeal{Signed: ceremony.Signed{Document: answer.Statement.Document, Signature: answer.Statement.Signature}, Code: answer.Code}
		said, _, err := seal.Parse()
		b.must(err)
		if said.Document != ceremony.Digest(b.epochs[len(b.epochs)-1]) {
			b.t.Error("the seal names another register than the one that is pinned")
		}
		if err := b.token.Do(func(s *token.Session) error { _, err := quorum.CheckBackup(s, &seal, older); return err }); err == nil {
			b.t.Error("a token that goes by a newer register takes the older one")
		}
		b.refused(b.ask(wire.OpLoadEpoch, &wire.LoadEpoch{Epoch: older}, &wire.EpochLoaded{}), fault.EpochStale)
	}},
	{"bring a stopped key back with papers that it kept", func(_ *testing.T, b *siege) {
		b.created(zone("z"))
		ref := &ceremony.KeyRef{Name: "z", Version: 1}
		b.done(b.begin(&ceremony.Definition{Kind: ceremony.Stop, Target: ref}))
		kept := b.decided(b.begin(&ceremony.Definition{Kind: ceremony.Start, Target: ref}))
		b.done(b.begin(&ceremony.Definition{Kind: ceremony.Start, Target: ref})) // as officers repeat what they were told has failed
		b.done(b.begin(&ceremony.Definition{Kind: ceremony.Stop, Target: ref}))
		_, err := b.carryOut(kept)
		b.refused(err, fault.Conflict)
	}},
	{"have a maker of terminals believed by one officer, or again after one has ended it", func(t *testing.T, b *siege) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		b.must(err)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: b.now.Add(-time.Hour), NotAfter: b.now.Add(time.Hour)}
		authority(template)
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		b.must(err)
		a := &ceremony.Authority{Certificate: der, Uses: []string{ceremony.UseTerminals}}
		p := b.begin(&ceremony.Definition{Kind: ceremony.Trust, Authority: a})
		p.Approvals = []ceremony.Signed{b.approval(p, "alice", "")}
		_, err = b.carryOut(p)
		b.refused(err, fault.QuorumMissing)
		kept := b.decided(b.begin(&ceremony.Definition{Kind: ceremony.Trust, Authority: a}))
		b.done(b.begin(&ceremony.Definition{Kind: ceremony.Trust, Authority: a}))
		b.done(b.begin(&ceremony.Definition{Kind: ceremony.Distrust, Distrusted: []string{a.Fingerprint()}}))
		_, err = b.carryOut(kept)
		b.refused(err, fault.Conflict)
	}},
}

// triesADay is how often the PIN of an account may be tried in a siege.
const triesADay = 5

// pinBlock is a block of ISO format 0 as a terminal sends it.
func pinBlock(t testing.TB, key, pin, pan string) []byte {
	t.Helper()
	k, err := hex.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := des.NewTripleDESCipher(append(k, k[:8]...))
	if err != nil {
		t.Fatal(err)
	}
	field, err := hex.DecodeString(fmt.Sprintf("0%d%s%s", len(pin), pin, strings.Repeat("F", 14-len(pin))))
	if err != nil {
		t.Fatal(err)
	}
	account, err := hex.DecodeString("0000" + pan[:len(pan)-1])
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 8)
	subtle.XORBytes(block, field, account)
	c.Encrypt(block, block)
	return block
}

// TestAHostileFrontAndOneDishonestOfficer plays what docs/threats.md lists, each on a token of
// its own.
func TestAHostileFrontAndOneDishonestOfficer(t *testing.T) {
	documented := threats(t)
	for _, a := range attacks {
		if !slices.Contains(documented, a.name) {
			t.Errorf("docs/threats.md does not say what stops %q", a.name)
		}
	}
	for _, name := range documented {
		if !slices.ContainsFunc(attacks, func(a struct {
			name string
			play func(t *testing.T, b *siege)
		}) bool {
			return a.name == name
		}) {
			t.Errorf("docs/threats.md lists %q, which nobody plays", name)
		}
	}
	if len(attacks) < 20 {
		t.Errorf("only %d attacks", len(attacks))
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) { a.play(t, besiege(t)) })
	}
}

// TestWhatTheAttacksAreComparedWith: the same steps, honestly taken, succeed; otherwise a
// refusal above would prove nothing.
func TestWhatTheAttacksAreComparedWith(t *testing.T) {
	b := besiege(t)
	k := b.loaded(zone("z"))
	s, err := hsm.ParseSealed(k.Sealed)
	b.must(err)
	if s.Header.CheckValue != "40D522" {
		t.Errorf("check value %s", s.Header.CheckValue)
	}
	b.must(b.encrypt(b.created(zone("d", data))))
	b.created(zone("free", func(k *ceremony.KeySpec) { k.Exportability = "E" }))
	b.created(zone("kbpk", protecting))
	out := b.done(b.begin(&ceremony.Definition{
		Kind: ceremony.Export, Target: &ceremony.KeyRef{Name: "free", Version: 1}, Under: &ceremony.KeyRef{Name: "kbpk", Version: 1},
		Export: &ceremony.BlockForm{Version: "B", Exportability: "N"},
	}))
	if !strings.HasPrefix(out.Block, "B0") || !strings.Contains(out.Block, "P0TB") {
		t.Errorf("block %q", out.Block)
	}
}

// threats returns the attacks that docs/threats.md lists: the first column of its table.
func threats(t *testing.T) (names []string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/threats.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\| \d+ \| ([^|]+) \|`).FindAllStringSubmatch(string(b), -1) {
		names = append(names, strings.TrimSpace(m[1]))
	}
	return names
}
