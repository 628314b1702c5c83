package module

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/dukpt/software"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinverify"
	"keyd/pinblock"
	"keyd/pinrecord"
	"keyd/voids/code"
	"keyd/voidtoken"
)

const cardPAN = "4012345678909"

// pvv is that of a PIN under the bank's PVK, with index 1.
func (b *bank) pvv(pin string) string {
	b.t.Helper()
	pan, err := pinblock.ParsePAN(cardPAN)
	b.must(err)
	var p pinblock.PIN
	b.must(p.SetDigits([]byte(pin)))
	var in, out [8]byte
	var pvv [pinverify.PVVSize]byte
	b.must(pinverify.PutTSP(&in, pan, 1, &p))
	var key software.TDESKey
	b.must(key.Set(xor(b.t, cardComponentB, componentB)))
	key.Encrypt(out[:], in[:])
	pinverify.PutPVV(&pvv, &out)
	return string(pvv[:])
}

// public is that of a key pair.
func (b *bank) public(name string) *ecdsa.PublicKey {
	b.t.Helper()
	sealed, err := hsm.ParseSealed(b.key(name, 1).Sealed)
	b.must(err)
	key, err := x509.ParsePKIXPublicKey(sealed.Header.Public)
	b.must(err)
	return key.(*ecdsa.PublicKey)
}

// bySupervisor and byCardholder say whose PIN it is.
func (b *bank) bySupervisor(p hsm.VoidPIN, record []byte) hsm.VoidPIN {
	p.Record = &hsm.RecordPIN{Record: record, DatumKey: b.key("datum", 1)}
	return p
}

func (b *bank) byCardholder(p hsm.VoidPIN, pvv string) hsm.VoidPIN {
	p.Cardholder = &hsm.CardholderPIN{Verification: b.key("pvk", 1), PAN: cardPAN, VisaPVV: &hsm.VisaPVV{KeyIndex: 1, PVV: pvv}}
	return p
}

// authorize asks for a token as a front does.
func (b *bank) authorize(f voidtoken.Fields, change func(*hsm.AuthorizeVoid), pins ...hsm.VoidPIN) (hsm.AuthorizedVoid, error) {
	b.t.Helper()
	r := hsm.AuthorizeVoid{Fields: f, ExpiresAt: b.now.Add(5 * time.Minute).Unix(), PINs: pins, TokenKey: b.key("token", 1)}
	if change != nil {
		change(&r)
	}
	answer, err := b.client.AuthorizeVoid(b.t.Context(), r)
	if answer.Verified != (answer.Token != "") || err != nil && answer.Verified {
		b.t.Errorf("verified %v with a token of %d bytes, %v", answer.Verified, len(answer.Token), err)
	}
	return answer, err
}

// good has a switch check a token.
func (b *bank) good(what, text string, f voidtoken.Fields, key string, methods ...voidtoken.Method) *voidtoken.Token {
	b.t.Helper()
	keys, err := voidtoken.NewKeys(b.public(key))
	b.must(err)
	got, err := voidtoken.Verify(text, keys, voidtoken.Expected{Fields: f, Methods: [][]voidtoken.Method{methods}}, b.now)
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	return got
}

