package module

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/passkey"
	"keyd/pinrecord"
	"keyd/simulator"
	"keyd/voidtoken"
)

const phoneOrigin = "https://void.example.com"

// handset is a bank whose modules have a key pair that phones agree with, and a phone.
type handset struct {
	*bank
	simulator.Phone
	point []byte
}

func newHandset(t *testing.T) *handset {
	t.Helper()
	h := &handset{bank: newBank(t), Phone: simulator.Phone{Origin: phoneOrigin}}
	h.created(&ceremony.KeySpec{Name: "page", Version: 1, Usage: "K3", Algorithm: "E", Length: 32, Mode: "X", Exportability: "N", PINKind: hsm.PINRecord})
	h.created(&ceremony.KeySpec{Name: "agree", Version: 1, Usage: "K3", Algorithm: "E", Length: 32, Mode: "X", Exportability: "N"})
	signed, err := h.client.SignPageKey(t.Context(), h.pageKey())
	h.must(err)
	h.point = signed.Point
	message := binary.BigEndian.AppendUint64(append([]byte(hsm.PageKeyText), signed.Point...), uint64(h.pageKey().ExpiresAt))
	digest := sha256.Sum256(message)
	if !ecdsa.VerifyASN1(h.public("code"), digest[:], signed.Signature) {
		t.Fatal("the page key's signature is another's")
	}
	return h
}

func (h *handset) pageKey() hsm.SignPageKey {
	return hsm.SignPageKey{PageKey: h.key("page", 1), Key: h.key("code", 1), ExpiresAt: h.now.Add(10 * time.Minute).Unix()}
}

// typed is a block that was made on the phone.
func (h *handset) typed(s *pinrecord.Subject, digits string, context pinrecord.Context) hsm.RecordBlock {
	h.t.Helper()
	point, block, err := h.Enter(h.point, s.Number(), []byte(digits), context)
	h.must(err)
	return hsm.RecordBlock{Key: hsm.PINKey{Key: h.key("page", 1), Format: hsm.Format4}, Block: block, Phone: point}
}

// both are a code and a PIN that were typed on one phone.
func (h *handset) both(s *pinrecord.Subject, approval [sha256.Size]byte, code, pin string) (c, p hsm.RecordBlock) {
	h.t.Helper()
	pad, err := h.Pad(h.point)
	h.must(err)
	block := func(digits string, context pinrecord.Context) hsm.RecordBlock {
		b, err := pad.Enter(s.Number(), []byte(digits), context)
		h.must(err)
		return hsm.RecordBlock{Key: hsm.PINKey{Key: h.key("page", 1), Format: hsm.Format4}, Block: b, Phone: pad.Point}
	}
	return block(code, pinrecord.OfCode(approval, s)), block(pin, pinrecord.OfNewPIN(approval, s))
}

func approvalOf(t testing.TB, pending []byte) (digest [sha256.Size]byte) {
	t.Helper()
	p, _, _, err := pinrecord.ParsePending(pending)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(p.Approval)
	if err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(b)
}

// byPhone is dora's PIN for a void.
func (h *handset) byPhone(s *pinrecord.Subject, pin string, f voidtoken.Fields, record []byte) hsm.VoidPIN {
	h.t.Helper()
	digest, err := f.Digest()
	h.must(err)
	b := h.typed(s, pin, pinrecord.OfVoid(digest, s))
	return h.bySupervisor(hsm.VoidPIN{Key: b.Key, Block: b.Block, Phone: b.Phone}, record)
}

