package module

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/fault"
	"keyd/hsm"
	"keyd/pinblock"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

// Components of the keys of cards, which are no supervisors'.
const (
	cardComponentA = "1F3D5B79A8C6E4021F3D5B79A8C6E402"
	cardComponentB = "6B4C2D0E8FA9CBED2D0E6B4C8FA9CBED"
)

// bank is an office whose officers have keys for PIN records and believe an authority for approvers,
// whose modules' every answer is kept.
type bank struct {
	*factory
	approvers          *holder
	anna, bert, claire *holder // anna and bert of merchant-8, claire of the acquirer
	deliver            *ecdh.PrivateKey
	requests           int
	heard              *recorder

	aes, tdes, cards *pad
}

// recorder is a front's end of a channel that keeps what it has heard.
type recorder struct {
	net.Conn
	mu  sync.Mutex
	all bytes.Buffer
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all.Write(b[:n])
	return n, err
}

func newBank(t *testing.T) *bank {
	t.Helper()
	b := &bank{factory: newFactory(t)}
	b.approvers = b.issue(nil, "approvers", elliptic.P384(), authority)
	b.must(b.through(&ceremony.Definition{Kind: ceremony.Trust, Authority: &ceremony.Authority{Certificate: b.approvers.cert.Raw, Uses: []string{"approvers"}}, ValidFor: 3600}))
	b.anna, b.bert, b.claire = b.approver("/merchants/merchant-8/anna"), b.approver("/merchants/merchant-8/bert"), b.approver("/approvers/claire")
	var err error
	b.deliver, err = ecdh.P256().GenerateKey(rand.Reader)
	b.must(err)
	load := func(k *ceremony.KeySpec, components ...string) {
		d := loading(k)
		d.ValidFor = 3600
		b.must(b.through(d, components...))
	}
	record := func(k *ceremony.KeySpec) {
		k.PINKind, k.InjectionHosts, k.Formats = hsm.PINRecord, nil, []hsm.Format{hsm.Format4}
		if k.Algorithm == "T" {
			k.Formats = []hsm.Format{hsm.Format0, hsm.Format3}
		}
	}
	load(b.bdk("records", "A", 16, record), cardComponentA, componentA)
	load(b.bdk("records-tdes", "T", 16, record), cardComponentA, componentB)
	load(b.bdk("cards", "A", 16, func(k *ceremony.KeySpec) { k.Formats = []hsm.Format{hsm.Format4} }), cardComponentA, cardComponentB)
	load(&ceremony.KeySpec{Name: "pvk", Version: 1, Usage: "V2", Algorithm: "T", Length: 16, Mode: "C", Exportability: "N", Peers: []string{"*"}}, cardComponentB, componentB)
	b.created(&ceremony.KeySpec{Name: "datum", Version: 1, Usage: "V0", Algorithm: "A", Length: 32, Mode: "C", Exportability: "N"})
	b.created(&ceremony.KeySpec{Name: "token", Version: 1, Usage: "S0", Algorithm: "E", Length: 48, Mode: "S", Exportability: "N"})
	b.created(&ceremony.KeySpec{Name: "code", Version: 1, Usage: "S0", Algorithm: "E", Length: 32, Mode: "S", Exportability: "N"})
	b.aes = b.pad("records", "A", xor(t, cardComponentA, componentA))
	b.tdes = b.pad("records-tdes", "T", xor(t, cardComponentA, componentB))
	b.cards = b.pad("cards", "A", xor(t, cardComponentA, cardComponentB))
	front, back := net.Pipe()
	b.server.attach(back)
	b.heard = &recorder{Conn: front}
	b.client.Attach(0, b.heard)
	return b
}

func (b *bank) approver(path string, change ...func(*x509.Certificate)) *holder {
	return b.issue(b.approvers, "approver", elliptic.P256(), append([]func(*x509.Certificate){func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: "bank.example", Path: path}}
	}}, change...)...)
}

// pad is a PIN pad with an initial key of a BDK.
type pad struct {
	b        *bank
	key      hsm.Key
	terminal *software.Terminal
}

func (b *bank) pad(name, algorithm string, bdk []byte) *pad {
	b.t.Helper()
	if algorithm == "T" {
		return b.padWith(name, algorithm, "FFFF9876543210E00000", bdk)
	}
	return b.padWith(name, algorithm, "0123456789ABCDEF00000000", bdk)
}