// Whoever's PIN is right and bound to the void by the terminal's MAC, has it authorised; the switch
// sees by whom.
func TestVoidsAreAuthorised(t *testing.T) {
	b := newBank(t)
	f := voidFields8()
	dora := supervisor("dora")
	ofTerminal := dora
	ofTerminal.Terminal = "t-1"
	card := pinrecord.Subject{Kind: pinrecord.Cardholder, Name: "card.x"}
	g, err := b.beginBy(b.approved(b.approval(pinrecord.Enrol, card, 1), b.claire, b.approver("/approvers/dirk")))
	b.must(err)
	answer, err := b.set(g, b.aes, g.code, "7391")
	b.expect("a cardholder's record", answer.Verified, err, true)
	doras, terminals, cards := b.enrolled(dora, b.aes, "739104"), b.enrolled(ofTerminal, b.tdes, "551872"), answer.Record
	pvv := b.pvv("4321")
	for name, c := range map[string]struct {
		pins    []hsm.VoidPIN
		key     string
		methods []voidtoken.Method
		who     string
	}{
		"a supervisor":               {[]hsm.VoidPIN{b.bySupervisor(b.aes.enter(dora.Number(), "739104").void(f), doras)}, "token", []voidtoken.Method{voidtoken.SupervisorPIN}, "dora"},
		"with a key on P-256":        {[]hsm.VoidPIN{b.bySupervisor(b.aes.enter(dora.Number(), "739104").void(f), doras)}, "code", []voidtoken.Method{voidtoken.SupervisorPIN}, "dora"},
		"a supervisor of a terminal": {[]hsm.VoidPIN{b.bySupervisor(b.tdes.enter(ofTerminal.Number(), "551872").void(f), terminals)}, "token", []voidtoken.Method{voidtoken.SupervisorPIN}, "dora"},
		"a cardholder":               {[]hsm.VoidPIN{b.byCardholder(b.cards.enter(cardPAN, "4321").void(f), pvv)}, "token", []voidtoken.Method{voidtoken.CardholderPIN}, "cardholder"},
		"a cardholder by a record":   {[]hsm.VoidPIN{b.bySupervisor(b.aes.enter(card.Number(), "7391").void(f), cards)}, "token", []voidtoken.Method{voidtoken.CardholderPIN}, "card.x"},
		"both": {
			[]hsm.VoidPIN{b.byCardholder(b.cards.enter(cardPAN, "4321").void(f), pvv), b.bySupervisor(b.aes.enter(dora.Number(), "739104").void(f), doras)}, "token",
			[]voidtoken.Method{voidtoken.SupervisorPIN, voidtoken.CardholderPIN}, "dora",
		},
	} {
		answer, err := b.authorize(f, func(r *hsm.AuthorizeVoid) { r.TokenKey = b.key(c.key, 1) }, c.pins...)
		b.expect(name, answer.Verified, err, true)
		token := b.good(name, answer.Token, f, c.key, c.methods...)
		if token.Authorizations[0].Subject != c.who || token.AuthorizedAt != b.now.Unix() || token.ExpiresAt != b.now.Add(5*time.Minute).Unix() {
			t.Errorf("%s: %+v", name, token)
		}
		if strings.Contains(answer.Token, cardPAN) {
			t.Errorf("%s: the token has the PAN", name)
		}
	}
}

// A PIN that is right is worth nothing for another void, nor by itself.
func TestAVerifiedPINIsForOneVoid(t *testing.T) {
	b := newBank(t)
	f := voidFields8()
	other := f
	other.Amount = 99999
	dora, emil := supervisor("dora"), supervisor("emil")
	record, emils := b.enrolled(dora, b.aes, "739104"), b.enrolled(emil, b.aes, "551872")
	pvv := b.pvv("4321")
	typed := b.aes.enter(dora.Number(), "739104")
	verified, err := b.verify(record, typed.RecordBlock)
	b.expect("the PIN is right", verified, err, true)
	forged := typed.void(f)
	forged.MAC = bytes.Clone(forged.MAC)
	forged.MAC[0] ^= 1
	wrongCard := b.byCardholder(b.cards.enter(cardPAN, "4322").void(f), pvv)
	rightCard := b.byCardholder(b.cards.enter(cardPAN, "4321").void(f), pvv)
	for _, c := range []struct {
		name   string
		fields voidtoken.Fields
		pins   []hsm.VoidPIN
	}{
		{"the MAC of another void", other, []hsm.VoidPIN{b.bySupervisor(typed.void(f), record)}},
		{"an altered MAC", f, []hsm.VoidPIN{b.bySupervisor(forged, record)}},
		{"a wrong PIN", f, []hsm.VoidPIN{b.bySupervisor(b.aes.enter(dora.Number(), "739105").void(f), record)}},
		{"a cardholder's wrong PIN", f, []hsm.VoidPIN{wrongCard}},
		{"both, of whom the cardholder is wrong", f, []hsm.VoidPIN{b.bySupervisor(b.aes.enter(emil.Number(), "551872").void(f), emils), wrongCard}},
		{"both, of whom the supervisor is wrong", f, []hsm.VoidPIN{rightCard, b.bySupervisor(b.aes.enter(emil.Number(), "551873").void(f), emils)}},
	} {
		answer, err := b.authorize(c.fields, nil, c.pins...)
		b.expect(c.name, answer.Verified, err, false)
	}
}