// A PIN is set on a phone, and authorises the void for which it was typed, and nothing else.
func TestAPINOnAPhone(t *testing.T) {
	h := newHandset(t)
	f := voidFields8()
	dora := supervisor("dora")
	g := h.begin(pinrecord.Enrol, dora, 1)
	approval := approvalOf(t, g.pending)
	code, pin := h.both(&dora, approval, g.code, "739104")
	if a, err := h.setBlocks(g.pending, code, h.typed(&dora, "551872", pinrecord.OfNewPIN(approval, &dora))); a.Verified || fault.Of(err).Reason != fault.KeyUsageMismatch {
		t.Errorf("a PIN of somebody else's with a code that was typed: %v, %v", a.Verified, err)
	}
	if a, err := h.setBlocks(g.pending, code, h.aes.enter(dora.Number(), "551872").RecordBlock); a.Verified || fault.Of(err).Reason != fault.KeyUsageMismatch {
		t.Errorf("a PIN that was typed at a terminal with a phone's code: %v, %v", a.Verified, err)
	}
	if a, err := h.setBlocks(g.pending, pin, code); a.Verified || fault.Of(err).Reason != fault.PINBlockInvalid {
		t.Errorf("changed over: %v, %v", a.Verified, err)
	}
	answer, err := h.setBlocks(g.pending, code, pin)
	h.expect("set", answer.Verified, err, true)
	record := answer.Record

	a, err := h.authorize(f, nil, h.byPhone(&dora, "739104", f, record))
	h.expect("a void", a.Verified, err, true)
	if got := h.good("a void", a.Token, f, "token", voidtoken.PhonePIN); got.Authorizations[0].Subject != "dora" {
		t.Error(got.Authorizations)
	}
	a, err = h.authorize(f, nil, h.byPhone(&dora, "739105", f, record))
	h.expect("a wrong PIN", a.Verified, err, false)

	other := f
	other.Amount++
	emil := supervisor("emil")
	emils := h.enrolled(emil, h.aes, "551872")
	good := h.byPhone(&dora, "739104", f, record)
	for name, c := range map[string]struct {
		f    voidtoken.Fields
		pins []hsm.VoidPIN
		want fault.Reason
	}{
		"another void":             {other, []hsm.VoidPIN{good}, fault.PINBlockInvalid},
		"another's record":         {f, []hsm.VoidPIN{h.bySupervisor(hsm.VoidPIN{Key: good.Key, Block: good.Block, Phone: good.Phone}, emils)}, fault.PINBlockInvalid},
		"another's point":          {f, []hsm.VoidPIN{h.bySupervisor(hsm.VoidPIN{Key: good.Key, Block: good.Block, Phone: h.point}, record)}, fault.PINBlockInvalid},
		"no point":                 {f, []hsm.VoidPIN{h.bySupervisor(hsm.VoidPIN{Key: good.Key, Block: good.Block, Phone: make([]byte, 65)}, record)}, fault.RequestInvalid},
		"with a MAC":               {f, []hsm.VoidPIN{func() hsm.VoidPIN { p := good; p.MAC = make([]byte, 8); return p }()}, fault.RequestInvalid},
		"a cardholder's":           {f, []hsm.VoidPIN{h.byCardholder(hsm.VoidPIN{Key: good.Key, Block: good.Block, Phone: good.Phone}, "1234")}, fault.RequestInvalid},
		"beside a cardholder's":    {f, []hsm.VoidPIN{good, h.byCardholder(h.cards.enter(cardPAN, "4321").void(f), h.pvv("4321"))}, fault.RequestInvalid},
		"under a key of terminals": {f, []hsm.VoidPIN{h.bySupervisor(hsm.VoidPIN{Key: hsm.PINKey{Key: h.key("records", 1), Format: hsm.Format4}, Block: good.Block, Phone: good.Phone}, record)}, fault.KeyUsageMismatch},
		"a pair for other things":  {f, []hsm.VoidPIN{h.bySupervisor(hsm.VoidPIN{Key: hsm.PINKey{Key: h.key("agree", 1), Format: hsm.Format4}, Block: good.Block, Phone: good.Phone}, record)}, fault.KeyUsageMismatch},
		"a pair that signs":        {f, []hsm.VoidPIN{h.bySupervisor(hsm.VoidPIN{Key: hsm.PINKey{Key: h.key("code", 1), Format: hsm.Format4}, Block: good.Block, Phone: good.Phone}, record)}, fault.KeyUsageMismatch},
		"in another format": {f, []hsm.VoidPIN{h.bySupervisor(hsm.VoidPIN{Key: hsm.PINKey{Key: h.key("page", 1), Format: hsm.Format3}, Block: good.Block[:8], Phone: good.Phone}, record)},
			fault.KeyUsageMismatch},
		"without its point": {f, []hsm.VoidPIN{h.bySupervisor(hsm.VoidPIN{Key: good.Key, Block: good.Block, MACKey: hsm.MACKey{Key: h.key("records", 1), Algorithm: hsm.CMAC, Padding: 1}, MAC: make([]byte, 8)}, record)},
			fault.KeyUsageMismatch},
	} {
		a, err := h.authorize(c.f, nil, c.pins...)
		if a.Verified || fault.Of(err).Reason != c.want {
			t.Errorf("%s: %v, %v, want %v", name, a.Verified, err, c.want)
		}
	}
	for name, ask := range map[string]func(hsm.RecordBlock) error{
		"verified": func(b hsm.RecordBlock) error { _, err := h.verify(record, b); return err },
		"changed":  func(b hsm.RecordBlock) error { _, err := h.change(record, b, b); return err },
		"translated": func(b hsm.RecordBlock) error {
			_, err := h.client.TranslatePIN(t.Context(), hsm.TranslatePIN{Incoming: b.Key, Outgoing: hsm.PINKey{Key: h.key("cards", 1), Format: hsm.Format4}, PAN: cardPAN, Block: b.Block})
			return err
		},
	} {
		if err := ask(hsm.RecordBlock{Key: good.Key, Block: good.Block, Phone: good.Phone}); err == nil {
			t.Errorf("%s: a block from a phone for a void is taken", name)
		}
	}
	card := pinrecord.Subject{Kind: pinrecord.Cardholder, Name: "card.x"}
	g, err = h.beginBy(h.approved(h.approval(pinrecord.Enrol, card, 1), h.claire, h.approver("/approvers/dirk")))
	h.must(err)
	approval = approvalOf(t, g.pending)
	code, pin = h.both(&card, approval, g.code, "7391")
	if a, err := h.setBlocks(g.pending, code, pin); a.Verified || fault.Of(err).Reason != fault.KeyUsageMismatch {
		t.Errorf("a cardholder's PIN on a phone: %v, %v", a.Verified, err)
	}
}

