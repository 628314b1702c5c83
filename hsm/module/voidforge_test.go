package module

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keyagreement"
	"keyd/pinrecord"
	"keyd/voids/code"
	"keyd/voidtoken"
)

// counterfeit is a void that nobody has typed a PIN for.
func counterfeit() voidtoken.Fields {
	f := voidFields8()
	f.Void, f.Amount = "ffeeddccbbaa99887766554433221100", 99999
	return f
}

// seated is a terminal with a session key for MACs, and a key for PINs that is not DUKPT's.
type seated struct {
	b       *bank
	session hsm.Key
	mac     []byte
	pad     hsm.Key
	padKey  []byte
}

func (b *bank) seated() *seated {
	b.t.Helper()
	load := loading(&ceremony.KeySpec{Name: "pad", Version: 1, Usage: "P0", Algorithm: "A", Length: 16, Mode: "D", Exportability: "N", Direction: hsm.DirectionIncoming, Formats: []hsm.Format{hsm.Format4}, PINKind: hsm.PINRecord})
	load.ValidFor = 3600
	b.must(b.through(load, cardComponentB, componentA))
	tm := b.factory.begin(b.device(elliptic.P256()), keyagreement.P256, b.issuer.cert)
	got, err := b.inject(tm.Request(), nil)
	b.must(err)
	h := b.agreed(tm, keyagreement.P256, got)
	session, err := b.client.MakeSessionKeys(b.t.Context(), h.master(), []hsm.SessionKeySpec{{Name: "mac", Usage: "M6", Algorithm: "A", Length: 16, Version: 1, NotAfter: b.now.Add(time.Hour).Unix()}})
	b.must(err)
	_, mac := b.opened("A", h.values[0], session[0].KeyBlock)
	return &seated{b, hsm.Key{Name: "terminal:t-1:mac", Sealed: session[0].Sealed}, mac, b.key("pad", 1), xor(b.t, cardComponentB, componentA)}
}

func (s *seated) block(number, pin string) []byte {
	return s.b.seal(hsm.Format4, s.padKey, number, []byte(pin))
}

func (s *seated) pin(block, mac, record []byte) hsm.VoidPIN {
	return s.b.bySupervisor(hsm.VoidPIN{
		Key: hsm.PINKey{Key: s.pad, Format: hsm.Format4}, Block: block, MACKey: hsm.MACKey{Key: s.session, Algorithm: hsm.CMAC, Padding: 1}, MAC: mac,
	}, record)
}

// A front that has a PIN block of a terminal's has no module make the MAC with which it would be
// good for a void of the front's own.
func TestNoModuleMakesTheMACOfAVoid(t *testing.T) {
	b := newBank(t)
	dora := supervisor("dora")
	record := b.enrolled(dora, b.aes, "739104")
	forged := counterfeit()
	digest, err := forged.Digest()
	b.must(err)

	t.Run("session keys", func(t *testing.T) {
		s := b.seated()
		block := s.block(dora.Number(), "739104")
		message := pinrecord.Bound(digest, block, false)
		made, err := b.client.GenerateMAC(t.Context(), hsm.GenerateMAC{Key: hsm.MACKey{Key: s.session, Algorithm: hsm.CMAC, Padding: 1}, Message: message})
		if fault.Of(err).Reason != fault.KeyUsageMismatch || made.MAC != nil {
			t.Errorf("a module makes it: %v", err)
		}
		// What it does make, over anything else that has the same digest and block, is no MAC of the void's.
		for name, other := range map[string][]byte{"without the prefix": append(digest[:], block...), "behind something": append([]byte{0}, message...), "a part": message[:len(pinrecord.MACPrefix)-1]} {
			made, err := b.client.GenerateMAC(t.Context(), hsm.GenerateMAC{Key: hsm.MACKey{Key: s.session, Algorithm: hsm.CMAC, Padding: 1}, Message: other})
			b.must(err)
			answer, err := b.authorize(forged, nil, s.pin(block, made.MAC, record))
			b.expect(name, answer.Verified, err, false)
		}
		// The terminal makes it, for one void and one block.
		answer, err := b.authorize(forged, nil, s.pin(block, b.mac("A", s.mac, message), record))
		b.expect("the terminal's", answer.Verified, err, true)
		// With ISO 9797-1 a MAC over something else could be one over the void as well.
		p := s.pin(block, b.mac("A", s.mac, message), record)
		p.MACKey.Algorithm = hsm.MACAlgorithm3
		_, err = b.authorize(forged, nil, p)
		b.refused(err, fault.KeyUsageMismatch)
	})
	t.Run("DUKPT", func(t *testing.T) {
		typed := b.aes.enter(dora.Number(), "739104")
		_, err := b.client.GenerateMAC(t.Context(), hsm.GenerateMAC{Key: hsm.MACKey{Key: typed.Key.Key, KSN: typed.Key.KSN, Algorithm: hsm.CMAC, Padding: 1}, Message: digest[:]})
		b.refused(err, fault.KeyUsageMismatch)
		// A response's is of another key.
		made, err := b.client.GenerateMAC(t.Context(), hsm.GenerateMAC{Key: hsm.MACKey{Key: typed.Key.Key, KSN: typed.Key.KSN, Algorithm: hsm.CMAC, Padding: 1, Response: true}, Message: digest[:]})
		b.must(err)
		p := typed.void(forged)
		p.MAC = made.MAC
		answer, err := b.authorize(forged, nil, b.bySupervisor(p, record))
		b.expect("a response's", answer.Verified, err, false)
	})
	t.Run("a BDK both ways", func(t *testing.T) { // of cards: officers can have none that is so for records
		load := loading(b.bdk("both", "A", 16, func(k *ceremony.KeySpec) {
			k.InjectionHosts, k.Formats, k.Direction, k.Peers = nil, []hsm.Format{hsm.Format4}, hsm.DirectionBoth, []string{"*"}
		}))
		load.ValidFor = 3600
		const component = "92A4C6E8F00B1D2F31435567798BADCE"
		b.must(b.through(load, component, componentA))
		typed := b.pad("both", "A", xor(t, component, componentA)).enter(cardPAN, "4321")
		made, err := b.client.GenerateMAC(t.Context(), hsm.GenerateMAC{Key: hsm.MACKey{Key: typed.Key.Key, KSN: typed.Key.KSN, Algorithm: hsm.CMAC, Padding: 1}, Message: digest[:]})
		b.must(err)
		p := typed.void(forged)
		p.MAC = made.MAC
		_, err = b.authorize(forged, nil, b.byCardholder(p, b.pvv("4321")))
		b.refused(err, fault.KeyUsageMismatch)
	})
}

