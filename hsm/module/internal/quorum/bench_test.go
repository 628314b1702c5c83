package quorum_test

import (
	"crypto/aes"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/softhsm"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
	"keyd/hsm/module/internal/working"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

// bench is a fresh token with a roster, officers with their keys, and a front that keeps
// what it is given.
type bench struct {
	testing.TB
	fresh    tokentest.Fresh
	token    *token.Token
	engine   *quorum.Engine
	register *register.Register
	keys     *working.Keys
	masters  *sealing.Masters
	ledger   *ledger.Ledger
	identity *ecdsa.PublicKey
	now      time.Time
	roster   ceremony.Roster
	signers  map[string]*ecdsa.PrivateKey
	epoch    []byte                      // what is pinned, as the front keeps it
	sealed   map[ceremony.KeyRef]hsm.Key // the front's keys
}

var officerNames = []string{"alice", "bob", "carol", "dave"}

// newBench returns a bench whose roster has four officers, and takes two of them for
// everything; change makes it another.
func newBench(t testing.TB, change ...func(*ceremony.Roster)) *bench {
	t.Helper()
	b := &bench{TB: t, fresh: tokentest.SoftHSM(t), now: time.Unix(1_900_000_000, 0), signers: make(map[string]*ecdsa.PrivateKey), sealed: make(map[ceremony.KeyRef]hsm.Key)}
	b.token = b.fresh.Open(t, 2)
	given, err := ledger.Create(filepath.Join(t.TempDir(), "ledger"))
	b.must(err)
	t.Cleanup(func() { _ = given.Close() })
	b.ledger = ledger.Open(int(given.Fd()))
	// Those who sign most have the curve that is fast.
	for i, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		b.roster.Officers = append(b.roster.Officers, b.newOfficer(officerNames[i], curve))
	}
	b.roster.Quorum = ceremony.Quorum{Components: 2, Approvals: 2, Roster: 2, Usages: []ceremony.Rule{
		{Usages: []string{"M1", "P0"}, Components: 2, Approvals: 1}, {Usages: []string{"D0"}, Components: 3, Approvals: 3},
	}}
	for _, c := range change {
		c(&b.roster)
	}
	b.do(func(s *token.Session) error {
		if err := sealing.CreateMasters(s, sealing.FirstGeneration); err != nil {
			return err
		}
		if err := quorum.Found(s, &b.roster, b.clock); err != nil {
			return err
		}
		var err error
		b.epoch, err = register.First(s)
		return err
	})
	b.restart()
	return b
}

func (b *bench) clock() time.Time { return b.now }