// passkeyed enrols a passkey, and returns its record.
func (h *handset) passkeyed(s pinrecord.Subject, action pinrecord.Action, version uint32) []byte {
	h.t.Helper()
	g := h.begin(action, s, version)
	r := h.passkey(g)
	answer, err := h.client.SetPasskey(h.t.Context(), r)
	h.expect("a passkey", answer.Verified, err, true)
	return answer.Record
}

func (h *handset) passkey(g *begun) hsm.SetPasskey {
	h.t.Helper()
	approval := approvalOf(h.t, g.pending)
	client, data, err := h.CreatePasskey(pinrecord.PasskeyChallenge(approval, &g.subject))
	h.must(err)
	return hsm.SetPasskey{
		Pending: g.pending, DatumKey: h.key("datum", 1), Code: h.typed(&g.subject, g.code, pinrecord.OfPasskey(approval, &g.subject, data)), ClientData: client, AuthenticatorData: data, Origin: h.Origin,
	}
}

func (h *handset) byPasskey(f voidtoken.Fields, record []byte, a *passkey.Assertion) (hsm.AuthorizedVoid, error) {
	h.t.Helper()
	answer, err := h.client.AuthorizeByPasskey(h.t.Context(), hsm.AuthorizeByPasskey{Fields: f, ExpiresAt: h.now.Add(5 * time.Minute).Unix(), Record: record, Assertion: *a, TokenKey: h.key("token", 1)})
	if answer.Verified != (answer.Token != "") || err != nil && answer.Verified {
		h.t.Errorf("verified %v with a token of %d bytes, %v", answer.Verified, len(answer.Token), err)
	}
	return answer, err
}

func (h *handset) assertion(f voidtoken.Fields) *passkey.Assertion {
	h.t.Helper()
	digest, err := f.Digest()
	h.must(err)
	a, err := h.Approve(pinrecord.VoidChallenge(digest))
	h.must(err)
	return a
}