// What is refused before anything is compared, and counts no try.
func TestVoidsThatAreRefused(t *testing.T) {
	b := newBank(t)
	f := voidFields8()
	dora := supervisor("dora")
	ofOther := dora
	ofOther.Terminal = "t-2"
	foreign := dora
	foreign.Merchant = "merchant-9"
	record, terminals := b.enrolled(dora, b.aes, "739104"), b.enrolled(ofOther, b.aes, "739104")
	g, err := b.beginBy(b.approved(b.approval(pinrecord.Enrol, foreign, 1), b.claire, b.approver("/merchants/merchant-9/gus")))
	b.must(err)
	set, err := b.set(g, b.aes, g.code, "739104")
	b.expect("another merchant's", set.Verified, err, true)
	rita := supervisor("rita")
	revoked := b.enrolled(rita, b.aes, "739104")
	b.must(b.client.RevokeRecord(t.Context(), revoked))
	b.created(&ceremony.KeySpec{Name: "mac", Version: 1, Usage: "M6", Algorithm: "A", Length: 16, Mode: "C", Exportability: "N", Direction: hsm.DirectionIncoming})
	pvv := b.pvv("4321")
	enter := func() *entered { return b.aes.enter(dora.Number(), "739104") }
	good := func() hsm.VoidPIN { return b.bySupervisor(enter().void(f), record) }
	with := func(change func(*hsm.VoidPIN)) []hsm.VoidPIN {
		p := good()
		change(&p)
		return []hsm.VoidPIN{p}
	}
	for name, c := range map[string]struct {
		pins   []hsm.VoidPIN
		change func(*hsm.AuthorizeVoid)
		want   fault.Reason
	}{
		"no PIN":                                {nil, nil, fault.RequestInvalid},
		"three PINs":                            {[]hsm.VoidPIN{good(), good(), good()}, nil, fault.RequestInvalid},
		"a supervisor twice":                    {[]hsm.VoidPIN{good(), good()}, nil, fault.RequestInvalid},
		"nobody's PIN":                          {with(func(p *hsm.VoidPIN) { p.Record = nil }), nil, fault.RequestInvalid},
		"a short MAC":                           {with(func(p *hsm.VoidPIN) { p.MAC = p.MAC[:7] }), nil, fault.RequestInvalid},
		"no amount":                             {[]hsm.VoidPIN{good()}, func(r *hsm.AuthorizeVoid) { r.Fields.Amount = 0 }, fault.RequestInvalid},
		"expired":                               {[]hsm.VoidPIN{good()}, func(r *hsm.AuthorizeVoid) { r.ExpiresAt = b.now.Unix() }, fault.RequestInvalid},
		"for two days":                          {[]hsm.VoidPIN{good()}, func(r *hsm.AuthorizeVoid) { r.ExpiresAt = b.now.Add(48 * time.Hour).Unix() }, fault.RequestInvalid},
		"another terminal's supervisor":         {[]hsm.VoidPIN{b.bySupervisor(b.aes.enter(ofOther.Number(), "739104").void(f), terminals)}, nil, fault.RequestInvalid},
		"another merchant's supervisor":         {[]hsm.VoidPIN{b.bySupervisor(b.aes.enter(foreign.Number(), "739104").void(f), set.Record)}, nil, fault.RequestInvalid},
		"a dead record":                         {[]hsm.VoidPIN{b.bySupervisor(b.aes.enter(rita.Number(), "739104").void(f), revoked)}, nil, fault.PINRecordEnded},
		"an altered record":                     {[]hsm.VoidPIN{b.bySupervisor(b.aes.enter(rita.Number(), "739104").void(f), bytes.Replace(revoked, []byte(`"version":1`), []byte(`"version":9`), 1))}, nil, fault.KeySealInvalid},
		"a record under another name":           {[]hsm.VoidPIN{b.bySupervisor(enter().void(f), bytes.Replace(record, []byte("dora"), []byte("emil"), 1))}, nil, fault.PINBlockInvalid},
		"a cardholder's block for a record":     {[]hsm.VoidPIN{b.bySupervisor(b.cards.enter(dora.Number(), "739104").void(f), record)}, nil, fault.KeyUsageMismatch},
		"a supervisor's block for a cardholder": {[]hsm.VoidPIN{b.byCardholder(b.aes.enter(cardPAN, "4321").void(f), pvv)}, nil, fault.KeyUsageMismatch},
		"the MAC of another transaction": {with(func(p *hsm.VoidPIN) {
			next := enter().void(f)
			p.MACKey, p.MAC = next.MACKey, next.MAC
		}), nil, fault.KeyUsageMismatch},
		"the MAC of another BDK": {with(func(p *hsm.VoidPIN) { p.MACKey.Key = b.key("cards", 1) }), nil, fault.KeyUsageMismatch},
		"the host's MAC":         {with(func(p *hsm.VoidPIN) { p.MACKey.Response = true }), nil, fault.KeyUsageMismatch},
		"a static MAC key":       {with(func(p *hsm.VoidPIN) { p.MACKey = hsm.MACKey{Key: b.key("mac", 1), Algorithm: hsm.CMAC, Padding: 1} }), nil, fault.KeyUsageMismatch},
		"a token by no key pair": {[]hsm.VoidPIN{good()}, func(r *hsm.AuthorizeVoid) { r.TokenKey = b.key("datum", 1) }, fault.KeyUsageMismatch},
		"a token by P-521":       {[]hsm.VoidPIN{good()}, func(r *hsm.AuthorizeVoid) { r.TokenKey = b.key("host", 1) }, fault.KeyUsageMismatch},
		"a renamed token key":    {[]hsm.VoidPIN{good()}, func(r *hsm.AuthorizeVoid) { r.TokenKey.Name = "other" }, fault.KeySealInvalid},
		"a KSN that was used":    {[]hsm.VoidPIN{good()}, func(r *hsm.AuthorizeVoid) { r.KSNRefused = true }, fault.KSNReplayed},
	} {
		if _, err := b.authorize(f, c.change, c.pins...); fault.Of(err).Reason != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	for range triesADay {
		answer, err := b.authorize(f, nil, good())
		b.expect("after all that", answer.Verified, err, true)
	}
	_, err = b.authorize(f, nil, good())
	b.refused(err, fault.RateLimited)
	// A key pair that officers stop signs no more, though it was in use.
	b.must(b.through(&ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "token", Version: 1}, ValidFor: 3600}))
	_, err = b.authorize(f, nil, good())
	b.refused(err, fault.KeyDisabled)
	// The same tries are those of the record itself.
	_, err = b.verify(record, enter().RecordBlock)
	b.refused(err, fault.RateLimited)
}