func (b *bench) newOfficer(name string, curve elliptic.Curve) ceremony.Officer {
	b.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	b.must(err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	b.must(err)
	b.signers[name] = key
	return ceremony.Officer{Name: name, Identity: "spiffe://keyd.test/officer/" + name, Key: der}
}

// restart has the module's process end and another begin, which the front gives the epoch
// that it has.
func (b *bench) restart() {
	b.Helper()
	page, err := register.OpenPage(-1)
	b.must(err)
	b.do(func(s *token.Session) error {
		pin, _, err := register.ReadPin(s)
		if err != nil {
			return err
		}
		if b.masters, err = sealing.FindMasters(s, pin.Generation); err != nil {
			return err
		}
		set := sealing.NewSet(b.masters)
		b.register = register.New(page, set, false, b.clock, softhsm.Store{b.fresh.Directory})
		b.keys = working.New(b.token, sealing.NewCache(b.token, set, 64), 8, b.register)
		if b.engine, err = quorum.New(s, b.keys, set, b.register, b.ledger, false); err != nil {
			return err
		}
		pair, err := s.FindPair("keyd identity")
		if err != nil {
			return err
		}
		b.identity = pair.Public.(*ecdsa.PublicKey)
		return b.register.Load(s, b.epoch)
	})
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) do(f func(*token.Session) error) {
	b.Helper()
	b.must(b.token.Do(f))
}

// refused asserts that an error is a refusal for a reason.
func refused(t testing.TB, err error, reason fault.Reason) {
	t.Helper()
	if err == nil || fault.Of(err).Reason != reason {
		t.Errorf("%v: %v, want %v", fault.Of(err).Reason, err, reason)
	}
}

// run is a ceremony as officers' clients and the front see it.
type run struct {
	*bench
	def     []byte
	in      quorum.Inputs
	papers  ceremony.Proceedings
	opening *ceremony.Opening
	digest  string
}

// inputs gives the sealed keys that a definition names, as an honest front does.
func (b *bench) inputs(d *ceremony.Definition) (in quorum.Inputs) {
	give := func(ref *ceremony.KeyRef) *hsm.Key {
		if ref == nil {
			return nil
		}
		if k, ok := b.sealed[*ref]; ok {
			return &k
		}
		return nil
	}
	in.Under, in.Target = give(d.Under), give(d.Target)
	if d.Key != nil && d.Key.Version > 1 {
		in.Previous = give(&ceremony.KeyRef{Name: d.Key.Name, Version: d.Key.Version - 1})
	}
	return in
}

// wish is an officer's statement that a definition be carried out.
func (b *bench) wish(officer string, definition []byte) ceremony.Signed {
	b.Helper()
	return b.sign(officer, &ceremony.Statement{Action: ceremony.Begin, Definition: ceremony.Digest(definition)})
}

// sign completes a statement by what every client fills in, and signs it.
func (b *bench) sign(officer string, s *ceremony.Statement) ceremony.Signed {
	b.Helper()
	var err error
	s.Officer, s.Time = officer, b.now.Unix()
	if s.Identity == "" {
		s.Identity, err = ceremony.KeyFingerprint(b.identity)
		b.must(err)
	}
	if s.Roster == "" {
		s.Roster, err = b.roster.Fingerprint()
		b.must(err)
	}
	signed, err := s.Sign(b.signers[officer])
	b.must(err)
	return signed
}

func (b *bench) encode(d *ceremony.Definition) []byte {
	b.Helper()
	if d.ValidFor == 0 {
		d.ValidFor = 3600
	}
	encoded, err := ceremony.Encode(d)
	b.must(err)
	return encoded
}

// begin opens a ceremony.
func (b *bench) begin(officer string, d *ceremony.Definition) (*run, error) {
	b.Helper()
	encoded := b.encode(d)
	return b.beginWith(encoded, b.wish(officer, encoded), b.inputs(d))
}

func (b *bench) beginWith(encoded []byte, wish ceremony.Signed, in quorum.Inputs) (*run, error) {
	b.Helper()
	r := &run{bench: b, def: encoded, in: in}
	err := b.token.Do(func(s *token.Session) (err error) {
		r.papers.Opening, err = b.engine.Begin(s, encoded, wish, in)
		return err
	})
	if err != nil {
		if r.papers.Opening.Document != nil {
			b.Error("an opening was returned with an error")
		}
		return nil, err
	}
	r.papers.Definition = encoded
	r.opening, r.digest, err = ceremony.ParseOpening(b.identity, r.papers.Opening)
	b.must(err)
	return r, nil
}

// mustBegin is begin of what is in order.
func (b *bench) mustBegin(officer string, d *ceremony.Definition) *run {
	b.Helper()
	r, err := b.begin(officer, d)
	b.must(err)
	return r
}

// submission is an officer's component.
func (r *run) submission(officer string, index int, component []byte) ceremony.Submission {
	r.Helper()
	sealed, err := ceremony.SealComponent(r.opening, r.digest, officer, index, component)
	r.must(err)
	return ceremony.Submission{Sealed: sealed, Statement: r.statement(officer, &ceremony.Statement{
		Action: ceremony.Submit, Index: index, Component: ceremony.Digest(sealed), CheckValue: checkValue(r.algorithm(), component),
	})}
}

func (r *run) algorithm() string {
	d, err := ceremony.Decode[ceremony.Definition](r.def, ceremony.MaxDocument)
	r.must(err)
	if d.Key == nil {
		return "A"
	}
	return d.Key.Algorithm
}

// statement signs a statement about this ceremony.
func (r *run) statement(officer string, s *ceremony.Statement) ceremony.Signed {
	r.Helper()
	s.Definition, s.Opening = ceremony.Digest(r.def), r.digest
	s.Roster = r.opening.Roster
	return r.sign(officer, s)
}

func (r *run) submit(officer string, index int, component []byte) {
	r.Helper()
	r.papers.Submissions = append(r.papers.Submissions, r.submission(officer, index, component))
}

// components are the digests of the components that are there.
func (r *run) components() []string {
	r.Helper()
	byIndex := make(map[int]string)
	for _, s := range r.papers.Submissions {
		statement, err := ceremony.Decode[ceremony.Statement](s.Statement.Document, ceremony.MaxDocument)
		r.must(err)
		byIndex[statement.Index] = statement.Component
	}
	var digests []string
	for i := 1; i <= len(byIndex); i++ {
		digests = append(digests, byIndex[i])
	}
	return digests
}

// approve has officers sign who have seen these components and this check value.
func (r *run) approve(officers ...string) {
	r.Helper()
	check, err := r.check()
	r.must(err)
	for _, o := range officers {
		r.papers.Approvals = append(r.papers.Approvals, r.statement(o, &ceremony.Statement{Action: ceremony.Approve, CheckValue: check, Components: r.components()}))
	}
}

func (r *run) check() (check string, err error) {
	err = r.token.Do(func(s *token.Session) error { check, err = r.engine.Check(s, &r.papers, r.in); return err })
	if err != nil && check != "" {
		r.Error("a check value was returned with an error")
	}
	return check, err
}

func (r *run) carryOut() (out *quorum.CarriedOut, err error) {
	err = r.token.Do(func(s *token.Session) error { out, err = r.engine.CarryOut(s, &r.papers, r.in); return err })
	if err != nil && out != nil {
		r.Error("something was returned with an error")
	}
	return out, err
}

func (b *bench) commitEpoch(epoch []byte) error {
	return b.token.Do(func(s *token.Session) error { _, err := b.engine.Commit(s, epoch); return err })
}

// commit makes what was carried out count, and has the front keep it.
func (r *run) commit(out *quorum.CarriedOut) {
	r.Helper()
	r.must(r.commitEpoch(out.Epoch))
	r.epoch = out.Epoch
	if out.Key != nil {
		parsed, err := hsm.ParseSealed(out.Key.Sealed)
		r.must(err)
		r.sealed[ceremony.KeyRef{Name: out.Key.Name, Version: parsed.Header.Version}] = *out.Key
	}
}

// finish carries out and commits, and verifies the record as somebody who has nothing else.
func (r *run) finish() *quorum.CarriedOut {
	r.Helper()
	out, err := r.carryOut()
	r.must(err)
	record, _, err := ceremony.VerifyRecord(r.identity, out.Record)
	if err != nil {
		r.Fatalf("the record: %v", err)
	}
	for _, s := range record.Submissions {
		if s.Sealed != nil {
			r.Error("a record holds a sealed component")
		}
	}
	r.commit(out)
	if record.Outcome.Epoch != r.current().Version {
		r.Errorf("the record is of epoch %d", record.Outcome.Epoch)
	}
	return out
}

func (b *bench) current() *ceremony.Epoch {
	b.Helper()
	e, err := b.register.Current()
	b.must(err)
	return e
}

func (b *bench) entry(name string, version uint32) *ceremony.Entry {
	b.Helper()
	n := b.current().Find(name, version)
	if n == nil {
		b.Fatalf("the register has no %s version %d", name, version)
	}
	return n
}

// perform carries out a ceremony without components, with as many approvals as it takes.
func (b *bench) perform(d *ceremony.Definition) *quorum.CarriedOut {
	b.Helper()
	r := b.mustBegin("alice", d)
	r.approve(officerNames[:r.opening.Need.Approvals]...)
	return r.finish()
}

// load loads a key by ceremony, from as many random components as it takes.
func (b *bench) load(spec *ceremony.KeySpec, value []byte) hsm.Key {
	b.Helper()
	r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec, Components: 2})
	r.submitAll(value)
	r.approve(officerNames[:r.opening.Need.Approvals]...)
	out := r.finish()
	return *out.Key
}