// padWith is one with the initial key of a key serial number.
func (b *bank) padWith(name, algorithm, serial string, bdk []byte) *pad {
	b.t.Helper()
	initial := make([]byte, 16)
	raw, err := hex.DecodeString(serial)
	b.must(err)
	ksn, err := dukpt.ParseInitialKSN(raw)
	b.must(err)
	if algorithm == "T" {
		b.must(software.TDESInitialKey(initial, bdk, ksn))
	} else {
		path, err := dukpt.NewInitialKeyPath(ksn, dukpt.AES128)
		b.must(err)
		b.must(software.AESDerive(initial, bdk, path))
	}
	terminal, err := software.NewTerminal(initial, ksn)
	b.must(err)
	return &pad{b, b.key(name, 1), terminal}
}

// entered is a PIN that was typed, and the key with which the pad makes the MAC of the same
// transaction.
type entered struct {
	hsm.RecordBlock
	pad *pad
	mac []byte
}

// enter has a PIN typed for a number.
func (p *pad) enter(number, pin string) *entered {
	f := hsm.Format4
	if p.terminal.Scheme() == dukpt.TDES {
		f = hsm.Format0
	}
	return p.enterAs(f, number, []byte(pin))
}

// enterAs encodes digits that a PIN pad has no keys for as well: A to F.
func (p *pad) enterAs(f hsm.Format, number string, digits []byte) *entered {
	b := p.b
	b.t.Helper()
	transaction, err := p.terminal.Begin()
	b.must(err)
	kind := dukpt.AES128
	if f != hsm.Format4 {
		kind = dukpt.TDES2Key
	}
	key, mac := make([]byte, 16), make([]byte, 16)
	b.must(transaction.Key(key, dukpt.UsagePIN, kind))
	b.must(transaction.Key(mac, dukpt.UsageMACGeneration, kind))
	return &entered{hsm.RecordBlock{Key: hsm.PINKey{Key: p.key, KSN: transaction.KSN(), Format: f}, Block: b.seal(f, key, number, digits)}, p, mac}
}

func (b *bank) seal(f hsm.Format, key []byte, number string, digits []byte) []byte {
	b.t.Helper()
	pan, err := pinblock.ParsePAN(number)
	b.must(err)
	var random [pinblock.RandomSize]byte
	_, _ = rand.Read(random[:])
	var slot [pinblock.PINSize]byte
	slot[0] = byte(len(digits))
	for i, c := range digits {
		slot[1+i] = c - '0'
		if c >= 'A' {
			slot[1+i] = c - 'A' + 10
		}
	}
	block := make([]byte, f.BlockSize())
	b.must(pinblock.Encode(block, pinblock.Format(f), pinblock.PINIn(&slot), pan, &random))
	var c cipher.Block
	if f == hsm.Format4 {
		c, err = aes.NewCipher(key)
		b.must(err)
		c.Encrypt(block, block)
		b.must(pan.XORField4(block))
	} else {
		k := new(software.TDESKey)
		b.must(k.Set(key))
		c = k
	}
	c.Encrypt(block, block)
	return block
}

// void is a PIN with the MAC of a void in the same transaction.
func (e *entered) void(f voidtoken.Fields) hsm.VoidPIN {
	b := e.pad.b
	b.t.Helper()
	digest, err := f.Digest()
	b.must(err)
	algorithm := "A"
	if e.Key.Format != hsm.Format4 {
		algorithm = "T"
	}
	return hsm.VoidPIN{
		Key: e.Key, Block: e.Block, MACKey: hsm.MACKey{Key: e.Key.Key, KSN: e.Key.KSN, Algorithm: hsm.CMAC, Padding: 1}, MAC: b.mac(algorithm, e.mac, pinrecord.Bound(digest, e.Block, true)),
	}
}

func supervisor(name string) pinrecord.Subject {
	return pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "merchant-8", Name: name}
}

// approval is what approvers sign.
func (b *bank) approval(action pinrecord.Action, s pinrecord.Subject, version uint32, change ...func(*pinrecord.Approval)) *pinrecord.Approval {
	b.t.Helper()
	b.requests++
	a := &pinrecord.Approval{Action: action, Subject: s, Version: version, Request: fmt.Sprintf("%032x", b.requests), NotAfter: b.now.Add(time.Hour).Unix()}
	if action != pinrecord.Unblock {
		der, err := x509.MarshalPKIXPublicKey(b.deliver.PublicKey())
		b.must(err)
		a.DeliverTo = der
	}
	for _, c := range change {
		c(a)
	}
	return a
}

func (b *bank) approved(a *pinrecord.Approval, by ...*holder) (list []hsm.Approval) {
	b.t.Helper()
	encoded, err := ceremony.Encode(a)
	b.must(err)
	for _, h := range by {
		signature, err := ceremony.Sign(h.key, ceremony.OfPINApproval, encoded)
		b.must(err)
		list = append(list, hsm.Approval{Document: encoded, Signature: signature, Certificates: [][]byte{h.cert.Raw}})
	}
	return list
}