// With keys that are not DUKPT's the terminal's MAC has the block, too, and is good for nothing else.
func TestVoidsUnderSessionKeys(t *testing.T) {
	b := newBank(t)
	at := b.seated()
	dora := supervisor("dora")
	record := b.enrolled(dora, b.aes, "739104")
	f := voidFields8()
	digest, err := f.Digest()
	b.must(err)
	block := func(pin string) []byte { return at.block(dora.Number(), pin) }
	pin := func(block, mac []byte) hsm.VoidPIN { return at.pin(block, mac, record) }
	right, wrong := block("739104"), block("739105")
	answer, err := b.authorize(f, nil, pin(right, b.mac("A", at.mac, pinrecord.Bound(digest, right, false))))
	b.expect("bound", answer.Verified, err, true)
	b.good("bound", answer.Token, f, "token", voidtoken.SupervisorPIN)
	answer, err = b.authorize(f, nil, pin(right, b.mac("A", at.mac, digest[:])))
	b.expect("the digest alone", answer.Verified, err, false)
	answer, err = b.authorize(f, nil, pin(right, b.mac("A", at.mac, pinrecord.Bound(digest, wrong, false))))
	b.expect("of another block", answer.Verified, err, false)
	elsewhere := f
	elsewhere.Terminal = "t-2"
	digest2, err := elsewhere.Digest()
	b.must(err)
	_, err = b.authorize(elsewhere, nil, pin(right, b.mac("A", at.mac, pinrecord.Bound(digest2, right, false))))
	b.refused(err, fault.KeyUsageMismatch)
}