// submitAll has every officer who is needed submit a component of a value.
func (r *run) submitAll(value []byte) {
	r.Helper()
	for i, c := range split(value, r.opening.Need.Components) {
		r.submit(officerNames[i], i+1, c)
	}
}

// split makes components of a value: all but the last are random.
func split(value []byte, n int) (components [][]byte) {
	last := slices.Clone(value)
	for range n - 1 {
		c := make([]byte, len(value))
		_, _ = rand.Read(c) // never fails
		subtle.XORBytes(last, last, c)
		components = append(components, c)
	}
	return append(components, last)
}

// spec is a key's specification of a usage, with what that usage needs.
func spec(name, usage, algorithm string, length int, mode, exportability string) *ceremony.KeySpec {
	s := &ceremony.KeySpec{Name: name, Version: 1, Usage: usage, Algorithm: algorithm, Length: uint16(length), Mode: mode, Exportability: exportability}
	switch usage {
	case "B0":
		s.Direction, s.KSNCheck = hsm.DirectionIncoming, hsm.KSNMonotonic
	case "V1":
		s.IBM3624 = &hsm.IBM3624Rule{DecimalizationTable: "0123456789012345", Start: 0, Length: 16, Pad: "F"}
	case "P0", "D0", "M1", "M3", "M6", "M7":
		s.Direction = hsm.DirectionBoth
	}
	return s
}