// begun is a pending record, and the code for it.
type begun struct {
	subject pinrecord.Subject
	pending []byte
	code    string
}

func (b *bank) begin(action pinrecord.Action, s pinrecord.Subject, version uint32) *begun {
	b.t.Helper()
	g, err := b.beginBy(b.approved(b.approval(action, s, version), b.anna, b.bert))
	b.must(err)
	return g
}

func (b *bank) beginBy(approvals []hsm.Approval) (*begun, error) {
	b.t.Helper()
	answer, err := b.client.BeginPIN(b.t.Context(), hsm.BeginPIN{Approvals: approvals, DatumKey: b.key("datum", 1)})
	if err != nil {
		if answer.Pending != nil || answer.Code != nil {
			b.t.Error("something comes with an error")
		}
		return nil, err
	}
	code, err := pinrecord.OpenCode(b.deliver, approvals[0].Document, answer.Code)
	b.must(err)
	p, _, _, err := pinrecord.ParsePending(answer.Pending)
	b.must(err)
	return &begun{p.Subject, answer.Pending, string(code)}, nil
}

func (b *bank) set(g *begun, p *pad, code, pin string) (hsm.SetRecord, error) {
	b.t.Helper()
	number := g.subject.Number()
	return b.setBlocks(g.pending, p.enter(number, code).RecordBlock, p.enter(number, pin).RecordBlock)
}

func (b *bank) setBlocks(pending []byte, code, pin hsm.RecordBlock) (hsm.SetRecord, error) {
	answer, err := b.client.SetPIN(b.t.Context(), hsm.SetPIN{Pending: pending, DatumKey: b.key("datum", 1), Code: code, PIN: pin})
	if (err != nil || !answer.Verified) && answer.Record != nil {
		b.t.Error("a record comes with a wrong code or an error")
	}
	return answer, err
}

// enrolled is a record of version 1 with a PIN.
func (b *bank) enrolled(s pinrecord.Subject, p *pad, pin string) []byte {
	b.t.Helper()
	g := b.begin(pinrecord.Enrol, s, 1)
	answer, err := b.set(g, p, g.code, pin)
	b.must(err)
	if !answer.Verified {
		b.t.Fatal("the right code is wrong")
	}
	return answer.Record
}

func (b *bank) verify(record []byte, block hsm.RecordBlock) (bool, error) {
	b.t.Helper()
	verified, err := b.client.VerifyRecord(b.t.Context(), hsm.VerifyRecord{Record: record, DatumKey: b.key("datum", 1), PIN: block})
	if err != nil && verified {
		b.t.Error("verified comes with an error")
	}
	return verified, err
}

func (b *bank) change(record []byte, current, pin hsm.RecordBlock) (hsm.SetRecord, error) {
	b.t.Helper()
	return b.client.ChangeRecord(b.t.Context(), hsm.ChangeRecord{Record: record, DatumKey: b.key("datum", 1), Current: current, New: pin})
}

// expect compares an answer that says whether a PIN was right.
func (b *bank) expect(what string, verified bool, err error, want bool) {
	b.t.Helper()
	if err != nil || verified != want {
		b.t.Errorf("%s: %v, %v", what, verified, err)
	}
}

func voidFields8() voidtoken.Fields {
	return voidtoken.Fields{Void: "00112233445566778899aabbccddeeff", Merchant: "merchant-8", Terminal: "t-1", Reference: "112700123456", Amount: 12345, Currency: 156}
}

func (b *bank) named(path string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: "bank.example", Path: path}}
	}
}

func (b *bank) ended(c *x509.Certificate) { c.NotAfter = b.now.Add(-time.Minute) }

// signedAs has both approvers sign for another purpose.
func (b *bank) signedAs(a *pinrecord.Approval, purpose ceremony.Purpose) []hsm.Approval {
	b.t.Helper()
	list := b.approved(a, b.anna, b.bert)
	for i, h := range []*holder{b.anna, b.bert} {
		var err error
		list[i].Signature, err = ceremony.Sign(h.key, purpose, list[i].Document)
		b.must(err)
	}
	return list
}

func (b *bank) refusedRecord(what string, record []byte, e *entered, want fault.Reason) {
	b.t.Helper()
	if _, err := b.verify(record, e.RecordBlock); fault.Of(err).Reason != want {
		b.t.Errorf("%s: %v, want %s", what, err, want)
	}
}