// What is signed of a void begins with what it is: a key pair that signs tokens and codes, which
// officers can want, makes no token of a code and no code of a token.
func TestCodesAndTokensAreNotEachOther(t *testing.T) {
	b := newBank(t)
	f := voidFields8()
	dora := supervisor("dora")
	record := b.enrolled(dora, b.aes, "739104")
	answer, err := b.authorize(f, func(r *hsm.AuthorizeVoid) { r.TokenKey = b.key("code", 1) }, b.bySupervisor(b.aes.enter(dora.Number(), "739104").void(f), record))
	b.expect("a token by the pair of codes", answer.Verified, err, true)
	first, second, _ := strings.Cut(answer.Token, ".")
	encoded, err := base64.RawURLEncoding.DecodeString(first)
	b.must(err)
	ofToken, err := base64.RawURLEncoding.DecodeString(second)
	b.must(err)
	audience, err := code.AudienceOf("merchant-8")
	b.must(err)
	c := code.Code{Identifier: code.NewIdentifier(), Expiry: b.now.Add(time.Minute), Audience: audience}
	var raw []byte
	payload, err := code.Sign(b.public("code"), func([]byte) (signature []byte, err error) {
		raw, err = b.client.SignCode(t.Context(), hsm.SignCode{Identifier: c.Identifier, ExpiresAt: c.Expiry.Unix(), Audience: c.Audience, Key: b.key("code", 1)})
		return raw, err
	}, c)
	b.must(err)
	head := payload.Bytes()[:code.LiveSize-64]
	for name, x := range map[string]struct {
		signature []byte
		message   string
		good      bool
	}{
		"a token":             {ofToken, "keyd void token 1\x00" + string(encoded), true},
		"a code":              {raw, "keyd void code 1\x00" + string(head), true},
		"a token as a code":   {ofToken, "keyd void code 1\x00" + string(encoded), false},
		"a token, bare":       {ofToken, string(encoded), false},
		"a code as a token":   {raw, "keyd void token 1\x00" + string(head), false},
		"a code, bare":        {raw, string(head), false},
		"a code as paper":     {raw, "keyd void code 1\x00" + string(head[0]) + "\x02" + string(head[6:]), false},
		"a key's answer":      {raw, "keyd key agreement answer 1\x00" + string(head), false},
		"a longer life":       {raw, "keyd void code 1\x00" + string(head[:22]) + "\xff" + string(head[23:]), false},
		"another merchant's":  {raw, "keyd void code 1\x00" + string(head[:26]) + "\xff" + string(head[27:]), false},
		"a token of a slip's": {ofToken, "keyd void token 1\x00" + string(head), false},
	} {
		digest := sha256.Sum256([]byte(x.message))
		if ecdsa.VerifyASN1(b.public("code"), digest[:], x.signature) != x.good {
			t.Errorf("%s: it verifies: %t", name, !x.good)
		}
	}
	// Nor is a code's signature where a token's is due, nor the other way round.
	known, err := voidtoken.NewKeys(b.public("code"))
	b.must(err)
	if _, err := voidtoken.Verify(first+"."+base64.RawURLEncoding.EncodeToString(raw), known, voidtoken.Expected{Fields: f, Methods: [][]voidtoken.Method{{voidtoken.SupervisorPIN}}}, b.now); err == nil {
		t.Error("a code's signature makes a token")
	}
}