// An approver elsewhere has a void authorised by a signature.
func TestVoidsAreApprovedElsewhere(t *testing.T) {
	b := newBank(t)
	f := voidFields8()
	other := f
	other.Amount++
	sign := func(by *holder, f voidtoken.Fields, end time.Time) hsm.Approval {
		digest, err := f.Digest()
		b.must(err)
		s, err := pinrecord.SignVoid(by.key, [][]byte{by.cert.Raw}, digest, end.Unix())
		b.must(err)
		return hsm.Approval(s)
	}
	approve := func(a hsm.Approval, change func(*hsm.ApproveVoid)) (string, error) {
		r := hsm.ApproveVoid{Fields: f, ExpiresAt: b.now.Add(5 * time.Minute).Unix(), Approval: a, TokenKey: b.key("token", 1)}
		if change != nil {
			change(&r)
		}
		text, err := b.client.ApproveVoid(t.Context(), r)
		if err != nil && text != "" {
			t.Error("a token comes with an error")
		}
		return text, err
	}
	soon := b.now.Add(time.Hour)
	for _, by := range []*holder{b.anna, b.claire} {
		text, err := approve(sign(by, f, soon), nil)
		b.must(err)
		if got := b.good("approved", text, f, "token", voidtoken.RemoteApproval); got.Authorizations[0].Subject != "anna" && got.Authorizations[0].Subject != "claire" {
			t.Errorf("%+v", got)
		}
	}
	for name, c := range map[string]struct {
		approval hsm.Approval
		change   func(*hsm.ApproveVoid)
		want     fault.Reason
	}{
		"another void":                {sign(b.anna, other, soon), nil, fault.ApprovalInvalid},
		"another void, asked for":     {sign(b.anna, f, soon), func(r *hsm.ApproveVoid) { r.Fields = other }, fault.ApprovalInvalid},
		"another merchant's approver": {sign(b.approver("/merchants/merchant-9/fred"), f, soon), nil, fault.ApprovalInvalid},
		"expired":                     {sign(b.anna, f, b.now), nil, fault.ApprovalInvalid},
		"a stranger":                  {sign(b.issue(nil, "eve", elliptic.P256(), b.named("/approvers/eve")), f, soon), nil, fault.CertificateUntrusted},
		"an approval of a PIN":        {b.approved(b.approval(pinrecord.Reset, supervisor("dora"), 1), b.anna)[0], nil, fault.ApprovalInvalid},
		"by a key that signs none":    {sign(b.anna, f, soon), func(r *hsm.ApproveVoid) { r.TokenKey = b.key("host", 1) }, fault.KeyUsageMismatch},
		"for two days":                {sign(b.anna, f, soon), func(r *hsm.ApproveVoid) { r.ExpiresAt = b.now.Add(48 * time.Hour).Unix() }, fault.RequestInvalid},
	} {
		if _, err := approve(c.approval, c.change); fault.Of(err).Reason != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// Codes are signed as package voids/code reads them, and nothing else by that operation.
func TestCodesAreSigned(t *testing.T) {
	b := newBank(t)
	audience, err := code.AudienceOf("merchant-8")
	b.must(err)
	c := code.Code{Identifier: code.NewIdentifier(), Expiry: b.now.Add(time.Minute), Audience: audience}
	ask := func(change func(*hsm.SignCode)) ([]byte, error) {
		r := hsm.SignCode{Identifier: c.Identifier, ExpiresAt: c.Expiry.Unix(), Audience: c.Audience, Key: b.key("code", 1)}
		if change != nil {
			change(&r)
		}
		return b.client.SignCode(t.Context(), r)
	}
	payload, err := code.Sign(b.public("code"), func([]byte) ([]byte, error) { return ask(nil) }, c)
	b.must(err)
	keys, err := code.NewKeys(b.public("code"))
	b.must(err)
	got, err := payload.Verify(keys, audience, b.now, 0)
	if err != nil || got.Identifier != c.Identifier {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := code.Sign(b.public("code"), func([]byte) ([]byte, error) {
		return ask(func(r *hsm.SignCode) { r.Identifier[0] ^= 1 })
	}, c); !errors.Is(err, code.ErrSigner) {
		t.Errorf("a signature over another code: %v", err)
	}
	for name, x := range map[string]struct {
		change func(*hsm.SignCode)
		want   fault.Reason
	}{
		"no identifier": {func(r *hsm.SignCode) { r.Identifier = [16]byte{} }, fault.RequestInvalid},
		"expired":       {func(r *hsm.SignCode) { r.ExpiresAt = b.now.Unix() }, fault.RequestInvalid},
		"for an hour":   {func(r *hsm.SignCode) { r.ExpiresAt = b.now.Add(time.Hour).Unix() }, fault.RequestInvalid},
		"on P-384":      {func(r *hsm.SignCode) { r.Key = b.key("token", 1) }, fault.KeyUsageMismatch},
		"by no pair":    {func(r *hsm.SignCode) { r.Key = b.key("datum", 1) }, fault.KeyUsageMismatch},
	} {
		if _, err := ask(x.change); fault.Of(err).Reason != x.want {
			t.Errorf("%s: %v, want %s", name, err, x.want)
		}
	}
}