// checkValue is what an officer's client computes: on its own, in software.
func checkValue(algorithm string, value []byte) string {
	var out []byte
	switch algorithm {
	case "T":
		key := slices.Clone(value)
		if len(key) == 16 {
			key = append(key, key[:8]...)
		}
		c, err := des.NewTripleDESCipher(key)
		if err != nil {
			return "000000"
		}
		out = make([]byte, 8)
		c.Encrypt(out, out)
	case "A": // CMAC of one block of zeros: E(2·E(0)) in GF(2^128)
		c, err := aes.NewCipher(value)
		if err != nil {
			return "000000"
		}
		out = make([]byte, 16)
		c.Encrypt(out, out)
		carry := out[0] >> 7
		for i := range out {
			out[i] <<= 1
			if i < 15 {
				out[i] |= out[i+1] >> 7
			}
		}
		out[15] ^= carry * 0x87
		c.Encrypt(out, out)
	default:
		mac := hmac.New(sha256.New, value)
		out = mac.Sum(nil)
	}
	return strings.ToUpper(hex.EncodeToString(out[:3]))
}

// fingerprint is what the register must have for a value.
func (b *bench) fingerprint(algorithm string, value []byte) (fingerprint string) {
	b.Helper()
	b.do(func(s *token.Session) (err error) {
		fingerprint, err = b.masters.Fingerprint(s, algorithm, value, make([]byte, 256))
		return err
	})
	return fingerprint
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vectors reads a file of vectors, which has that many.
func vectors[T any](t testing.TB, file string, count int) (all []T) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err != nil || len(all) != count {
		t.Fatalf("%s: %d vectors, %v", file, len(all), err)
	}
	return all
}

// pairs are the labels of the ceremonies' key pairs in the token.
func (b *bench) pairs() (labels []string) {
	b.Helper()
	b.do(func(s *token.Session) (err error) { labels, err = s.PairLabels("keyd ceremony "); return err })
	return labels
}

// random returns a key of random bytes that is not weak but by a miracle.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