// A passkey is enrolled under two approvals and a code, authorises the void that it was asked about, and
// is dead once it was revoked or another was begun.
func TestAPasskeyOnAPhone(t *testing.T) {
	h := newHandset(t)
	f := voidFields8()
	dora := pinrecord.Subject{Kind: pinrecord.Passkey, Merchant: "merchant-8", Name: "dora"}
	record := h.passkeyed(dora, pinrecord.Enrol, 1)
	a, err := h.byPasskey(f, record, h.assertion(f))
	h.expect("a void", a.Verified, err, true)
	if got := h.good("a void", a.Token, f, "token", voidtoken.PhonePasskey); got.Authorizations[0].Subject != "dora" {
		t.Error(got.Authorizations)
	}
	other := f
	other.Amount++
	a, err = h.byPasskey(other, record, h.assertion(f))
	h.expect("another void", a.Verified, err, false)
	altered := h.assertion(f)
	altered.Signature[len(altered.Signature)-1] ^= 1
	a, err = h.byPasskey(f, record, altered)
	h.expect("another signature", a.Verified, err, false)
	foreign := f
	foreign.Merchant = "merchant-9"
	if _, err = h.byPasskey(foreign, record, h.assertion(foreign)); fault.Of(err).Reason != fault.RequestInvalid {
		t.Errorf("another merchant: %v", err)
	}
	forged := append([]byte(nil), record...)
	forged[len(forged)-1] ^= 1
	if _, err = h.byPasskey(f, forged, h.assertion(f)); fault.Of(err).Reason != fault.KeySealInvalid {
		t.Errorf("a forged record: %v", err)
	}
	for name, ask := range map[string]func() error{
		"verified as a PIN": func() error { _, err := h.verify(record, h.aes.enter(dora.Number(), "739104").RecordBlock); return err },
		"a void by PIN": func() error {
			_, err := h.authorize(f, nil, h.bySupervisor(h.aes.enter(dora.Number(), "739104").void(f), record))
			return err
		},
		"unblocked": func() error {
			return h.client.UnblockRecord(t.Context(), record, h.approved(h.approval(pinrecord.Unblock, dora, 1), h.anna, h.bert))
		},
	} {
		if err := ask(); fault.Of(err).Reason != fault.KeySealInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	again, err := h.client.ResealRecord(t.Context(), record)
	h.must(err)
	a, err = h.byPasskey(f, again, h.assertion(f))
	h.expect("sealed anew", a.Verified, err, true)

	second := h.passkeyed(dora, pinrecord.Reset, 2)
	a, err = h.byPasskey(f, second, h.assertion(f))
	h.expect("the second", a.Verified, err, true)
	if _, err = h.byPasskey(f, record, h.assertion(f)); fault.Of(err).Reason != fault.PINRecordEnded {
		t.Errorf("the first: %v", err)
	}
	h.must(h.client.RevokeRecord(t.Context(), second))
	if _, err = h.byPasskey(f, second, h.assertion(f)); fault.Of(err).Reason != fault.PINRecordEnded {
		t.Errorf("revoked: %v", err)
	}
}

// No front has a passkey of its own enrolled: the code is good for the passkey for which it was typed.
func TestPasskeysThatNobodyEnrolled(t *testing.T) {
	h := newHandset(t)
	dora := pinrecord.Subject{Kind: pinrecord.Passkey, Merchant: "merchant-8", Name: "dora"}
	g := h.begin(pinrecord.Enrol, dora, 1)
	good, own := h.passkey(g), h.passkey(g)
	own.Code = good.Code
	if a, err := h.client.SetPasskey(t.Context(), own); a.Verified || fault.Of(err).Reason != fault.PINBlockInvalid {
		t.Errorf("the front's own passkey with the code of another: %v, %v", a.Verified, err)
	}
	approval := approvalOf(t, g.pending)
	wrong := good
	wrong.Code = h.typed(&dora, "00000000", pinrecord.OfPasskey(approval, &dora, good.AuthenticatorData))
	a, err := h.client.SetPasskey(t.Context(), wrong)
	h.expect("a wrong code", a.Verified, err, false)
	for name, change := range map[string]func(*hsm.SetPasskey){
		"another origin":      func(r *hsm.SetPasskey) { r.Origin = "https://evil.example" },
		"no origin":           func(r *hsm.SetPasskey) { r.Origin = "evil" },
		"another challenge":   func(r *hsm.SetPasskey) { r.ClientData, _, _ = h.CreatePasskey([sha256.Size]byte{1}) },
		"no data":             func(r *hsm.SetPasskey) { r.AuthenticatorData = nil },
		"the code of a pad":   func(r *hsm.SetPasskey) { r.Code = h.aes.enter(dora.Number(), g.code).RecordBlock },
		"a supervisor's PIN":  func(r *hsm.SetPasskey) { r.Pending = h.begin(pinrecord.Enrol, supervisor("emil"), 1).pending },
		"a pending that's no": func(r *hsm.SetPasskey) { r.Pending = r.Pending[:20] },
	} {
		r := good
		change(&r)
		if a, err := h.client.SetPasskey(t.Context(), r); a.Verified || fault.Of(err).Reason != fault.RequestInvalid && fault.Of(err).Reason != fault.KeySealInvalid {
			t.Errorf("%s: %v, %v", name, a.Verified, err)
		}
	}
	if a, err := h.setBlocks(g.pending, h.aes.enter(dora.Number(), g.code).RecordBlock, h.aes.enter(dora.Number(), "739104").RecordBlock); a.Verified || fault.Of(err).Reason != fault.RequestInvalid {
		t.Errorf("a PIN for who has a passkey: %v, %v", a.Verified, err)
	}
	answer, err := h.client.SetPasskey(t.Context(), good)
	h.expect("the subject's own", answer.Verified, err, true)
	again, err := h.client.SetPasskey(t.Context(), good)
	h.expect("the same again", again.Verified, err, true)
	third := h.passkey(g)
	if a, err := h.client.SetPasskey(t.Context(), third); fault.Of(err).Reason != fault.PINRecordEnded {
		t.Errorf("another with the same code: %v, %v", a.Verified, err)
	}
}

func TestPageKeysThatAreNone(t *testing.T) {
	h := newHandset(t)
	for name, c := range map[string]struct {
		change func(*hsm.SignPageKey)
		want   fault.Reason
	}{
		"a pair for other things":   {func(r *hsm.SignPageKey) { r.PageKey = h.key("agree", 1) }, fault.KeyUsageMismatch},
		"a pair that signs":         {func(r *hsm.SignPageKey) { r.PageKey = h.key("code", 1) }, fault.KeyUsageMismatch},
		"a key that is no pair":     {func(r *hsm.SignPageKey) { r.PageKey = h.key("datum", 1) }, fault.KeyUsageMismatch},
		"signed by one that agrees": {func(r *hsm.SignPageKey) { r.Key = h.key("page", 1) }, fault.KeyUsageMismatch},
		"signed on P-384":           {func(r *hsm.SignPageKey) { r.Key = h.key("token", 1) }, fault.KeyUsageMismatch},
		"for an hour":               {func(r *hsm.SignPageKey) { r.ExpiresAt = h.now.Add(time.Hour).Unix() }, fault.RequestInvalid},
		"over":                      {func(r *hsm.SignPageKey) { r.ExpiresAt = h.now.Unix() }, fault.RequestInvalid},
	} {
		r := h.pageKey()
		c.change(&r)
		if got, err := h.client.SignPageKey(t.Context(), r); fault.Of(err).Reason != c.want || got.Signature != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	key, err := x509.ParsePKIXPublicKey(func() []byte {
		sealed, err := hsm.ParseSealed(h.key("page", 1).Sealed)
		h.must(err)
		return sealed.Header.Public
	}())
	h.must(err)
	if public := key.(*ecdsa.PublicKey); public.Curve != elliptic.P256() {
		t.Error(public.Curve)
	}
}
